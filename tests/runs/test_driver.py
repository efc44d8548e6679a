"""The driver of runs, on a kind of run that only counts: what holds for it holds for every kind."""

import re
import signal
from dataclasses import dataclass

import pytest
import torch

from datadistill.config import RunOptions
from datadistill.errors import DataError, Interrupted, UsageError
from datadistill.runs.atomic import write_bytes
from datadistill.runs.driver import run
from datadistill.runs.kinds import Kind, Step, Work


@dataclass(frozen=True)
class Count:
    """Sum `weight * n` over n < steps."""

    steps: int = 6
    weight: int = 1


class Counting(Work[int]):
    device, step, steps = torch.device("cpu"), 0, 0  # attributes in place of properties

    def __init__(self, config, data):
        self.config, self.steps, self.total = config, config.steps, torch.zeros(())
        self.fingerprints = {"data": data, "net": "-"}

    def advance(self):
        if self.step in SIGNALS:
            signal.raise_signal(SIGNALS.pop(self.step))
        self.total, self.step = self.total + self.config.weight * self.step, self.step + 1
        return Step(
            metrics=[{"step": self.step, "total": float(self.total)}],
            line=f"total {self.total:.0f}",
        )

    def state(self):
        return {"total": self.total, "step": self.step}

    def load(self, state):
        self.total, self.step = state["total"], state["step"]

    def finish(self, folder, broken_off):
        if folder is not None:
            write_bytes(folder.path / "sum.txt", b"%d" % int(self.total))
        return int(self.total)


class Sum(Kind[Count, int]):
    name, config, resumable = "sum", Count, ("steps",)

    def __init__(self, data="data"):
        self.data = data

    def build(self, config, options):
        return Counting(config, self.data)

    def command(self, config, path):
        return f"sum --resume {path}"

    def explain_memory(self, config):
        return "a little"


SIGNALS = {}  # step -> the signal that comes during it
EVERY_STEP = RunOptions(quiet=True, checkpoint_every="1")


def contents(folder):
    return {n: (folder / n).read_bytes() for n in ("sum.txt", "metrics.jsonl", "config.json")}


def test_a_run_in_memory_and_one_in_a_folder_agree(tmp_path):
    assert run(Sum(), Count()) == run(Sum(), Count(), tmp_path / "run") == 15
    assert (tmp_path / "run/sum.txt").read_text() == "15"


@pytest.mark.parametrize("options", [EVERY_STEP, RunOptions(quiet=True)], ids=["often", "rarely"])
@pytest.mark.parametrize("at", [0, 1, 3, 5])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal_and_resumed_to_the_same_bytes(tmp_path, at, number, options):
    run(Sum(), Count(), tmp_path / "straight", options=options)
    SIGNALS[at] = number
    with pytest.raises(
        Interrupted, match=f"saved at step {at + 1} of 6; go on with: sum|all steps"
    ) as stop:
        run(Sum(), Count(), tmp_path / "stopped", options=options)
    assert stop.value.exit_code == 128 + number
    assert run(Sum(), None, tmp_path / "stopped", resume=True, options=options) == 15
    assert contents(tmp_path / "stopped") == contents(tmp_path / "straight")


@pytest.mark.parametrize("every", ["1", "2", "4", "1000"])
def test_a_run_that_died_goes_on_from_its_last_checkpoint(tmp_path, monkeypatch, every):
    """Lines of metrics after the checkpoint are cut off."""
    run(Sum(), Count(), tmp_path / "straight")
    options = RunOptions(quiet=True, checkpoint_every=every)
    advance, started = Counting.advance, []

    def dies(self):
        if self.step == 5:
            raise KeyboardInterrupt
        return advance(self)

    with monkeypatch.context() as patched:
        patched.setattr(Counting, "advance", dies)
        with pytest.raises(KeyboardInterrupt):
            run(Sum(), Count(), tmp_path / "run", options=options)
    monkeypatch.setattr(
        Counting, "advance", lambda self: started.append(self.step) or advance(self)
    )
    assert run(Sum(), None, tmp_path / "run", resume=True, options=options) == 15
    assert started[0] == 5 // int(every) * int(every)
    assert contents(tmp_path / "run") == contents(tmp_path / "straight")


