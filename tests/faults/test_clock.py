"""Fault 37: the wall clock jumps back, the time zone changes, two runs begin in one second."""

import itertools
import json
import time

from small_run import SMALL, digest

from datadistill.cli import main
from datadistill.runs.folder import RunFolder

SHORT = [*SMALL, "--iterations", "20"]


def test_a_wall_clock_that_runs_backwards_does_not_show(tmp_path, monkeypatch, capsys):
    assert main(["distill", *SHORT, "--out", str(tmp_path / "before")]) == 0
    capsys.readouterr()
    later = itertools.count(4e9, -1000)
    monkeypatch.setattr(time, "time", lambda: next(later))
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    assert main(["distill", *SHORT, "--out", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] > 0
    sessions = [line["seconds"] for line in RunFolder.open(tmp_path / "run").read_timing()]
    assert sessions == sorted(sessions) and min(sessions) >= 0
    assert digest(tmp_path / "run") == digest(tmp_path / "before")


def test_two_runs_in_one_second_do_not_share_a_folder(tmp_path, monkeypatch, capsys):
    """The default folder is named by recipe and seed, not by the time: the second run is
    refused."""
    monkeypatch.setattr(time, "time", lambda: 1.0)
    monkeypatch.chdir(tmp_path)
    assert main(["distill", *SHORT]) == 0
    assert main(["distill", *SHORT]) == 2
    assert "runs/digits-random-s0 already holds a run" in capsys.readouterr().err
    assert main(["distill", *SHORT, "--seed", "1"]) == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [
        "digits-random-s0",
        "digits-random-s1",
    ]
