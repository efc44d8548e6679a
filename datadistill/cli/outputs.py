"""Refusal of outputs over inputs."""

from __future__ import annotations

from pathlib import Path

from datadistill.errors import UsageError
from datadistill.runs.folder import RESULT_FILES


def refuse_inputs(out: Path, *inputs: Path | None) -> None:
    """UsageError where `out` is one of the inputs, files or run folders, or the result in a run
    folder that is one."""
    for given in inputs:
        if given is None:
            continue
        for read in (given, *(given / name for name in RESULT_FILES)):
            if out.exists() and read.exists() and out.samefile(read):
                raise UsageError(
                    f"--out {out} is {read} itself, which would be lost; pass another file"
                )
