"""Studies over a kind of run that only counts: what holds for it holds for every study."""

import re
import signal
from dataclasses import dataclass

import pytest
import torch

from datadistill.config import KINDS, RunOptions
from datadistill.errors import Interrupted, UsageError
from datadistill.runs import driver
from datadistill.runs.atomic import write_bytes
from datadistill.runs.folder import RunFolder
from datadistill.runs.kinds import Kind, Step, Work
from datadistill.stats import paired_difference
from datadistill.studies.study import Job, Study, read_run_config
from datadistill.studies.table import Score, Table


@dataclass(frozen=True)
class Count:
    steps: int = 3
    device: str = "cpu"


class Counting(Work[int]):
    device, fingerprints = torch.device("cpu"), {"data": "-", "net": "-"}
    step = steps = None  # as attributes in place of properties

    def __init__(self, config):
        self.step, self.steps = 0, config.steps

    def advance(self):
        if (self.steps, self.step) in SIGNALS:
            signal.raise_signal(SIGNALS.pop((self.steps, self.step)))
        self.step += 1
        return Step()

    def state(self):
        return {"step": self.step, "none": torch.zeros(1)}

    def load(self, state):
        self.step = state["step"]

    def finish(self, folder, broken_off):
        write_bytes(folder.path / "count.txt", b"%d" % self.step)
        return self.step


class Counts(Kind[Count, int]):
    name, config = "count", Count

    def build(self, config, options):
        return Counting(config)

    def command(self, config, path):
        return "resume that run alone"

    def explain_memory(self, config):
        return "little"


SIGNALS = {}  # steps of a run, step -> the signal that comes during it
ONE = RunOptions(quiet=True, checkpoint_every="1")


@pytest.fixture(autouse=True)
def kind(monkeypatch):
    monkeypatch.setitem(KINDS, "count", f"{__name__}:Count")


def study(path, asked=(("counts", 2),), carried_out=None, **options):
    """Runs of 3 and of 4 steps, and their table."""
    done = [] if carried_out is None else carried_out
    with Study(
        path, "counts", dict(asked), again="count again", say=done.append, **options
    ) as found:
        found.open()
        rows = []
        for steps in (3, 4):
            out, config = path / f"run-{steps}", Count(steps)

            def run(resume, out=out, config=config):
                done.append(resume)
                driver.run(Counts(), config, out, resume=resume, options=ONE)

            file = found.run(Job(out, config, "count.txt", run, f"count to {steps}"))
            rows.append(({"arm": steps}, Score.of([float(file.read_text())])))
        return Table(("arm", "mean"), rows).to_csv(), found


def test_finished_jobs_are_loaded(tmp_path):
    done = []
    first, _ = study(tmp_path / "a", carried_out=done)
    assert first == "arm,mean\n3,3.0000\n4,4.0000\n"
    assert done == ["count to 3", False, "count to 4", False]
    done.clear()
    again, found = study(tmp_path / "a", carried_out=done)
    assert again == first and done == [] and len(found.environments) == 1
    assert read_run_config(tmp_path / "a/run-4", Count) == Count(4)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_after_a_signal_the_study_is_resumed(number, tmp_path):
    SIGNALS[4, 1] = number
    said = re.escape(f"stopped; what was done is kept in {tmp_path / 'a'}; go on with: count again")
    with pytest.raises(Interrupted, match=f"^{said}$") as stopped:
        study(tmp_path / "a")
    assert stopped.value.exit_code == 128 + number
    done = []
    table, _ = study(tmp_path / "a", carried_out=done)
    assert done == ["count to 4", True] and table == study(tmp_path / "b")[0]


def test_a_signal_before_the_folder_is_open_names_the_study(tmp_path):
    with (
        pytest.raises(Interrupted, match="go on with: count again"),
        Study(tmp_path / "a", "counts", {}, again="count again") as found,
    ):
        signal.raise_signal(signal.SIGTERM)
        found.carry_out(None, lambda: None)
    assert not (tmp_path / "a").exists()


def test_what_a_killed_process_left_is_removed(tmp_path):
    study(tmp_path / "a")
    (tmp_path / "a/rows").mkdir()
    left = [tmp_path / "a" / name for name in (".x.tmp", "rows/.y.tmp", "run-3/.z.tmp")]
    for path in left:
        path.write_text("half")
    study(tmp_path / "a")
    assert not any(path.exists() for path in left)


def test_fields_that_may_change_are_stored_anew(tmp_path):
    study(tmp_path / "a")
    study(tmp_path / "a", {"counts": 3}.items(), may_change=("counts",))
    assert RunFolder.open(tmp_path / "a").config == {"counts": 3}


def test_a_timed_study_keeps_a_line_for_each_piece_of_work(tmp_path):
    study(tmp_path / "a", timed=True)
    assert [x["step"] for x in RunFolder.open(tmp_path / "a").read_timing()] == [
        "count to 3",
        "count to 4",
    ]


def of_other_steps(path):
    (path / "run-3").rename(path / "run-5")
    (path / "run-4").rename(path / "run-3")
    study(path)


REFUSALS = [
    (
        lambda path: study(path, {"counts": 3}.items()),
        r"a holds another study \(counts 2 -> 3\); choose",
    ),
    (lambda path: study(path / "run-3"), "holds a run of count, wanted one of counts"),
    (lambda path: study(path.parent), r"is not empty \(it holds a\)"),
    (of_other_steps, r"run-3 holds a run of another config \(steps 4 -> 3\); remove it"),
]


@pytest.mark.parametrize(("call", "said"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals_train_nothing(call, said, tmp_path):
    study(tmp_path / "a")
    with pytest.raises(UsageError, match=said):
        call(tmp_path / "a")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]
    assert {p.read_text() for p in tmp_path.rglob("count.txt")} == {"3", "4"}


def test_another_device_is_no_other_config(tmp_path):
    driver.run(Counts(), Count(3, device="cuda"), tmp_path / "run", options=ONE)
    job = Job(tmp_path / "run", Count(3), "count.txt", lambda resume: None, "")
    assert job.is_finished()


def test_a_table_of_scores_with_differences_to_a_base():
    base, own = (90.0, 94.0), (93.0, 99.0)
    difference = paired_difference(own, base)
    score = Score.of(own, difference=difference, published="95 (a paper)")
    fields = ("arm", "mean", "deviation", "low", "high", "published", "values")
    renamed = {"low": "difference_low", "high": "difference_high"}
    table = Table(fields, [({"arm": "base"}, Score.of(base)), ({"arm": "own"}, score)], renamed)
    first, second = table.records()
    assert (
        first["low"] is None
        and first["published"] is None
        and second["published"] == "95 (a paper)"
    )
    assert (second["low"], second["high"]) == (difference.low, difference.high)
    assert table.to_csv().splitlines()[1] == "base,92.0000,2.0000,,,,90.0000 94.0000"
