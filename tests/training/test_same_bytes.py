"""The same seed gives the same bytes, stopped and resumed or not."""

import warnings

import pytest
import torch
from training_cases import CONVNET, MIXED, bytes_of, config, drive, loop, through_a_checkpoint

import datadistill as dd

FIXED = {"theta_0": "fixed", "iterations": 4, "validate_every": 3, "step_sizes": "shared"}
RUNS = {"mixed": MIXED, "fixed": FIXED}


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(params=RUNS.values(), ids=RUNS.keys())
def run(request):
    return request.param


def test_the_same_seed_gives_the_same_bytes_and_another_others(digits, tmp_path, run):
    first = bytes_of(dd.distill(config(**run), data=digits), tmp_path)
    torch.manual_seed(99)
    again = bytes_of(dd.distill(config(**run), data=dd.load("digits")), tmp_path)
    other = dd.distill(config(**run, seed=1), data=digits)
    assert first == again
    assert not torch.equal(other.images, dd.distill(config(**run), data=digits).images)


def test_a_state_in_the_older_layout_goes_on_to_the_same_bytes(digits, tmp_path):
    straight, stopped, resumed = (loop(digits, **MIXED) for _ in range(3))
    drive(straight, 5)
    drive(stopped, 2)
    state = through_a_checkpoint(stopped.state())
    del state["method"]
    names = ("iteration", "gradient_norm", "skipped", "warned_of_edges", "loss_sum", "loss_count")
    resumed.load({**state, "scalars": {name: state.pop(name) for name in names}})
    drive(resumed, 5)
    assert bytes_of(resumed.result(), tmp_path) == bytes_of(straight.result(), tmp_path)


def test_the_best_so_far_survives_a_checkpoint(digits):
    """The best look lies before the stop, and the rest of the run must not win over it."""
    studied = loop(digits, **MIXED)
    drive(studied, 2)
    assert studied.best is not None
    studied.best = (101.0, 2)
    kept = {k: p.clone() for k, p in studied.best_tensors.items()}
    state = through_a_checkpoint(studied.state())
    resumed = loop(digits, **MIXED)
    resumed.load(state)
    drive(resumed, 5)
    assert resumed.best == (101.0, 2)
    assert not torch.equal(resumed.loop.synthetic.tensors["images"], kept["images"])
    assert torch.equal(resumed.result().images, kept["images"])


def test_an_untouched_loop_would_not_pass_for_a_resumed_one(digits, tmp_path):
    """What the equality above rests on: each part of the state matters."""
    straight = loop(digits, **MIXED)
    drive(straight, 5)
    expected = bytes_of(straight.snapshot(), tmp_path)
    stopped = loop(digits, **MIXED)
    drive(stopped, 3)
    for part in ("optimizer", "learned"):
        state, fresh = through_a_checkpoint(stopped.state()), loop(digits, **MIXED)
        state[part] = fresh.state()[part]
        if part == "optimizer":
            state[part]["state"] = {}
        fresh.load(state)
        drive(fresh, 5)
        assert bytes_of(fresh.snapshot(), tmp_path) != expected, part


@pytest.mark.parametrize(
    "changes", [{"adjoint": "step-replay"}, {"horizon": "random", "window": 2}], ids=str
)
def test_the_first_iteration_of_a_process_rounds_as_any_other(digits, changes):
    """Its gradients of steps are also found to have a derivative: in a resumed run those of another
    iteration."""
    studied = loop(digits, **CONVNET, labels="soft", epochs=5, **changes).loop
    first, again = studied.gradients(2)[1], studied.gradients(2)[1]
    assert all(map(torch.equal, first, again))
