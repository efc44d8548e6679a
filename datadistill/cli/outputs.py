"""Names of new files, and refusal of outputs over inputs."""

from __future__ import annotations

import os
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


def name_beside(set_: Path, what: str) -> Path:
    """NAME-what.safetensors beside a set's file or run folder."""
    beside = Path(os.path.abspath(set_)) if set_.name in ("", "..") else set_
    name = beside.name if set_.is_dir() else beside.stem
    return beside.with_name(f"{name}-{what}.safetensors")


def refuse_taken(out: Path) -> None:
    """UsageError unless `out` is a new file in a folder that is there."""
    if out.exists():
        raise UsageError(f"{out} exists already; pass --out FILE, one that does not exist")
    if not out.parent.is_dir():
        raise UsageError(f"cannot write to {out}: {out.parent} is no folder; make it first")
