"""What is said of the seconds counts every session of a run, not the last alone."""

import json

import pytest
from small_kinds import KINDS, write_text

import datadistill.cli
import kd_baselines.cli
from datadistill.runs.folder import RunFolder

MAIN = {"datadistill": datadistill.cli.main, "kd-baselines": kd_baselines.cli.main}


@pytest.mark.parametrize("name", ["distill", "pretrain", "kd train", "language"])
def test_a_resumed_run_counts_the_sessions_before(tmp_path, monkeypatch, capsys, name):
    kind, main = KINDS[name], MAIN[KINDS[name].program]
    write_text(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main([*kind.start]) == 0
    RunFolder.open("run").append_timing({"iteration": 1, "seconds": 5000.0})
    capsys.readouterr()
    assert main([*kind.again, "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["seconds"] > 5000
    assert " in 50" in shown.err  # "learned ... in 5000.3 s"
