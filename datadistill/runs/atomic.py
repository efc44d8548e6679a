"""Files that are written whole or not at all.

The bytes go to a temporary file in the same folder, are forced to disk, and then take the place of
the target in one rename; a reader, or the next start after a power cut, sees the old file or the
new one. A full or failing disk is a `ResourceError`, a place that cannot be written a `UsageError`,
and the former file is untouched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from ..errors import DatadistillError, ResourceError, UsageError
from .canonical import canonical_json

# EFBIG: the file size limit of the process or of the file system.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_PLACE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}


def write_bytes(
    path: str | os.PathLike[str], data: bytes, mode: int = 0o644, *, follow: bool = True
) -> None:
    """Write a file atomically and durably.

    Args:
        path: the target. A link to a regular file stays a link and the file behind it is replaced.
            The folder must exist.
        data: the whole content.
        mode: permission bits of the file, whatever the umask.
        follow: False replaces a link itself.
    """
    target = Path(os.path.realpath(path) if follow else path)
    temporary: str | None = None
    try:
        _refuse_irregular(target, path)
        # [:50]: at most 200 bytes in UTF-8, so that the temporary name fits where the target's does
        fd, temporary = tempfile.mkstemp(
            prefix=f".{target.name[:50]}.", suffix=".tmp", dir=target.parent
        )
        try:
            write_all(fd, data)
            os.chmod(temporary, mode)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, target)
        temporary = None
        fsync_folder(target.parent)
    except OSError as error:
        raise wrap_oserror(error, path, len(data)) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_text(path: str | os.PathLike[str], text: str, mode: int = 0o644) -> None:
    """Write a text file in UTF-8 atomically; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"), mode)


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write canonical JSON (sorted keys, two spaces a level, a newline at the end) atomically; a
    link that lies there is replaced, not followed."""
    write_bytes(path, (canonical_json(obj, indent=2) + "\n").encode("ascii"), follow=False)


def write_all(fd: int, data: bytes) -> None:
    """Write all bytes to an open file; `os.write` alone may stop half-way."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def fsync_folder(folder: str | os.PathLike[str]) -> None:
    """Force a folder's entries (new names, renames) to disk."""
    if os.name == "nt":  # folders cannot be opened there
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        # some network file systems have no such call for folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def wrap_oserror(
    error: OSError, path: str | os.PathLike[str], needed: int | None = None
) -> DatadistillError:
    """The `ResourceError` for a full or failing disk, the `UsageError` for a place that cannot be
    written. `needed`: the bytes that were to be written, if known."""
    if error.errno in _FULL:
        wanted = "" if needed is None else f"{needed} bytes needed, "
        return ResourceError(
            f"no room to write {path} ({error.strerror}): {wanted}{_measure_free(Path(path))} "
            "free; make room or write to another disk"
        )
    if error.errno in _PLACE:
        return UsageError(
            f"cannot write to {path}: {error.strerror}; choose a place that can be written"
        )
    return ResourceError(f"could not write {path}: {error.strerror or error}")


def _measure_free(path: Path) -> str:
    for folder in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            return f"{shutil.disk_usage(folder).free} bytes"
    return "an unknown number of bytes"


def _refuse_irregular(target: Path, path: str | os.PathLike[str]) -> None:
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise UsageError(f"cannot write to {path}: it is {what}; give the name of a file")
