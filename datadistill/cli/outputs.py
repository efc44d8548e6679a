"""Where a command may write: never over what it read."""

from __future__ import annotations

from pathlib import Path

from datadistill.errors import UsageError

RESULTS = ("distilled.safetensors", "pool.safetensors")


def refuse_inputs(out: Path, *inputs: Path | None) -> None:
    """UsageError where `out` is one of the inputs, or the result in a run folder that is one.

    Args:
        out: the file that is to be written.
        inputs: files and run folders that were read; None for those that were not given.
    """
    for given in inputs:
        if given is None:
            continue
        for read in (given, *(given / name for name in RESULTS)):
            if out.exists() and read.exists() and out.samefile(read):
                raise UsageError(f"--out {out} is {read} itself, which would be lost; pass another file")
