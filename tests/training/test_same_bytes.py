"""The same seed gives the same bytes, stopped and resumed or not."""

import signal
import warnings

import pytest
import torch
from training_cases import MIXED, bytes_of, config, loop, through_a_checkpoint

import datadistill as dd
from datadistill.config import RunOptions
from datadistill.errors import Interrupted
from datadistill.training.outer import OuterLoop

FIXED = {"theta_0": "fixed", "iterations": 4, "validate_every": 3, "step_sizes": "shared"}
RUNS = {"mixed": MIXED, "fixed": FIXED}


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def drive(studied, until):
    """The loop of a run, without folder and signals; the records of its looks."""
    records = []
    while studied.iteration < until:
        studied.advance()
        if studied.is_test_due():
            records.append(studied.validate())
    return records


def interrupted(config, data, out, k, monkeypatch, options):
    """A run that gets a SIGTERM during iteration k (from 1)."""
    advance = OuterLoop.advance

    def advance_then_signal(self):
        loss = advance(self)
        if self.iteration == k:
            signal.raise_signal(signal.SIGTERM)
        return loss

    with monkeypatch.context() as patched:
        patched.setattr(OuterLoop, "advance", advance_then_signal)
        with pytest.raises(
            Interrupted, match=f"saved at iteration {k} of [45]; go on with: .*resume=True"
        ) as stop:
            dd.distill(config, data=data, out=out, options=options)
    assert stop.value.exit_code == 128 + signal.SIGTERM


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


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_state_that_went_through_a_checkpoint_goes_on_to_the_same_bytes(digits, tmp_path, run, k):
    straight, stopped, resumed = (loop(digits, **run) for _ in range(3))
    records = drive(straight, straight.loop.iterations)
    before = drive(stopped, k)
    resumed.load(through_a_checkpoint(stopped.state()))
    assert resumed.iteration == k
    assert before + drive(resumed, resumed.loop.iterations) == records
    assert resumed.best == straight.best
    assert bytes_of(resumed.result(), tmp_path) == bytes_of(straight.result(), tmp_path)


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
    expected = bytes_of(straight.distilled(), tmp_path)
    stopped = loop(digits, **MIXED)
    drive(stopped, 3)
    for part in ("optimizer", "learned"):
        state, fresh = through_a_checkpoint(stopped.state()), loop(digits, **MIXED)
        state[part] = fresh.state()[part]
        if part == "optimizer":
            state[part]["state"] = {}
        fresh.load(state)
        drive(fresh, 5)
        assert bytes_of(fresh.distilled(), tmp_path) != expected, part


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_stopped_and_resumed_run_writes_the_same_files(digits, tmp_path, monkeypatch, run, k):
    options = RunOptions(quiet=True, checkpoint_every="1000")
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    dd.distill(config(**run), data=digits, out=straight, options=options)
    if k < config(**run).iterations:
        interrupted(config(**run), digits, stopped, k, monkeypatch, options)
        assert not (stopped / "distilled.safetensors").exists()
        dd.distill(None, data=digits, out=stopped, resume=True, options=options)
    else:
        dd.distill(config(**run), data=digits, out=stopped, options=options)
        dd.distill(None, data=digits, out=stopped, resume=True, options=options)  # resumed when done
    for name in ("distilled.safetensors", "metrics.jsonl", "config.json"):
        assert (stopped / name).read_bytes() == (straight / name).read_bytes(), name
    loaded = dd.DistilledDataset.load(stopped)
    assert torch.equal(loaded.images, dd.distill(config(**run), data=digits).images)


def test_a_run_that_died_goes_on_from_its_last_checkpoint(digits, tmp_path, monkeypatch):
    options = RunOptions(quiet=True, checkpoint_every="2")
    dd.distill(config(**MIXED), data=digits, out=tmp_path / "straight", options=options)
    advance = OuterLoop.advance

    def dies(self):
        if self.iteration == 3:
            raise KeyboardInterrupt  # no chance to save anything
        return advance(self)

    with monkeypatch.context() as patched:
        patched.setattr(OuterLoop, "advance", dies)
        with pytest.raises(KeyboardInterrupt):
            dd.distill(config(**MIXED), data=digits, out=tmp_path / "died", options=options)
    started = []
    monkeypatch.setattr(OuterLoop, "advance", lambda self: started.append(self.iteration) or advance(self))
    dd.distill(None, data=digits, out=tmp_path / "died", resume=True, options=options)
    assert started == [2, 3, 4]
    for name in ("distilled.safetensors", "metrics.jsonl"):
        assert (tmp_path / "died" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes(), name


def test_how_often_it_is_saved_and_where_it_is_run_do_not_matter(digits, tmp_path):
    in_memory = bytes_of(dd.distill(config(**MIXED), data=digits), tmp_path)
    for every in ("1", "3", "0.001s"):
        out = tmp_path / every
        dd.distill(
            config(**MIXED), data=digits, out=out, options=RunOptions(quiet=True, checkpoint_every=every)
        )
        assert (out / "distilled.safetensors").read_bytes() == in_memory
