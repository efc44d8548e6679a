"""What unroll leaves alone, what it hands back to go on from, and its equality with torch's own
training."""

import copy

import pytest
import torch
import torch.nn.functional as F
from inner_cases import DTYPE, assert_same, case

from datadistill.innerloop import (
    FullUnroll,
    Higher,
    StepReplay,
    Truncated,
    adam,
    momentum,
    sgd,
    unroll,
)

ADJOINTS = [FullUnroll(), StepReplay(), Truncated(1), Truncated(2, StepReplay()), Higher()]
UPDATES = [sgd(0.1), momentum(0.9, True, 0.1), adam(eps_root=1e-8)]


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=repr)
@pytest.mark.parametrize("name", ["groupnorm", "batchnorm", "dropout"])
def test_no_grad_keeps_no_graph(adjoint, name):
    problem = case(name)
    expected = problem.theta_T(stream=0)
    with torch.no_grad():
        theta_T = problem.theta_T(adjoint=adjoint, stream=0)
    for k, p in theta_T.items():
        assert not p.requires_grad and p.grad_fn is None
        torch.testing.assert_close(p, expected[k].detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=repr)
@pytest.mark.parametrize("norm", ["batch", "frozen", "track"])
@pytest.mark.parametrize("training", [True, False])
def test_the_net_and_the_arguments_stay_as_they_were(adjoint, norm, training):
    if norm == "track" and isinstance(adjoint, Higher):
        pytest.skip("the higher engine carries no buffers")
    problem = case("batchnorm")
    problem.net.train(training)
    problem.net.norm2.eval()
    before = copy.deepcopy(problem.net.state_dict())
    inputs = {k: x.detach().clone() for k, x in problem.inputs.items()}
    flags = [m.training for m in problem.net.modules()]
    tracked = [getattr(m, "track_running_stats", None) for m in problem.net.modules()]
    modules = list(map(id, problem.net.modules()))
    random_state = torch.get_rng_state()

    problem.gradients(adjoint=adjoint, norm=norm)

    after = problem.net.state_dict()
    assert after.keys() == before.keys() and all(
        torch.equal(after[k], x) for k, x in before.items()
    )
    assert all(p.grad is None and p.requires_grad for p in problem.net.parameters())
    assert [m.training for m in problem.net.modules()] == flags
    assert [getattr(m, "track_running_stats", None) for m in problem.net.modules()] == tracked
    assert list(map(id, problem.net.modules())) == modules
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(problem.inputs[k], x) for k, x in inputs.items())


def test_dropout_with_a_stream_spares_the_global_generator():
    problem = case("dropout")
    before = torch.get_rng_state()
    problem.gradients(adjoint=StepReplay(), stream=4)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("adjoint", [FullUnroll(), StepReplay()], ids=repr)
@pytest.mark.parametrize("update", UPDATES, ids=lambda u: type(u).__name__)
@pytest.mark.parametrize("norm", ["batch", "track"])
def test_two_and_two_steps_are_four(update, adjoint, norm):
    problem = case("batchnorm", T=4, eta=0.05)
    etas, pairs = problem.inputs["step_sizes"], problem.pairs()
    how = {"update": update, "adjoint": adjoint, "norm": norm, "return_state": True}
    whole, *rest = problem.theta_T(**how)
    theta_2, state, *buffers = unroll(problem.net, problem.theta_0(), pairs[:2], etas[:2], **how)
    buffers = {"buffers": buffers[0]} if norm == "track" else {}
    parts, *rest_of_parts = unroll(
        problem.net, theta_2, pairs[2:], etas[2:], state=state, **buffers, **how
    )
    for k, p in whole.items():
        torch.testing.assert_close(parts[k], p, rtol=1e-12, atol=1e-13)
    if norm == "track":
        torch.testing.assert_close(rest_of_parts[1], rest[1], rtol=1e-12, atol=1e-13)
    assert_same(problem.gradients_of(parts), problem.gradients_of(whole), 1e-8)


def test_higher_returns_the_velocity_to_go_on_from():
    problem = case("groupnorm")
    _, expected = problem.theta_T(update=momentum(0.9), return_state=True)
    _, found = problem.theta_T(update=momentum(0.9), adjoint=Higher(), return_state=True)
    for k, v in expected["v"].items():
        torch.testing.assert_close(found["v"][k], v, rtol=1e-12, atol=1e-14)


def plain_training(problem, make):
    """torch's own loop on a copy of the net: the trained copy."""
    net = copy.deepcopy(problem.net).train()
    optimizer = make([{"params": [p]} for p in net.parameters()])
    for (images, labels), eta in zip(
        problem.pairs(), problem.inputs["step_sizes"].detach(), strict=True
    ):
        rates = eta.tolist() if eta.dim() else [float(eta)] * len(optimizer.param_groups)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        optimizer.zero_grad()
        F.cross_entropy(net(images.detach()), labels.detach()).backward()
        optimizer.step()
    return net


TORCH = {
    "sgd": (sgd(), lambda g: torch.optim.SGD(g)),
    "decay": (sgd(0.1), lambda g: torch.optim.SGD(g, weight_decay=0.1)),
    "momentum": (
        momentum(0.9, weight_decay=0.1),
        lambda g: torch.optim.SGD(g, momentum=0.9, weight_decay=0.1),
    ),
    "nesterov": (momentum(0.7, True), lambda g: torch.optim.SGD(g, momentum=0.7, nesterov=True)),
    "adam": (adam(0.8, 0.9, 1e-6, 0.0), lambda g: torch.optim.Adam(g, betas=(0.8, 0.9), eps=1e-6)),
}


@pytest.mark.parametrize("rule", TORCH)
@pytest.mark.parametrize("per_tensor", [False, True], ids=["T", "TxP"])
def test_rules_and_tracked_buffers_equal_torch_training(rule, per_tensor):
    update, make = TORCH[rule]
    problem = case("batchnorm", T=5, per_tensor=per_tensor, eta=0.05)
    net = plain_training(problem, make)
    with torch.no_grad():
        theta_T, _, buffers = problem.theta_T(update=update, norm="track", return_state=True)
    for k, p in theta_T.items():
        torch.testing.assert_close(p, net.get_parameter(k).detach(), rtol=1e-9, atol=1e-9)
    own = dict(net.named_buffers())
    assert buffers.keys() == own.keys() and buffers["norm1.num_batches_tracked"] == 5
    for k, b in buffers.items():
        torch.testing.assert_close(b, own[k], rtol=1e-9, atol=1e-9)


def test_given_buffers_replace_the_nets_own():
    problem = case("batchnorm")
    other = {"norm1.running_var": torch.full((3,), 4.0, dtype=DTYPE)}
    given = problem.theta_T(norm="frozen", buffers=other)
    own = problem.theta_T(norm="frozen")
    problem.net.norm1.running_var.fill_(4.0)
    expected = problem.theta_T(norm="frozen")
    assert all(torch.equal(given[k], p) for k, p in expected.items())
    assert not torch.equal(given["head.weight"], own["head.weight"])
