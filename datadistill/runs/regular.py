"""Opening what belongs to a run: regular files of the run folder itself, never what a link in it
points to.

A run folder may come from elsewhere (an archive keeps links). A `metrics.jsonl` that is a link
would be cut or appended to behind the link, outside the folder; a named pipe would wait for a
writer; a link to a device would fill the memory. A link to the run folder itself is followed: that
is the user's own.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import UsageError

FILES = (
    "config.json",
    "environment.json",
    "lock",
    "metrics.jsonl",
    "timing.jsonl",
    "report.html",
    "*.safetensors",
    "table.md",
    "table.csv",
    "figure.png",
    "ledger.md",
    "ledger.csv",
    "ledger.png",
    "generations.png",
)
"""Names of the files that a run leaves in its folder."""
FOLDERS = ("checkpoints", "figures", "nets", "rows", "payloads", "measured", "weights")
"""Folders of a run; what lies in them is the run's too. A run below another one may be a link."""
CHECKPOINT = "step-*"

# O_NONBLOCK: opening a pipe must not wait for its other end; it changes nothing for a regular file
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
# what the system says of a link, of a pipe or a socket without an other end, and of a folder
_IRREGULAR = {
    errno.ELOOP,
    errno.EMLINK,
    errno.ENXIO,
    errno.EISDIR,
    getattr(errno, "EOPNOTSUPP", errno.ENXIO),
}


def open_run_file(path: str | os.PathLike[str], flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
    """Open a file of a run, as `os.open` does; UsageError for a link, a folder, a pipe, a socket or
    a device.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> (folder / "lock").symlink_to(folder / "elsewhere")
        >>> open_run_file(folder / "lock", os.O_RDWR | os.O_CREAT)
        Traceback (most recent call last):
        ...
        datadistill.errors.UsageError: ...lock is a symbolic link, not a regular file; remove it
    """
    try:
        fd = os.open(path, flags | _FLAGS, mode)
    except OSError as error:
        if error.errno in _IRREGULAR:
            raise _irregular(path) from None
        raise
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise _irregular(path)


def read_run_file(path: str | os.PathLike[str]) -> bytes:
    """The content of a file of a run; see `open_run_file`."""
    with os.fdopen(open_run_file(path), "rb") as file:
        return file.read()


def refuse_irregular(folder: str | os.PathLike[str]) -> None:
    """Refuse a run folder in which something is no regular file of the run itself, or no folder
    where one belongs; nothing is opened."""
    for entry in _entries(folder):
        if any(fnmatch.fnmatch(entry.name, name) for name in FILES):
            _refuse_other_than_file(entry)
        elif entry.name in FOLDERS:
            _refuse_other_than_folder(entry)
            for inner in _entries(entry.path):
                if entry.name == "checkpoints":
                    if fnmatch.fnmatch(inner.name, CHECKPOINT):
                        _refuse_other_than_folder(inner)
                        for part in _entries(inner.path):
                            _refuse_other_than_file(part)
                elif not inner.is_dir():  # follows a link: a run of its own may lie elsewhere
                    _refuse_other_than_file(inner)


def _entries(folder: str | os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)
    except OSError:  # gone meanwhile, or not to be read: whoever opens it says so
        return


def _refuse_other_than_file(entry: os.DirEntry[str]) -> None:
    if not entry.is_file(follow_symlinks=False) and os.path.lexists(entry.path):
        raise _irregular(entry.path)


def _refuse_other_than_folder(entry: os.DirEntry[str]) -> None:
    if not entry.is_dir(follow_symlinks=False) and os.path.lexists(entry.path):
        what = "a symbolic link" if entry.is_symlink() else "no folder"
        raise UsageError(f"{entry.path} is {what}, wanted a folder of the run itself; remove it")


def _irregular(path: str | os.PathLike[str]) -> UsageError:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        mode = 0
    kinds = {
        stat.S_IFLNK: "a symbolic link, ",
        stat.S_IFDIR: "a folder, ",
        stat.S_IFIFO: "a named pipe, ",
    }
    kinds |= {stat.S_IFSOCK: "a socket, ", stat.S_IFCHR: "a device, ", stat.S_IFBLK: "a device, "}
    what = kinds.get(stat.S_IFMT(mode), "")
    return UsageError(f"{Path(path)} is {what}not a regular file; remove it")
