"""Writing accuracies into the file of the set that they were measured on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datadistill import distilled_file
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError
from datadistill.runs.lock import RunLock
from datadistill.runs.regular import refuse_irregular

SAID_BY_THE_SET = ("protocol", "epochs", "training", "net_args", "init", "values")
"""Keys of an evaluation by the set's own protocol that its file does not repeat."""


def save_accuracies(
    path: str | os.PathLike[str], measured: DistilledDataset, accuracies: Mapping[str, Any]
) -> Path:
    """Write accuracies, by the keys of `Evaluation`, into the file of the set, or of its run
    folder, if that still holds the set that was `measured`. Returns the file.

    A measurement takes minutes, in which a run may have gone on and saved a longer one. The file is
    read again under the run's lock, and only the accuracies of the very same set are written.
    """
    path = Path(path)
    file = distilled_file.SET.find(path)
    with _lock_of(file):
        now = DistilledDataset.load(file)
        if distilled_file.identity(now) != distilled_file.identity(measured):
            raise DataError(
                f"{file} holds another set than the one that was measured: it was saved meanwhile; "
                "the accuracies were not written; measure that one: datadistill "
                f"evaluate {path} --save"
            )
        now.accuracies = {k: v for k, v in accuracies.items() if k not in SAID_BY_THE_SET}
        now.save(file)
    return file


def _lock_of(file: Path) -> contextlib.AbstractContextManager[object]:
    """The lock of the run folder that a file lies in, if it does."""
    if not (file.parent / "config.json").exists():
        return contextlib.nullcontext()
    refuse_irregular(file.parent)
    return RunLock(file.parent)
