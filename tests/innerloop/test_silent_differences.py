"""Between unroll and the gradient the world may change: adjoints are right or refuse, never
silently wrong.

FullUnroll takes everything into its graph. StepReplay and Higher look at the net again, so each
test below changes something a step depends on and accepts the gradient of FullUnroll or an error,
and nothing else.
"""

import typing

import pytest
import torch
from inner_cases import DTYPE, case
from torch import nn

from datadistill.errors import UsageError
from datadistill.innerloop import (
    FullUnroll,
    Higher,
    StepReplay,
    Steps,
    Truncated,
    momentum,
    sgd,
    unroll,
)
from datadistill.innerloop.update_rules import rate

REPLAYS = [StepReplay(), Truncated(2, StepReplay())]


def gradient_or_refusal(name, adjoint, meanwhile, wanted="images.2", **how):
    """True when the gradient taken after `meanwhile(problem, theta_T)` is FullUnroll's, or is
    refused."""
    problem = case(name)
    images = problem.inputs[wanted]  # images.2: of the last step, in every window
    (expected,) = torch.autograd.grad(problem.outer(problem.theta_T(**how)), images)
    theta_T = problem.theta_T(adjoint=adjoint, **how)
    outer = problem.outer(theta_T)
    meanwhile(problem, theta_T)
    try:
        (found,) = torch.autograd.grad(outer, images)
    except (RuntimeError, UsageError):
        return True
    return torch.allclose(found, expected, rtol=1e-8, atol=1e-12)


def evaluate_in_place(problem, theta_T):
    problem.net.eval()


def overwrite_theta_0(problem, theta_T):
    with torch.no_grad():
        for k, p in problem.theta_0().items():
            p.copy_(theta_T[k])


def overwrite_buffers(problem, theta_T):
    problem.net.norm1.running_var.mul_(9.0)


@pytest.mark.parametrize("adjoint", REPLAYS, ids=repr)
def test_net_put_into_evaluation_mode(adjoint):
    assert gradient_or_refusal("dropout", adjoint, evaluate_in_place, stream=3)


def test_theta_0_overwritten():
    assert gradient_or_refusal("groupnorm", StepReplay(), overwrite_theta_0, "images.0")


@pytest.mark.parametrize("adjoint", REPLAYS, ids=repr)
def test_buffers_overwritten(adjoint):
    assert gradient_or_refusal("batchnorm", adjoint, overwrite_buffers, norm="frozen")


def test_frozen_parameters_overwritten():
    problem = case("groupnorm")
    inputs = {k: x for k, x in problem.inputs.items() if not k.startswith("theta_0.head")}
    images = inputs["images.0"]
    gradients = []
    for adjoint in (FullUnroll(), StepReplay()):
        theta_T = problem.theta_T(inputs, adjoint=adjoint)
        if isinstance(adjoint, StepReplay):
            with torch.no_grad():
                problem.net.head.weight.mul_(3.0)
        try:
            gradients += torch.autograd.grad(
                sum(p.square().sum() for p in theta_T.values()), images
            )
        except (RuntimeError, UsageError):
            return
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("stream", [5, None])
def test_random_steps_are_noticed_under_a_stream_too(stream):
    problem = case("dropout", T=2)
    base = {k: problem.inputs[k] for k in ("images.0", "labels.0")}
    jitter = Steps(
        base, lambda b, t: (b["images.0"] + torch.randn(1, dtype=DTYPE), b["labels.0"]), 2
    )
    with pytest.raises(UsageError, match="random numbers"), torch.random.fork_rng(devices=[]):
        etas = problem.inputs["step_sizes"]
        unroll(problem.net, problem.theta_0(), jitter, etas, adjoint=StepReplay(), stream=stream)


