"""Outputs never lie among the images that are read: they would be taken for a class, or for an
image."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UsageError


def refuse_inside(
    out: str | os.PathLike[str] | None, images: str | os.PathLike[str] | None, what: str = "--out"
) -> None:
    """Refuse a place `out` inside a folder of images, also by way of links and relative paths.
    `what` is the option that chooses another place.

    Places below a name that starts with a dot are allowed: such names are passed over where images
    are read.
    """
    if out is None or images is None:
        return
    root = Path(images).expanduser()
    if not root.is_dir():
        return  # whoever reads it says what is wrong
    try:
        folders = [root, *(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))]
    except OSError:
        return  # likewise
    read = {_identity(folder) for folder in folders}
    target = Path(os.path.realpath(Path(out).expanduser()))
    for place in (target, *target.parents):
        if _identity(place) in read:
            if not any(part.startswith(".") for part in target.relative_to(place).parts):
                raise UsageError(
                    f"{os.fspath(out)} lies inside {os.fspath(images)}, the folder of images, "
                    "where it would be taken for a class or an image; choose a place "
                    f"outside ({what})"
                )
            return


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, which are the same by every name of a folder; None where it does not
    exist."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
