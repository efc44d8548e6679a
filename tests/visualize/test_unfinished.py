"""`show` on a run that was stopped draws the set of its latest checkpoint, and says so."""

import warnings

import pytest
import torch

import datadistill as dd
from datadistill.cli import main
from datadistill.config import RunOptions
from datadistill.training.outer import OuterLoop
from datadistill.unfinished import unfinished_set

TINY = dd.recipe("digits-random").with_changes(
    net="mlp",
    net_args={"width": 4},
    iterations=4,
    validate_every=2,
    validate_nets=1,
    nets=1,
    batch=8,
)
EVERY = RunOptions(checkpoint_every="1", quiet=True)
KINDS = {
    "random": {},
    "fixed": {"theta_0": "fixed"},
    "soft": {"labels": "soft"},
    "steps": {"ipc": 2, "steps": 2, "epochs": 2},
    "per-tensor": {"step_sizes": "per-tensor"},
    "attack": {"objective": "attack"},
    "soft mosaic": {"decoder": "mosaic", "labels": "soft"},
    "raw bases": {"decoder": "bases", "decoder_args": {"bases": 4}, "labels": "raw"},
}


def stopped(folder, changes, monkeypatch, at=3):
    """A run that dies in iteration `at`, with a checkpoint after each."""
    advance = OuterLoop.advance

    def dies(loop):
        if loop.iteration == at:
            raise KeyboardInterrupt
        return advance(loop)

    monkeypatch.setattr(OuterLoop, "advance", dies)
    with pytest.raises(KeyboardInterrupt):
        dd.distill(
            TINY.with_changes(**changes),
            out=folder,
            options=RunOptions(checkpoint_every="1", quiet=True),
        )
    monkeypatch.undo()


@pytest.mark.parametrize("kind", KINDS)
def test_the_checkpoints_set_is_the_one_that_was_learned(kind, tmp_path, monkeypatch):
    stopped(tmp_path / "run", KINDS[kind], monkeypatch)
    found = unfinished_set(tmp_path / "run")
    wanted = dd.distill(TINY.with_changes(**KINDS[kind], iterations=3, schedule="constant"))
    stopped(tmp_path / "constant", {**KINDS[kind], "schedule": "constant"}, monkeypatch)
    same = unfinished_set(tmp_path / "constant")
    for name in ("images", "labels", "step_sizes"):
        assert torch.equal(getattr(same, name), getattr(wanted, name)), name
    assert [i.tolist() for i in same.order] == [i.tolist() for i in wanted.order]
    assert same.normalization == wanted.normalization and same.classes == wanted.classes
    assert found.origin["iterations"] == 3 and found.images.shape == same.images.shape


def test_show_draws_a_stopped_run_and_says_so(tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    stopped(run, {}, monkeypatch)
    before = {p.name: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert main(["show", str(run), "--out", str(tmp_path / "figures")]) == 0
    shown = capsys.readouterr().out
    assert "has not finished: drawn as its checkpoint of iteration 3 has it" in shown
    assert f"next: datadistill distill --resume {run}" in shown
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {
        "images.png",
        "curves.png",
        "step_sizes.png",
    }
    assert {p.name: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_a_finished_run_has_no_unfinished_set(tmp_path):
    with warnings.catch_warnings():
        dd.distill(TINY.with_changes(iterations=1), out=tmp_path / "run")
    assert unfinished_set(tmp_path / "run") is None


def test_other_folders_have_none(tmp_path):
    assert unfinished_set(tmp_path) is None
    assert unfinished_set(tmp_path / "nowhere") is None
