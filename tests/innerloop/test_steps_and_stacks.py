"""`Steps` equals the list it stands for, stacked nets equal the loop over nets, frozen parameters
stay."""

import pytest
import torch
import torch.nn.functional as F
from inner_cases import DTYPE, assert_same, case

from datadistill.innerloop import (
    FullUnroll,
    StepReplay,
    Steps,
    Truncated,
    adam,
    momentum,
    sgd,
    unroll,
)

ADJOINTS = [FullUnroll(), StepReplay(), Truncated(4), Truncated(4, StepReplay())]
T = 4


def bank(generator):
    """Base tensors of 12 images as mixtures of 5 bases, with logits for labels."""
    tensors = {
        "bases": torch.randn(5, 1, 8, 8, dtype=DTYPE, generator=generator),
        "weights": torch.randn(12, 5, dtype=DTYPE, generator=generator),
        "logits": torch.randn(12, 4, dtype=DTYPE, generator=generator),
    }
    order = [torch.randperm(12, generator=generator)[:4] for _ in range(T)]
    return {k: x.requires_grad_() for k, x in tensors.items()}, order


def step(base, t, order):
    """Minibatch t: mixtures of the bases, labels a softmax, every other batch mirrored."""
    images = torch.einsum("nk,kchw->nchw", base["weights"][order[t]], base["bases"])
    return (images.flip(-1) if t % 2 else images), base["logits"][order[t]].softmax(1)


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=repr)
@pytest.mark.parametrize("update", [sgd(), adam()], ids=lambda u: type(u).__name__)
def test_steps_equal_the_list(adjoint, update, generator):
    problem = case("groupnorm", T=0)
    base, order = bank(generator)
    etas = torch.full((T,), 0.1, dtype=DTYPE, requires_grad=True)

    def gradients(steps):
        theta_T = unroll(problem.net, problem.theta_0(), steps, etas, update, adjoint)
        found = torch.autograd.grad(problem.outer(theta_T), [*base.values(), etas])
        return dict(zip([*base, "etas"], found, strict=True))

    as_list = gradients([step(base, t, order) for t in range(T)])
    as_function = gradients(Steps(base, lambda b, t: step(b, t, order), T))
    assert_same(as_function, as_list, 1e-12)


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=repr)
def test_images_reused_over_epochs_sum_their_gradients(adjoint):
    problem = case("groupnorm", T=2)
    inputs, theta_0 = problem.inputs, problem.theta_0()
    etas = torch.cat([inputs["step_sizes"], inputs["step_sizes"]])
    wanted = [inputs[k] for k in ("images.0", "labels.1")]

    def gradients(pairs):
        theta_T = unroll(problem.net, theta_0, pairs, etas, adjoint=adjoint)
        return torch.autograd.grad(problem.outer(theta_T), wanted)

    pairs = problem.pairs()
    reused = gradients(pairs * 2)
    apart = gradients([*pairs, *[(x * 1, y * 1) for x, y in pairs]])
    for found, expected in zip(reused, apart, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_hard_labels_are_soft_labels_with_one_entry():
    problem = case("groupnorm", T=1)
    images, labels = problem.inputs["images.0"], torch.tensor([3, 0, 1, 1])
    etas = problem.inputs["step_sizes"]
    one_hot = F.one_hot(labels, 4).to(DTYPE)
    hard, soft = (
        unroll(problem.net, problem.theta_0(), [(images, y)], etas) for y in (labels, one_hot)
    )
    for k in hard:
        torch.testing.assert_close(hard[k], soft[k], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("adjoint", [FullUnroll(), StepReplay(), Truncated(2)], ids=repr)
@pytest.mark.parametrize(
    "name, norm",
    [
        ("groupnorm", "batch"),
        ("batchnorm", "batch"),
        ("batchnorm", "frozen"),
        ("batchnorm", "track"),
    ],
)
def test_stacked_nets_equal_the_loop(adjoint, name, norm):
    problem = case(name, per_tensor=True)
    update, inputs = momentum(0.7), problem.inputs
    nets = [
        {k: (p * (1 + 0.1 * n)).detach() for k, p in problem.theta_0().items()} for n in range(3)
    ]
    stacked = {k: torch.stack([n[k] for n in nets]).requires_grad_() for k in nets[0]}
    separate = [{k: p.clone().requires_grad_() for k, p in n.items()} for n in nets]
    shared = [x for k, x in inputs.items() if not k.startswith("theta_0.")]
    how = {"update": update, "adjoint": adjoint, "norm": norm, "return_state": True}

    theta_T, *rest = unroll(problem.net, stacked, problem.pairs(), inputs["step_sizes"], **how)
    assert all(p.shape == (3, *nets[0][k].shape) for k, p in theta_T.items())
    losses = [problem.outer({k: p[n] for k, p in theta_T.items()}) for n in range(3)]
    found = torch.autograd.grad(sum(losses), [*shared, *stacked.values()])

    alone = [unroll(problem.net, n, problem.pairs(), inputs["step_sizes"], **how) for n in separate]
    total = sum(problem.outer(a[0]) for a in alone)
    expected = torch.autograd.grad(total, [*shared, *(n[k] for k in stacked for n in separate)])
    rows = expected[len(shared) :]
    expected = [
        *expected[: len(shared)],
        *(torch.stack(rows[3 * i : 3 * i + 3]) for i in range(len(stacked))),
    ]
    for k, p in theta_T.items():
        torch.testing.assert_close(p, torch.stack([a[0][k] for a in alone]), rtol=1e-12, atol=1e-13)
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-9, atol=1e-11)
    if norm == "track":
        for k, b in rest[1].items():
            torch.testing.assert_close(b, torch.stack([a[2][k] for a in alone]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=repr)
def test_parameters_absent_from_theta_0_are_frozen(adjoint):
    problem = case("groupnorm", eta=0.2)
    inputs = {k: x for k, x in problem.inputs.items() if not k.startswith("theta_0.conv1")}
    theta_T = problem.theta_T(inputs, adjoint=adjoint)
    assert list(theta_T) == list(problem.theta_0(inputs))
    sum(p.square().sum() for p in theta_T.values()).backward()
    assert all(p.grad is None for p in problem.net.parameters())

    # the plain loop of torch with those two parameters frozen
    for name, p in problem.net.named_parameters():
        p.requires_grad_(not name.startswith("conv1"))
    before = problem.net.conv1.weight.clone()
    optimizer = torch.optim.SGD([p for p in problem.net.parameters() if p.requires_grad])
    for (images, labels), eta in zip(problem.pairs(), inputs["step_sizes"], strict=True):
        optimizer.param_groups[0]["lr"] = float(eta)
        optimizer.zero_grad()
        F.cross_entropy(problem.net(images.detach()), labels.detach()).backward()
        optimizer.step()
    assert torch.equal(problem.net.conv1.weight, before)
    for k, p in theta_T.items():
        torch.testing.assert_close(p, problem.net.get_parameter(k), rtol=1e-12, atol=1e-14)
