"""Finished runs that lie elsewhere: found by their config, wherever they were made.

A run serves where its kind and its config are the wanted ones, save for what names no number: the
recipe's name, and the fields that a resumed run may change freely (`HARMLESS`). The pool that a set
was learned with is compared by its fingerprint, not by where it lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from datadistill.config import HARMLESS
from datadistill.errors import DatadistillError, UsageError
from datadistill.runs.folder import RunFolder

IGNORED = ("recipe", *HARMLESS)
DEPTH = 3  # levels of folders below the one that is named


def refuse_missing(folders: Sequence[Path]) -> None:
    """UsageError for a folder that is not there."""
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(
                f"--reuse {folder} is no folder; pass a run folder, or a folder of them"
            )


def candidates(folders: Sequence[Path], kind: str, result: str) -> Iterator[RunFolder]:
    """Run folders of a kind in which the file `result` of a finished run lies, in the given folders
    and three levels below, in a fixed order."""
    for folder in folders:
        for depth in range(DEPTH + 1):
            for found in sorted(
                folder.glob("/".join(["*"] * depth + [result]) if depth else result)
            ):
                try:
                    yield RunFolder.open(found.parent, kind=kind)
                except DatadistillError:  # another kind, or not a run of this library
                    continue
