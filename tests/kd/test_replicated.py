"""A loop of one's own under DistributedDataParallel: the gradients are those of the whole batch."""

import subprocess
import sys
from pathlib import Path

import torch
from replicated_steps import gradients, make

SCRIPT = Path(__file__).with_name("replicated_steps.py")


def test_two_processes_have_the_gradients_of_the_whole_batch(tmp_path):
    argv = [str(tmp_path / "store"), str(tmp_path)]
    ranks = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), *argv],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for process in ranks:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    whole = gradients(make(0, 4), slice(None))
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        for ours, theirs in zip(found, whole, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
