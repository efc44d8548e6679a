"""Faults 1 to 3 and 9: signals at any stage of a run, and two processes in one folder."""

import os
import signal

import pytest
from fork_server import until
from small_run import SMALL, contents, digest

from datadistill import DistilledDataset
from datadistill.cli import main
from datadistill.runs.folder import RunFolder

LONG = [*SMALL, "--iterations", "100000", "--out", "run"]


def test_sigterm_in_the_outer_loop_saves_and_says_how_to_go_on(server, tmp_path, straight):
    run = server.start("distill", *SMALL, "--out", "run", folder=tmp_path)
    until(lambda: "iteration 10/40" in run.err)
    run.send(signal.SIGTERM)
    assert run.wait() == 143
    assert "go on with: datadistill distill --resume run" in run.err.splitlines()[-1]
    saved = RunFolder.open(tmp_path / "run").checkpoints.iterations()[-1]
    assert f"saved at iteration {saved} of 40;" in run.err and 10 <= saved < 40
    resumed = server.run(
        "distill", "--resume", "run", "--no-evaluate", "--no-figures", folder=tmp_path
    )
    assert resumed.code == 0, resumed.err
    assert f"going on from iteration {saved} of 40" in resumed.err
    assert digest(tmp_path / "run") == straight


def test_sigterm_while_the_result_is_measured(server, tmp_path, straight):
    measured = [word for word in SMALL if word != "--no-evaluate"]
    run = server.start(
        "distill", *measured, "--nets-tested", "1000000", "--out", "run", folder=tmp_path
    )
    until(lambda: "learned 10 images" in run.out)
    run.send(signal.SIGTERM)
    assert run.wait() == 143
    assert "go on with: datadistill evaluate run" in run.err.splitlines()[-1]
    assert digest(tmp_path / "run") == straight  # saved before it was measured
    assert DistilledDataset.load(tmp_path / "run").accuracies == {}


def test_sigterm_while_data_are_read_leaves_nothing(tmp_path, monkeypatch, capsys):
    from datadistill.training import learning_from_config

    read = learning_from_config.load_run_data

    def interrupted(config, options):
        signal.raise_signal(signal.SIGTERM)
        return read(config, options)

    monkeypatch.setattr(learning_from_config, "load_run_data", interrupted)
    monkeypatch.chdir(tmp_path)
    assert main(["distill", *LONG]) == 143
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_ctrl_c_while_saving_leaves_whole_checkpoints(server, tmp_path, straight, first):
    run = server.start("distill", *SMALL, "--out", "run", folder=tmp_path, patch="slow_saves")
    until(lambda: list(tmp_path.glob("run/checkpoints/step-000020.tmp")))
    run.send(first)
    until(lambda: "stopping" in run.err)
    run.send(signal.SIGINT)
    assert run.wait() == 130
    folder = RunFolder.open(tmp_path / "run")
    assert folder.checkpoints.load_latest(clean=False).iteration == 10
    resumed = server.run(
        "distill", "--resume", "run", "--no-evaluate", "--no-figures", folder=tmp_path
    )
    assert resumed.code == 0, resumed.err
    assert "left by an interrupted save" in resumed.err
    assert digest(tmp_path / "run") == straight


PAIRS = range(int(os.environ.get("DATADISTILL_PAIRS", "2")))  # 20 by hand


def test_of_two_processes_that_begin_together_one_is_refused(server, tmp_path, straight):
    for pair in PAIRS:
        argv = ["distill", *SMALL, "--out", f"run-{pair}"]
        both = [server.start(*argv, folder=tmp_path) for _ in range(2)]
        assert sorted(run.wait() for run in both) == [0, 2], [run.err for run in both]
        refused = next(run.err for run in both if "error:" in run.err)
        assert "in use by pid" in refused or "already holds a run" in refused
        assert digest(tmp_path / f"run-{pair}") == straight


def test_of_two_processes_that_resume_together_one_is_refused(server, tmp_path):
    first = server.start("distill", *LONG, folder=tmp_path)
    until(lambda: (tmp_path / "run/checkpoints/step-000010").exists())
    first.send(signal.SIGKILL)
    first.wait()
    for _ in PAIRS:
        both = [server.start("distill", "--resume", "run", folder=tmp_path) for _ in range(2)]
        until(lambda: any("error:" in run.err for run in both))  # noqa: B023
        refused, winner = sorted(both, key=lambda run: "error:" not in run.err)
        assert refused.wait() == 2 and f"in use by pid {winner.pid} on " in refused.err
        until(lambda: "going on from iteration" in winner.err)  # noqa: B023
        winner.send(signal.SIGTERM)
        assert winner.wait() == 143


def test_two_processes_on_one_folder(server, tmp_path):
    first = server.start("distill", *LONG, folder=tmp_path)
    until(lambda: list(tmp_path.glob("run/checkpoints/step-000010")))
    config = (tmp_path / "run/config.json").read_bytes()
    again = server.run("distill", *LONG, folder=tmp_path)
    assert again.code == 2 and "already holds a run" in again.err
    changes = ["--iterations", "7", "--resume-with-changes"]
    second = server.run("distill", "--resume", "run", *changes, folder=tmp_path)
    assert second.code == 2 and f"in use by pid {first.pid} on " in second.err
    assert (tmp_path / "run/config.json").read_bytes() == config
    first.send(signal.SIGKILL)
    assert first.wait() == -9
    before = contents(tmp_path / "run")
    third = server.start("distill", "--resume", "run", folder=tmp_path)
    until(lambda: "going on from iteration" in third.err)
    third.send(signal.SIGTERM)
    assert third.wait() == 143
    assert f"took over the lock of pid {first.pid}" in third.err
    assert contents(tmp_path / "run") != before
