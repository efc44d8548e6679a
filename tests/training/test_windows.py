"""Windows of differentiated steps at drawn places (RaT-BPTT), and horizons that grow."""

import pytest
import torch
from torch import nn
from training_cases import assert_resumes, config, loop, to_double

import datadistill as dd
from datadistill.errors import NumericalError, UsageError
from datadistill.innerloop import StepReplay, unroll
from datadistill.methods import Unrolled
from datadistill.methods.windows import Windows
from datadistill.streams import derive, generator
from datadistill.theta import is_same

T, W = 6, 2
DROPPED = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.3), nn.Linear(8, 10))
RANDOM = {"epochs": T, "window": W, "horizon": "random"}
RICH = {
    "ipc": 2,
    "minibatch": 10,
    "epochs": 3,
    "augment_synthetic": ("crop_rotate",),
    "update": "adam",
    "step_size": 0.01,
    "window": W,
    "horizon": "random",
}


def rule(**changes):
    return {"update": "momentum", "update_args": {"beta": 0.9}, "labels": "soft", **changes}


def place_window(studied, end):
    """Let every window end after `end` steps."""
    windows = studied.loop.method.windows
    assert windows.is_drawn
    object.__setattr__(windows, "end", lambda T, iteration: end)
    return studied


def assert_close(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


# --- the place of a window


def test_ends_are_uniform_between_the_window_and_the_whole():
    windows = Windows(3, "random", iterations=1)
    ends = [windows.end(7, i) for i in range(500)]
    counts = torch.bincount(torch.tensor(ends), minlength=8).tolist()
    assert counts[:3] == [0, 0, 0]
    assert min(counts[3:]) > 70


def test_a_window_stays_for_its_iterations():
    windows = Windows(1, "random", every=10)
    ends = [windows.end(1000, i) for i in range(40)]
    assert all(ends[i] == ends[i - i % 10] for i in range(40))
    assert len(set(ends)) == 4


def test_the_earliest_window_is_where_it_is_said():
    ends = {Windows(2, "random", earliest=3).end(6, i) for i in range(50)}
    assert ends == {5, 6}


def test_a_growing_horizon_reaches_the_whole():
    windows = Windows(2, "growing", growth=0.5, iterations=100)
    longest = [windows.longest(10, i) for i in range(100)]
    assert longest[0] == 2
    assert longest == sorted(longest)
    assert longest[50:] == [10] * 50
    assert all(2 <= windows.end(10, i) <= longest[i] for i in range(100))


# --- the gradient


def test_a_window_of_all_steps_is_the_whole_unroll(digits):
    whole = loop(digits, epochs=T, **rule()).loop.gradients(3)
    windowed = loop(digits, epochs=T, window=T, horizon="random", **rule()).loop.gradients(3)
    assert windowed[0] == whole[0]
    assert all(torch.equal(a, b) for a, b in zip(windowed[1], whole[1], strict=True))


def test_the_last_window_is_that_of_a_truncated_unroll(digits):
    last = place_window(to_double(loop(digits, **RANDOM, **rule())), T)
    truncated = to_double(loop(digits, epochs=T, window=W, adjoint="truncated", **rule()))
    assert_close(last.loop.gradients(1)[1], truncated.loop.gradients(1)[1])


@pytest.mark.parametrize("update", ["momentum", "adam"])
def test_finite_differences_with_the_steps_before_held(digits, update):
    """theta_N and the rule's state are those of ordinary steps; the last W see the shifted set."""
    arguments = {"beta": 0.9} if update == "momentum" else {}
    how = rule(update=update, update_args=arguments, step_size=0.02)
    studied = place_window(to_double(loop(digits, **RANDOM, **how)), 5)
    method, synthetic = studied.loop.method, studied.loop.synthetic
    first, end, i = 3, 5, 2
    theta_0 = method.start.draw(i)
    with torch.no_grad():
        theta_N, state = unroll(
            method.net,
            theta_0,
            synthetic.steps().part(0, first),
            synthetic.step_sizes()[:first],
            method.update,
            return_state=True,
        )

    def loss_of_window():
        """Of iteration i, by hand: continued from theta_N and the rule's state."""
        theta = unroll(
            method.net,
            theta_N,
            synthetic.steps().part(first, end),
            synthetic.step_sizes()[first:end],
            method.update,
            state=state,
        )
        images, labels = method.split.batch(generator(method.seed, "real_batch", i), method.batch)
        return method.objective(method.net, theta, images, labels, method.norm)

    found_loss, gradients = studied.loop.gradients(i)
    assert found_loss == pytest.approx(float(loss_of_window().detach()), rel=1e-12)
    h = 1e-6
    for (name, leaf), gradient in zip(synthetic.leaves().items(), gradients, strict=True):
        place = int(gradient.abs().argmax())
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                former = leaf.view(-1)[place].clone()
                leaf.view(-1)[place] += sign * h
            losses.append(float(loss_of_window().detach()))
            with torch.no_grad():
                leaf.view(-1)[place] = former
        expected = (losses[0] - losses[1]) / (2 * h)
        assert abs(expected) > 1e-5, f"{name}: too small to be compared"
        assert float(gradient.view(-1)[place]) == pytest.approx(expected, rel=1e-4), name


def test_only_step_sizes_inside_get_a_gradient(digits):
    studied = place_window(loop(digits, **RANDOM), 5)
    rho = studied.loop.gradients(0)[1][-1]
    assert (rho != 0).tolist() == [False, False, False, True, True, False]


def test_a_replayed_window_has_the_same_gradient(digits):
    full, replayed = (
        place_window(to_double(loop(digits, **RICH, adjoint=adjoint)), 5)
        for adjoint in ("full", "step-replay")
    )
    assert replayed.loop.method.adjoint == StepReplay()
    assert_close(replayed.loop.gradients(1)[1], full.loop.gradients(1)[1])


def test_theta_of_a_horizon_is_that_of_the_whole(digits):
    """Minibatches, augmentation, dropout masks and Adam's moments are those of the whole."""
    studied = loop(digits, DROPPED, **RICH)
    seen = []

    def remember(net, theta, images, labels, norm):
        seen.append({k: p.detach() for k, p in theta.items()})
        return sum(p.sum() for p in theta.values())

    method, synthetic = studied.loop.method, studied.loop.synthetic
    method.objective = remember
    place_window(studied, 4).loop.gradients(2)
    states = []
    with torch.no_grad():
        for steps in (4, synthetic.schedule.steps):
            states.append(
                unroll(
                    method.net,
                    method.start.draw(2),
                    synthetic.steps(steps, derive(0, "schedule", 2)),
                    synthetic.step_sizes(steps),
                    method.update,
                    stream=derive(0, "dropout", 2),
                )
            )
    assert is_same(seen[0], states[0])
    assert not is_same(seen[0], states[1])


# --- runs


@pytest.mark.parametrize(
    "changes",
    [
        {"method_args": {"window_every": 3}, "step_sizes": "shared"},
        {"horizon": "growing", "method_args": {"growth": 1.0}, "augment": ("crop_rotate",)},
    ],
    ids=["random", "growing"],
)
def test_a_stopped_run_is_resumed_to_the_same_bytes(digits, tmp_path, changes):
    assert_resumes(digits, tmp_path, **{**RICH, **changes})


def test_a_set_of_windows_trains_for_all_its_steps(digits):
    d = dd.distill(config(**RANDOM, iterations=2), data=digits)
    assert d.schedule.steps == T


def test_a_first_step_size_is_that_of_the_whole(digits):
    whole, windowed = (
        loop(digits, epochs=T, step_size=None, **changes).loop.synthetic.step_sizes()
        for changes in ({}, {"window": W, "horizon": "random"})
    )
    assert torch.equal(whole, windowed)


def test_a_loss_that_is_not_finite_is_found_before_the_end_of_the_window(digits):
    studied = place_window(loop(digits, **RANDOM, step_size=1e30), 3)
    with pytest.raises(NumericalError, match=r"at inner step [0-2],"):
        studied.advance()


@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_the_published_recipe_in_miniature(digits, ipc):
    net_args = {"depth": 2, "width": 4, "norm": "instance"}
    short = {"epochs": 3, "window": 2, "iterations": 2, "batch": 32, "validate_nets": 1}
    recipe = dd.recipe(f"mnist-rat-ipc{ipc}").with_changes(net_args=net_args, **short)
    d = dd.distill(recipe, data=digits)
    assert len(d.images) == 10 * ipc
    assert len(d.step_sizes.unique()) == 1


# --- refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"horizon": "random"}, "no window was given; pass the number of steps"),
        ({"horizon": "growing", "window": 0}, "at least 1 step must be differentiated"),
        ({**RANDOM, "horizon": "rnadom"}, "did you mean random"),
        ({**RANDOM, "adjoint": "truncated"}, "choose adjoint full or step-replay"),
        ({**RANDOM, "adjoint": "higher"}, "choose adjoint full or step-replay"),
        ({**RANDOM, "window": T + 1}, f"window of {T + 1} steps is longer than .* has {T}"),
        ({"epochs": T, "adjoint": "truncated", "window": T + 1}, "is longer than the training"),
        ({**RICH, "window": 7}, "window of 7 steps is longer than the training, which has 6"),
        ({**RANDOM, "method_args": {"window_from": 5}}, "2 steps from step 5 on is longer"),
        ({**RANDOM, "method_args": {"window_every": 0}}, "window_every is 0"),
        ({**RANDOM, "method_args": {"growth": 0.2}}, "choose horizon growing"),
        ({"method_args": {"window_every": 2}}, "choose horizon random or growing"),
    ],
)
def test_refusals(digits, changes, said):
    with pytest.raises(UsageError, match=said):
        loop(digits, **changes)


def test_a_refused_window_leaves_nothing(digits, tmp_path):
    with pytest.raises(UsageError, match="is longer than the training"):
        dd.distill(config(**{**RANDOM, "window": 7}), data=digits, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_horizon_of_another_method_is_refused(digits):
    matching = {"space": "features", "method": "ridge-regression", "theta_0": "given"}
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    with pytest.raises(UsageError, match="horizon is random, which goes with the method unrolled"):
        loop(digits, net, **RANDOM, **matching)


def test_the_windows_of_a_method_are_those_of_its_arguments(digits):
    method = loop(digits, **RANDOM, method_args={"window_every": 4}).loop.method
    assert isinstance(method, Unrolled)
    assert (method.windows.every, method.windows.size, method.windows.iterations) == (4, W, 3)
