"""Memory that is kept between steps."""

import os
import subprocess
import sys

import pytest

import datadistill as dd
from datadistill import allocator

FAULTS = """
import resource, sys
import torch
import datadistill as dd

if sys.argv[1] == "keep" and not dd.keep_freed_memory():
    sys.exit(7)
for _ in range(20):
    torch.ones(10_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(10_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    """Pages that the kernel had to provide for five tensors of 40 MB, one after another."""
    clean = {k: v for k, v in os.environ.items() if k.split("_")[0] not in ("MALLOC", "GLIBC")}
    command = [sys.executable, "-c", FAULTS, how]
    ran = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
    if ran.returncode == 7:
        pytest.skip("this C library has no mallopt")
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is of glibc")
def test_the_same_memory_serves_again():
    assert faults("keep") < faults("leave") / 10


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_the_users_own_choice_stays(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # not called
    assert dd.keep_freed_memory() is False


def test_another_c_library_is_left_alone(monkeypatch):
    for name in list(os.environ):
        if name == "GLIBC_TUNABLES" or name.startswith("MALLOC_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert dd.keep_freed_memory() is False
