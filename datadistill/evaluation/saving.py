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


def save_accuracies(
    path: str | os.PathLike[str], measured: DistilledDataset, accuracies: Mapping[str, Any]
) -> Path:
    """Write what was measured into the set's file, if that still holds the set.

    A measurement takes minutes, in which a run may have gone on and saved a longer one. The file is read again
    under the run's lock, and only the accuracies of the very same set are written.

    Args:
        path: the file, or its run folder.
        measured: the set as it was loaded.
        accuracies: the keys of `Evaluation`.

    Returns:
        The file.

    Raises:
        UsageError: another process is in the run folder, or it cannot be written.
        DataError: the file holds another set now.

    Example:
        >>> from datadistill import distill, recipe
        >>> d = distill(recipe("digits-random").with_changes(iterations=1, epochs=1))
        >>> file = getfixture("tmp_path") / "set.safetensors"
        >>> d.save(file)
        >>> _ = save_accuracies(file, d, {"accuracy_mean": 50.0})
        >>> DistilledDataset.load(file).accuracies
        {'accuracy_mean': 50.0}
    """
    path = Path(path)
    file = distilled_file.SET.find(path)
    with _lock_of(file):
        now = DistilledDataset.load(file)
        if distilled_file.identity(now) != distilled_file.identity(measured):
            raise DataError(
                f"{file} holds another set than the one that was measured: it was saved meanwhile; the "
                f"accuracies were not written; measure that one: datadistill evaluate {path} --save"
            )
        now.accuracies = dict(accuracies)
        now.save(file)
    return file


def _lock_of(file: Path) -> contextlib.AbstractContextManager[object]:
    """The lock of the run folder that a file lies in, if it does."""
    if not (file.parent / "config.json").exists():
        return contextlib.nullcontext()
    refuse_irregular(file.parent)
    return RunLock(file.parent)
