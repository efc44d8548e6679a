"""Processes to interrupt, and the unbroken run they are compared with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fork_server import Server
from small_run import SMALL, digest


@pytest.fixture(scope="session")
def server():
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("fork_server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )
    yield Server(process)
    process.stdin.close()
    process.wait(20)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def straight(server, tmp_path_factory):
    """Digests of a run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("straight")
    done = server.run("distill", *SMALL, "--out", "run", folder=folder)
    assert done.code == 0, done.err
    return digest(folder / "run")


@pytest.fixture
def pictures(tmp_path):
    """A folder of two classes, ten pictures each."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    for k, name in enumerate(["jay", "pelican"]):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for i in range(10):
            pixels = chance.integers(0, 128, (8, 8, 3), dtype=np.uint8) + 127 * np.uint8(k)
            Image.fromarray(pixels).save(tmp_path / "birds" / name / f"{i}.png")
    return tmp_path / "birds"
