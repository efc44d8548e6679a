"""Every exact adjoint gives the same theta_T and the same gradient, for every rule, net and
mode."""

import pytest
import torch
from inner_cases import assert_same, case
from torch import nn

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
from datadistill.innerloop.update_rules import rate

EXACT = [StepReplay(), Truncated(3), Truncated(50), Truncated(3, StepReplay()), Higher()]


class RmsProp:
    """A rule of a user's own, with a nested state: averages of squares, an integer count, a fixed
    string."""

    def init(self, theta):
        zeros = {k: torch.zeros_like(p) for k, p in theta.items()}
        return {"squares": (zeros,), "count": torch.tensor(0), "label": "rms"}

    def step(self, theta, grads, state, eta):
        (old,) = state["squares"]
        squares = {k: 0.9 * old[k] + 0.1 * g * g for k, g in grads.items()}
        theta = {
            k: p - rate(eta, k) * grads[k] / (squares[k] + 1e-2).sqrt() for k, p in theta.items()
        }
        return theta, {"squares": (squares,), "count": state["count"] + 1, "label": "rms"}


RULES = {
    "sgd": sgd(),
    "sgd, decay": sgd(0.05),
    "momentum": momentum(0.9),
    "nesterov": momentum(0.8, nesterov=True, weight_decay=0.01),
    # a bias before a normalization has a gradient of rounding only, which Adam magnifies by 1 /
    # sqrt(eps_root)
    "adam": adam(eps_root=1e-8),
    "user's own": RmsProp(),
}


def agree(problem, adjoints, **how):
    reference = problem.theta_T(**how)
    expected = problem.gradients_of(reference)
    for adjoint in adjoints:
        theta_T = problem.theta_T(adjoint=adjoint, **how)
        for k, x in reference.items():
            torch.testing.assert_close(theta_T[k], x, rtol=1e-13, atol=1e-13)
        assert_same(problem.gradients_of(theta_T), expected, 1e-8)


def possible(rule):
    return EXACT if rule in ("sgd", "sgd, decay", "momentum", "nesterov") else EXACT[:-1]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("per_tensor", [False, True], ids=["T", "TxP"])
def test_rules(rule, per_tensor):
    problem = case("groupnorm", per_tensor=per_tensor, eta=0.05)
    agree(problem, possible(rule), update=RULES[rule])


@pytest.mark.parametrize("update", [momentum(0.9), adam()], ids=lambda u: type(u).__name__)
def test_lenet(update):
    agree(case("lenet", T=3, eta=0.02), EXACT[:-1], update=update)


@pytest.mark.parametrize("norm", ["batch", "frozen", "track"])
@pytest.mark.parametrize("rule", ["nesterov", "adam"])
@pytest.mark.parametrize("training", [True, False])
def test_batchnorm(norm, rule, training):
    problem = case("batchnorm", eta=0.05)
    problem.net.train(training)
    with torch.no_grad():
        problem.net.norm1.running_mean += 0.3
        problem.net.norm2.running_var *= 2.0
    agree(problem, EXACT[:-1] if norm == "track" else possible(rule), update=RULES[rule], norm=norm)


@pytest.mark.parametrize("rule", ["sgd", "momentum", "user's own"])
def test_dropout(rule):
    problem = case("dropout")
    agree(problem, possible(rule), update=RULES[rule], stream=11)


def test_dropout_masks_follow_the_stream_and_the_step():
    problem, masks = case("dropout"), []
    problem.net.dropout.register_forward_hook(
        lambda module, given, output: masks.append(output == 0)
    )
    for stream in (1, 1, 2):
        problem.theta_T(stream=stream)
    assert all(0 < mask.sum() < mask.numel() for mask in masks) and len(masks) == 9
    different = {tuple(mask.flatten().tolist()) for mask in masks}
    assert len(different) == 6  # three steps of two streams
    assert all(torch.equal(a, b) for a, b in zip(masks[:3], masks[3:6], strict=True))


