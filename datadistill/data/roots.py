"""The folders that are searched for data sets, in order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from datadistill.errors import DataError

VARIABLE = "DATADISTILL_DATA"

Root = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None


def data_roots(root: Root = None) -> list[Path]:
    """The folders in which data sets are searched, first to last. The cache folder may not exist
    yet; the others do.

    Args:
        root: one folder, or several. None takes those of the environment variable
            `DATADISTILL_DATA` (separated as in PATH), and without it the user's cache folder for
            `datadistill`.
    """
    if root is not None:
        named = [root] if isinstance(root, str | os.PathLike) else list(root)
        said = "the data root that was given"
    else:
        named = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
        said = f"a folder of ${VARIABLE}"
    if not named:
        return [Path(platformdirs.user_cache_dir("datadistill"))]
    roots = [Path(part).expanduser() for part in named]
    for path in roots:
        if not path.is_dir():
            state = "is not a folder" if path.exists() else "does not exist"
            raise DataError(f"{path} {state}, but is {said}; create it or name another")
    return roots
