"""Faults 10 to 13: a disk that is full or cannot be written."""

import errno
import os
import resource
import shutil
from pathlib import Path

import pytest
from small_run import SMALL, contents, digest

from datadistill.cli import main
from datadistill.runs import checkpoints
from datadistill.runs.atomic import wrap_oserror
from datadistill.runs.folder import RunFolder
from datadistill.training.outer import OuterLoop

RESUME = ["--no-evaluate", "--no-figures"]


@pytest.fixture
def limit_at(monkeypatch):
    """From iteration 25 on no file can grow beyond `limit(run)` bytes: the system refuses the
    write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def install(limit):
        advance = OuterLoop.advance

        def limited(loop):
            if loop.iteration == 25:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit(), hard))
            return advance(loop)

        monkeypatch.setattr(OuterLoop, "advance", limited)

    yield install
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def lift():
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(1)[1]))


def test_no_room_for_a_checkpoint(tmp_path, limit_at, monkeypatch, capsys, straight):
    run = tmp_path / "run"
    limit_at(lambda: 3000)  # enough for a line of metrics, not for the tensors
    code = main(["distill", *SMALL, "--out", str(run)])
    lift()
    monkeypatch.undo()
    said = capsys.readouterr().err
    assert code == 5 and "bytes needed" in said and "free" in said
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-000010", "step-000020"]
    assert RunFolder.open(run).checkpoints.load_latest().iteration == 20
    assert main(["distill", "--resume", str(run), *RESUME]) == 0
    assert digest(run) == straight


def test_no_room_for_a_line_of_metrics(tmp_path, limit_at, monkeypatch, capsys, straight):
    run = tmp_path / "run"
    limit_at(lambda: (run / "metrics.jsonl").stat().st_size + 10)
    code = main(["distill", *SMALL, "--out", str(run)])
    lift()
    monkeypatch.undo()
    assert code == 5 and "metrics.jsonl" in capsys.readouterr().err
    assert [line["iteration"] for line in RunFolder.open(run).read_metrics()] == [10, 20]
    assert main(["distill", "--resume", str(run), *RESUME]) == 0
    assert digest(run) == straight


def test_the_state_is_rescued_to_another_disk(tmp_path, monkeypatch, capsys, straight):
    run, rescue = tmp_path / "run", tmp_path / "elsewhere"
    write = checkpoints.write_bytes

    def full(path, data):
        if run in Path(path).parents and "step-000030" in str(path):
            raise wrap_oserror(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), path, len(data))
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_bytes", full)
        assert main(["distill", *SMALL, "--out", str(run), "--rescue-dir", str(rescue)]) == 5
    said = capsys.readouterr().err
    saved = rescue / "checkpoints" / "step-000030"
    assert str(saved) in said and saved.is_dir()
    shutil.move(saved, run / "checkpoints")  # as the sentence says
    assert main(["distill", "--resume", str(run), *RESUME]) == 0
    assert "going on from iteration 30" in capsys.readouterr().err
    assert digest(run) == straight


def untrained(monkeypatch):
    def never(loop):
        raise AssertionError("it trained before it looked at the folder")

    monkeypatch.setattr(OuterLoop, "advance", never)


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="no /proc here, a place that nobody can write"
)
def test_a_place_that_cannot_be_written_is_refused_at_the_start(monkeypatch, capsys):
    untrained(monkeypatch)
    assert main(["distill", *SMALL, "--out", "/proc/run"]) == 2
    assert "cannot write to /proc/run" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder_is_refused_at_the_start(tmp_path, monkeypatch, capsys):
    untrained(monkeypatch)
    tmp_path.chmod(0o555)
    try:
        assert main(["distill", *SMALL, "--out", str(tmp_path / "run")]) == 2
    finally:
        tmp_path.chmod(0o755)
    assert "cannot write" in capsys.readouterr().err


def test_a_linked_folder_is_followed_and_readable_by_others(tmp_path, straight):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert main(["distill", *SMALL, "--out", str(tmp_path / "link")]) == 0
    assert digest(tmp_path / "real") == straight
    for name in contents(tmp_path / "real"):
        assert (tmp_path / "real" / name).stat().st_mode & 0o777 == 0o644, name