@pytest.mark.parametrize("norm", ["batch", "frozen", "track"])
def test_norm_says_what_batchnorm_does_whatever_the_nets_mode(norm):
    problem = case("batchnorm")
    with torch.no_grad():
        problem.net.norm1.running_mean += 0.3
    in_training = problem.theta_T(norm=norm)
    problem.net.eval()
    in_evaluation = problem.theta_T(norm=norm)
    torch.testing.assert_close(in_training, in_evaluation, rtol=1e-12, atol=1e-13)
    batch = problem.theta_T(norm="batch")
    assert torch.allclose(batch["head.weight"], in_training["head.weight"], rtol=1e-12) == (
        norm != "frozen"
    )


def test_dropout_without_a_stream_follows_the_global_generator():
    problem = case("dropout")
    results = []
    for seed, adjoint in [(0, FullUnroll()), (0, StepReplay()), (1, StepReplay())]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            results.append(problem.gradients(adjoint=adjoint))
    assert_same(results[1], results[0], 1e-8)
    with pytest.raises(AssertionError, match="differs by"):
        assert_same(results[2], results[0], 1e-3)


class Annealed(nn.Module):
    """A net whose output depends on a buffer that every forward pass changes."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.bn = nn.BatchNorm2d(1)
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        self.calls += 1
        return self.net(self.bn(x)) / self.calls


def test_buffers_that_matter_are_carried_through_the_steps():
    problem = case("groupnorm")
    net = Annealed(problem.net).double()
    theta_0 = {f"net.{k}": p for k, p in problem.theta_0().items()}
    results = []
    for adjoint in (FullUnroll(), StepReplay(), Truncated(2, StepReplay())):
        arguments = (net, theta_0, problem.pairs(), problem.inputs["step_sizes"], sgd(), adjoint)
        theta_T, _, buffers = unroll(*arguments, norm="track", return_state=True)
        assert buffers["calls"] == 3 and net.calls == 0
        total = sum(p.square().sum() for p in theta_T.values())
        results.append(torch.autograd.grad(total, [problem.inputs[f"images.{t}"] for t in (1, 2)]))
    for found in results[1:]:
        for g, expected in zip(found, results[0], strict=True):
            torch.testing.assert_close(g, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("adjoint", [StepReplay(), Truncated(5, StepReplay())], ids=repr)
def test_only_what_is_wanted_is_differentiated(adjoint):
    problem = case("groupnorm")
    expected = problem.gradients()
    for wanted in ("images.1", "labels.0", "step_sizes", "theta_0.conv2.weight"):
        alone = {k: x if k == wanted else x.detach() for k, x in problem.inputs.items()}
        outer = problem.outer(problem.theta_T(alone, adjoint=adjoint))
        (found,) = torch.autograd.grad(outer, [alone[wanted]])
        torch.testing.assert_close(found, expected[wanted], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("adjoint", [FullUnroll(), *EXACT], ids=repr)
def test_no_steps_at_all(adjoint):
    problem = case("groupnorm", T=0)
    theta_T = problem.theta_T(adjoint=adjoint)
    outer = problem.outer(theta_T)
    names = [k for k in problem.inputs if k.startswith("theta_0.")]
    found = torch.autograd.grad(outer, [problem.inputs[k] for k in names])
    expected = torch.autograd.grad(
        problem.outer(problem.theta_0()), [problem.inputs[k] for k in names]
    )
    assert all(torch.equal(f, e) for f, e in zip(found, expected, strict=True))


def test_full_unroll_alone_is_differentiable_twice():
    problem = case("groupnorm", T=2)
    x = problem.inputs["images.0"]

    def first(adjoint):
        outer = problem.outer(problem.theta_T(adjoint=adjoint))
        return torch.autograd.grad(outer, x, create_graph=True)[0]

    second = torch.autograd.grad(first(FullUnroll()).square().sum(), x)[0]
    assert second.abs().max() > 0
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first(StepReplay()).square().sum().backward()
