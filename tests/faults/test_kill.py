"""Fault 4: kill -9 at random moments. Every folder loads, and resumes to the bytes of an unbroken
run."""

import random
import signal
import time

import pytest
from fork_server import until
from small_run import SMALL, digest

from datadistill.runs.folder import RunFolder


@pytest.mark.slow
def test_killed_between_any_two_checkpoints(server, tmp_path, straight):
    chance = random.Random(4)
    resumed_from = []
    for kill in range(8):
        name = f"run-{kill}"
        run = server.start("distill", *SMALL, "--out", name, folder=tmp_path)
        wanted = kill % 4  # checkpoints to wait for: 0 kills while the folder is being made
        steps = tmp_path / name / "checkpoints"
        until(lambda: wanted == 0 or (steps / f"step-{10 * wanted:06d}").exists())  # noqa: B023
        time.sleep(chance.uniform(0, 0.1))
        run.send(signal.SIGKILL)
        assert run.wait() in (-9, 0)
        if not (tmp_path / name / "config.json").exists():  # no run yet: the same command starts it
            again = server.run("distill", *SMALL, "--out", name, folder=tmp_path)
        else:
            checkpoint = RunFolder.open(tmp_path / name).checkpoints.load_latest(clean=False)
            resumed_from.append(0 if checkpoint is None else checkpoint.iteration)
            again = server.run(
                "distill", "--resume", name, "--no-evaluate", "--no-figures", folder=tmp_path
            )
        assert again.code == 0, again.err
        assert digest(tmp_path / name) == straight, f"kill {kill}, from {resumed_from}"
    assert sum(iteration > 0 for iteration in resumed_from) >= 6


@pytest.mark.slow
def test_killed_again_and_again(server, tmp_path, straight):
    chance = random.Random(5)
    argv = ["distill", *SMALL, "--out", "run"]
    for _ in range(6):
        run = server.start(*argv, folder=tmp_path)
        time.sleep(chance.uniform(0.05, 0.4))
        run.send(signal.SIGKILL)
        run.wait()
        if (tmp_path / "run/config.json").exists():
            argv = ["distill", "--resume", "run", "--no-evaluate", "--no-figures"]
    done = server.run(*argv, folder=tmp_path)
    assert done.code == 0, done.err
    assert digest(tmp_path / "run") == straight
