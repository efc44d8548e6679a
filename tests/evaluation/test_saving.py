"""Accuracies go into the file of the very set that was measured, under the lock of its run."""

import json

import pytest

import datadistill as dd
from datadistill.cli import main
from datadistill.errors import DataError, UsageError
from datadistill.evaluation import held_out
from datadistill.evaluation.saving import save_accuracies
from datadistill.runs.folder import RunFolder

TINY = dd.recipe("digits-random").with_changes(
    net="mlp",
    net_args={"width": 4},
    iterations=1,
    epochs=1,
    validate_every=1,
    validate_nets=1,
    batch=16,
)


@pytest.fixture(scope="module")
def sets():
    """A set, and a longer one."""
    return dd.distill(TINY), dd.distill(TINY.with_changes(iterations=2))


@pytest.fixture
def run(tmp_path):
    dd.distill(TINY, out=tmp_path / "run")
    return tmp_path / "run"


def longer_meanwhile(monkeypatch, run):
    """A longer run is saved while nets are tested."""
    test = held_out.measure_training

    def tested(*args, **kwargs):
        options = dd.RunOptions(resume_with_changes=True, quiet=True)
        dd.distill(TINY.with_changes(iterations=2), out=run, resume=True, options=options)
        return test(*args, **kwargs)

    monkeypatch.setattr(held_out, "measure_training", tested)


def test_the_same_set_gets_its_accuracies(run):
    save_accuracies(run, dd.DistilledDataset.load(run), {"accuracy_mean": 1.0})
    assert dd.DistilledDataset.load(run).accuracies == {"accuracy_mean": 1.0}


def test_another_set_that_was_saved_meanwhile_is_kept(tmp_path, sets):
    one, other = sets
    other.save(tmp_path / "file")
    before = (tmp_path / "file").read_bytes()
    with pytest.raises(
        DataError, match="another set than the one that was measured: it was saved meanwhile"
    ):
        save_accuracies(tmp_path / "file", one, {"accuracy_mean": 1.0})
    assert (tmp_path / "file").read_bytes() == before


@pytest.mark.parametrize("place", ["", "distilled.safetensors"])
def test_a_run_that_somebody_holds_is_left_alone(run, place):
    d, before = dd.DistilledDataset.load(run), (run / "distilled.safetensors").read_bytes()
    with RunFolder.open(run).lock(), pytest.raises(UsageError, match="is in use by pid"):
        save_accuracies(run / place, d, {"accuracy_mean": 1.0})
    assert (run / "distilled.safetensors").read_bytes() == before


def test_a_linked_result_is_refused_and_the_file_behind_it_stays(run, tmp_path):
    d = dd.DistilledDataset.load(run)
    (run / "distilled.safetensors").rename(tmp_path / "victim")
    (run / "distilled.safetensors").symlink_to(tmp_path / "victim")
    before = (tmp_path / "victim").read_bytes()
    with pytest.raises(UsageError, match="is a symbolic link"):
        save_accuracies(run, d, {"accuracy_mean": 1.0})
    assert (tmp_path / "victim").read_bytes() == before


def test_evaluate_does_not_undo_a_longer_run(run, monkeypatch, capsys):
    longer_meanwhile(monkeypatch, run)
    assert main(["evaluate", str(run), "--nets", "1", "--plain-nets", "0", "--save", "--json"]) == 3
    shown = capsys.readouterr()
    assert "accuracy_mean" in json.loads(shown.out) and "was saved meanwhile" in shown.err
    found = dd.DistilledDataset.load(run)
    assert found.origin["iterations"] == 2 and found.accuracies == {}
