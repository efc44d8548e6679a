"""The gradient that the outer loop hands to Adam, against finite differences and against itself."""

import pytest
import torch
from torch import nn
from training_cases import CONVNET, config, loop, to_double

from datadistill.innerloop import Auto, Higher, StepReplay, Truncated
from datadistill.starts import Fixed
from datadistill.training.learning_from_config import adjoint_of

CASES = {
    "random, soft, per-tensor, momentum": {
        "labels": "soft",
        "step_sizes": "per-tensor",
        "update": "momentum",
        "update_args": {"beta": 0.7},
        "nets": 2,
    },
    "fixed, hard, shared, replayed": {
        "theta_0": "fixed",
        "step_sizes": "shared",
        "adjoint": "step-replay",
    },
    "convnet, soft, adam": {**CONVNET, "labels": "soft", "update": "adam", "step_size": 0.01},
    "convnet with batchnorm": {
        "net": "convnet",
        "net_args": {"depth": 1, "width": 3, "norm": "batch"},
        "labels": "soft",
    },
}
H = 1e-5


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_finite_differences_of_the_outer_loss(digits, case):
    """One pixel, one logit and one rho: those with the largest derivative."""
    studied = to_double(loop(digits, batch=64, steps=1, ipc=1, **case))
    _, gradients = studied.loop.gradients(3)
    for (name, leaf), gradient in zip(
        studied.loop.synthetic.leaves().items(), gradients, strict=True
    ):
        place = int(gradient.abs().argmax())
        up, down = (shifted_loss(studied, leaf, place, sign * H) for sign in (1, -1))
        found, expected = float(gradient.view(-1)[place]), (up - down) / (2 * H)
        assert abs(expected) > 1e-4, f"{name}: too small to be compared"
        assert found == pytest.approx(expected, rel=1e-4), name


def shifted_loss(studied, leaf, place, h):
    with torch.no_grad():
        former = leaf.view(-1)[place].clone()
        leaf.view(-1)[place] += h
    loss, _ = studied.loop.gradients(3)
    with torch.no_grad():
        leaf.view(-1)[place] = former
    return loss


def test_the_gradient_of_four_nets_is_the_mean_of_each_nets_own(digits):
    together = to_double(loop(digits, nets=4, labels="soft"))
    loss, gradients = together.loop.gradients(2)
    losses, singles = [], []
    for n in range(4):
        alone = to_double(loop(digits, nets=1, labels="soft"))
        alone.loop.method.start = Fixed(together.loop.method.start.one(2, n))
        one_loss, one = alone.loop.gradients(2)
        losses.append(one_loss)
        singles.append(one)
    assert loss == pytest.approx(sum(losses) / 4, rel=1e-12)
    assert max(losses) - min(losses) > 1e-3
    for mean, *each in zip(gradients, *singles, strict=True):
        torch.testing.assert_close(mean, torch.stack(each).mean(0), rtol=1e-9, atol=1e-12)
        assert not torch.allclose(each[0], each[1])


def test_net_0_does_not_depend_on_the_number_of_nets(digits):
    one, four = (
        loop(digits, nets=n).loop.method.start.draw(7, n)["layers.0.weight"] for n in (1, 4)
    )
    assert torch.equal(four[0], one)


@pytest.mark.parametrize("adjoint", ["step-replay", "higher"])
def test_the_exact_adjoints_give_one_gradient(digits, adjoint):
    _, full = to_double(loop(digits, adjoint="full", labels="soft")).loop.gradients(0)
    _, other = to_double(loop(digits, adjoint=adjoint, labels="soft")).loop.gradients(0)
    for a, b in zip(full, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def test_the_adjoint_that_a_config_names():
    def named(**changes):
        return adjoint_of(config(**changes))

    assert named() == Auto()
    assert named(adjoint="step-replay") == StepReplay()
    assert named(adjoint="truncated", window=2) == Truncated(2)
    assert isinstance(named(adjoint="higher"), Higher)


class Dropping(nn.Module):
    """A net that drops half of its inputs while it trains."""

    def __init__(self):
        super().__init__()
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.drop(x.flatten(1)))


def test_dropout_has_the_iterations_stream_and_is_off_outside(digits):
    results = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        studied = loop(digits, Dropping(), iterations=2)
        state = torch.get_rng_state()
        results.append(
            (
                studied.advance(),
                studied.advance(),
                studied.loop.synthetic.tensors["images"].detach(),
            )
        )
        assert torch.equal(torch.get_rng_state(), state)
    assert results[0][:2] == results[1][:2]
    assert torch.equal(results[0][2], results[1][2])
    inner_off = loop(digits, Dropping().eval(), iterations=2)
    assert inner_off.advance() != results[0][0], "dropout was not on in the inner loop"


def test_the_module_passed_is_not_changed(digits):
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.1))
    net[3].eval()
    before, flags = (
        {k: v.clone() for k, v in net.state_dict().items()},
        [m.training for m in net.modules()],
    )
    studied = loop(digits, net, theta_0="fixed")
    for _ in range(2):
        studied.advance()
    studied.validate()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert (
        [m.training for m in net.modules()] == flags == [m.training for m in studied.net.modules()]
    )
    assert all(p.grad is None for p in net.parameters())