def test_metrics_that_a_checkpoint_has_seen_must_be_there(tmp_path):
    SIGNALS[3] = signal.SIGTERM
    with pytest.raises(Interrupted):
        run(Sum(), Count(), tmp_path / "run")
    (tmp_path / "run/metrics.jsonl").write_text("")
    with pytest.raises(DataError, match="has 0 bytes, the checkpoint was made at"):
        run(Sum(), None, tmp_path / "run", resume=True)


def test_a_run_that_cannot_be_built_leaves_nothing(tmp_path):
    class Unbuilt(Sum):
        def build(self, config, options):
            raise UsageError("no such net")

    with pytest.raises(UsageError, match="no such net"):
        run(Unbuilt(), Count(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_signal_after_the_last_step_leaves_the_result(tmp_path):
    SIGNALS[5] = signal.SIGTERM
    with pytest.raises(Interrupted, match="all steps were done, and the result is saved in"):
        run(Sum(), Count(), tmp_path / "run")
    assert (tmp_path / "run/sum.txt").read_text() == "15"
    SIGNALS[5] = signal.SIGTERM
    assert run(Sum(), Count()) == 15


def test_a_finished_run_resumes_to_itself(tmp_path):
    run(Sum(), Count(), tmp_path / "run")
    before = contents(tmp_path / "run")
    assert run(Sum(), None, tmp_path / "run", resume=True) == 15
    assert contents(tmp_path / "run") == before


def test_more_steps_where_the_kind_allows_them(tmp_path):
    run(Sum(), Count(), tmp_path / "run")
    longer = RunOptions(quiet=True, resume_with_changes=True)
    assert run(Sum(), Count(steps=8), tmp_path / "run", resume=True, options=longer) == 28
    assert run(Sum(), None, tmp_path / "run", resume=True) == 28


CHANGED = RunOptions(quiet=True, resume_with_changes=True)


def resumed(path, config=None, data="data", options=EVERY_STEP):
    return run(Sum(data), config, path / "run", resume=True, options=options)


REFUSALS = [
    (lambda path: run(Sum(), None), UsageError, "a run in memory cannot be resumed"),
    (
        lambda path: run(Sum(), Count(), None, resume=True),
        UsageError,
        "cannot be resumed; pass out=FOLDER",
    ),
    (lambda path: run(Sum(), None, path / "new"), UsageError, "no config was given"),
    (
        lambda path: run(Sum(), "count", path / "new"),
        UsageError,
        "config is 'count', wanted a Count",
    ),
    (lambda path: run(Sum(), Count(), path / "run"), UsageError, "already holds a run of sum"),
    (lambda path: run(Sum(), None, path / "none", resume=True), UsageError, "holds no run"),
    (lambda path: resumed(path, data="other"), DataError, "was started on other data"),
    (lambda path: resumed(path, Count(weight=2)), UsageError, "another config: weight 1 -> 2"),
    (lambda path: resumed(path, Count(weight=2), options=CHANGED), UsageError, "allows only steps"),
    (lambda path: resumed(path, Count(steps=3), options=CHANGED), UsageError, "more than the 3"),
]


@pytest.mark.parametrize(
    "call, error, pattern", REFUSALS, ids=[pattern for _, _, pattern in REFUSALS]
)
def test_refusals_change_nothing(tmp_path, call, error, pattern):
    run(Sum(), Count(), tmp_path / "run")
    before = contents(tmp_path / "run")
    with pytest.raises(error, match=re.escape(pattern)):
        call(tmp_path)
    assert contents(tmp_path / "run") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_the_log_has_the_line_of_a_step_its_speed_and_time_left(capsys):
    run(Sum(), Count(), options=RunOptions(quiet=False))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("total")]
    assert len(lines) == 6 and re.fullmatch(r"total 15  .*/s\S*  0:00 left", lines[-1])
