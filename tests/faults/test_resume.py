"""Faults 7, 8 and 31: a stopped run is resumed with another config, environment or data."""

import json
import shutil
import signal

import pytest
import torch
from small_run import SMALL, contents, digest

import datadistill as dd
from datadistill.cli import main
from datadistill.runs.checkpoints import CheckpointStore
from datadistill.runs.folder import RunFolder
from datadistill.training.outer import OuterLoop

RESUME = ["--no-evaluate", "--no-figures"]


def stop_at(monkeypatch, k):
    """A signal comes during iteration k."""
    advance = OuterLoop.advance

    def interrupted(loop):
        loss = advance(loop)
        if loop.iteration == k:
            signal.raise_signal(signal.SIGTERM)
        return loss

    monkeypatch.setattr(OuterLoop, "advance", interrupted)


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    torch.set_num_threads(1)  # before the fixture of every test does so
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 25)
        assert main(["distill", *SMALL, "--out", str(folder)]) == 143
    return folder


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A run folder whose run was stopped after iteration 25 of 40."""
    return shutil.copytree(stopped_once, tmp_path / "run")


def resume(folder, *argv):
    return main(["distill", "--resume", str(folder), *RESUME, *argv])


def test_another_config_is_refused_with_the_fields(stopped, capsys):
    before = contents(stopped)
    assert resume(stopped, "--ipc", "5", "--lr-images", "0.5") == 2
    said = capsys.readouterr().err
    assert (
        "ipc 1 -> 5" in said and "lr_images 0.05 -> 0.5" in said and "--resume-with-changes" in said
    )
    assert resume(stopped, "--ipc", "5", "--resume-with-changes") == 2
    assert resume(stopped, "--iterations", "60") == 2
    assert contents(stopped) == before


def dies(*args):
    raise KeyboardInterrupt


def replaced_and_dies(folder, config, replace=RunFolder.replace_config):
    replace(folder, config)
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("owner", "name", "death"),
    [
        (RunFolder, "replace_config", dies),
        (RunFolder, "replace_config", replaced_and_dies),
        (CheckpointStore, "save", dies),
        (OuterLoop, "advance", dies),
    ],
)
def test_an_extension_that_was_killed_resumes(stopped, monkeypatch, owner, name, death):
    whole = stopped.with_name("whole")
    shutil.copytree(stopped, whole)
    extend = ["--iterations", "60", "--resume-with-changes"]
    assert resume(whole, *extend) == 0
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, death)
        assert resume(stopped, *extend) == 130
    # until config.json is replaced nobody has asked for more
    assert resume(stopped, *(extend if death is dies and owner is RunFolder else [])) == 0
    assert digest(stopped) == digest(whole)


def test_an_older_checkpoint_of_an_extended_run_is_used(stopped):
    """Its config is a former one, which config.json knows."""
    assert resume(stopped, "--iterations", "30", "--resume-with-changes") == 0
    for step in (30, 25):
        (stopped / f"checkpoints/step-{step:06d}/state.json").write_text("{}")
    with pytest.warns(UserWarning, match="passed over"):
        dd.distill(None, out=stopped, resume=True)
    assert RunFolder.open(stopped).checkpoints.iterations()[-1] == 30


def test_a_run_from_before_a_field_existed_is_resumed(stopped, straight):
    """Its config has no such key, in the folder and in the checkpoints: that means the default."""
    config = json.loads((stopped / "config.json").read_text())
    for name in ("objective", "pool"):
        del config["config"][name]
    (stopped / "config.json").write_text(json.dumps(config))
    assert resume(stopped) == 0
    assert digest(stopped) == straight


@pytest.mark.parametrize(
    ("argv", "place", "words"),
    [
        ([], ("versions", "torch"), "torch 2.0.0 -> "),
        ([], ("device",), "device 2.0.0 -> cpu"),
        (["--threads", "2"], (), "threads 1 -> 2"),
    ],
)
def test_another_environment_is_said(stopped, capsys, argv, place, words):
    document = json.loads((stopped / "environment.json").read_text())
    if place:
        inner = document["versions"] if len(place) > 1 else document
        inner[place[-1]] = "2.0.0"
    (stopped / "environment.json").write_text(json.dumps(document))
    before = contents(stopped)
    assert resume(stopped, *argv, "--require-exact") == 6
    assert f"not bit-exact with the run so far: {words}" in capsys.readouterr().err
    assert contents(stopped) == before
    if not argv:
        assert resume(stopped) == 0
        said = capsys.readouterr().err
        assert f"warning: not bit-exact with the run so far: {words}" in said and ".py:" not in said


def test_changed_data_are_refused(pictures, tmp_path, monkeypatch, capsys):
    argv = [
        "own-images",
        "--data",
        str(pictures),
        "--size",
        "8",
        "--net",
        "mlp",
        "--iterations",
        "4",
    ]
    argv += ["--batch", "4", "--nets", "1", "--validate-every", "2", *RESUME]
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        assert main(["distill", *argv, "--out", str(tmp_path / "run")]) == 143
    first = sorted((pictures / "jay").iterdir())[0]
    first.with_name("zz.png").write_bytes(first.read_bytes())
    before = contents(tmp_path / "run")
    assert resume(tmp_path / "run") == 3
    assert "other data" in capsys.readouterr().err
    first.with_name("zz.png").unlink()
    assert contents(tmp_path / "run") == before
    assert resume(tmp_path / "run") == 0