def test_autocast_is_as_it_was_when_a_step_is_rebuilt():
    problem = case("groupnorm")
    problem.net.float()
    inputs = {k: x.detach().float().requires_grad_() for k, x in problem.inputs.items()}
    seen = []
    problem.net.conv1.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theta_T = problem.theta_T(inputs, adjoint=StepReplay())
    torch.autograd.grad(sum(p.square().sum() for p in theta_T.values()), inputs["images.0"])
    assert seen == [torch.bfloat16] * 6  # three steps, there and back


def test_higher_with_given_buffers():
    problem = case("batchnorm")
    given = {"norm1.running_var": torch.full((3,), 4.0, dtype=DTYPE)}
    expected = problem.theta_T(norm="frozen", buffers=given)
    try:
        found = problem.theta_T(norm="frozen", buffers=given, adjoint=Higher())
    except UsageError:
        return
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_higher_without_steps_returns_a_state():
    problem = case("groupnorm", T=0)
    _, state = problem.theta_T(update=momentum(0.9), adjoint=Higher(), return_state=True)
    assert state.keys() == {"v"}


class WithUnused(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.unused = nn.Linear(64, 4), nn.Linear(2, 2)

    def forward(self, x):
        return self.head(x.flatten(1))


def test_weight_decay_of_an_unused_parameter():
    problem = case("groupnorm", T=2)
    net = WithUnused().to(DTYPE)
    theta_0 = {k: p.detach() for k, p in net.named_parameters()}
    arguments = (net, theta_0, problem.pairs(), problem.inputs["step_sizes"], sgd(0.1))
    found, expected = unroll(*arguments, adjoint=Higher()), unroll(*arguments)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


class Alphabetical:
    """Plain gradient descent that returns the parameters in another order."""

    def init(self, theta):
        return {}

    def step(self, theta, grads, state, eta):
        return {k: theta[k] - rate(eta, k) * grads[k] for k in sorted(theta, reverse=True)}, state


@pytest.mark.parametrize("adjoint", [FullUnroll(), StepReplay()], ids=repr)
def test_a_rule_may_return_theta_in_any_order(adjoint):
    problem = case("groupnorm", per_tensor=True)
    expected = problem.theta_T()
    found = problem.theta_T(update=Alphabetical(), adjoint=adjoint)
    for k, p in expected.items():
        torch.testing.assert_close(found[k], p, rtol=1e-12, atol=1e-14)


def test_dropout_of_probability_zero_draws_nothing():
    problem = case("groupnorm")
    problem.net.dropout = nn.Dropout(0.0)
    before = torch.get_rng_state()
    problem.theta_T()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_bound_hook_sees_the_steps():
    class Tap:
        calls = 0

        def see(self, module, inputs, output):
            self.calls += 1

    problem, tap = case("batchnorm"), Tap()
    problem.net.conv1.register_forward_hook(tap.see)
    problem.theta_T()
    assert tap.calls == 3


def test_the_signature_can_be_read():
    assert "step_sizes" in typing.get_type_hints(unroll)


def test_stacked_nets_drop_what_each_alone_would():
    problem = case("dropout")
    theta_0 = {k: p.detach() for k, p in problem.theta_0().items()}
    etas = problem.inputs["step_sizes"].detach()
    stacked = {k: torch.stack([p, p * 1.1]) for k, p in theta_0.items()}
    both = unroll(problem.net, stacked, problem.pairs(), etas, stream=2)
    alone = unroll(
        problem.net, {k: p[1] for k, p in stacked.items()}, problem.pairs(), etas, stream=2
    )
    for k, p in alone.items():
        torch.testing.assert_close(both[k][1], p, rtol=1e-12, atol=1e-14)


def test_no_steps_return_buffers_of_their_own():
    problem = case("batchnorm", T=0)
    _, _, buffers = problem.theta_T(norm="track", return_state=True)
    buffers["norm1.running_mean"].add_(5.0)
    assert problem.net.norm1.running_mean.abs().max() == 0


def test_outer_loss_leaves_dropout_as_it_was():
    problem = case("dropout")
    problem.outer(problem.theta_0())
    assert problem.net.dropout.p == 0.4
