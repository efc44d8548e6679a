"""JSON lines: one canonical JSON object a line, safe to append to and to read at any moment.

A process killed while it appends leaves half a line at the end. Readers leave it out, and the next
line that is appended takes its place.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError, NumericalError
from .atomic import wrap_oserror, write_all, write_bytes
from .canonical import canonical_json, parse_json
from .regular import open_run_file, read_run_file


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append a record and hand it to the system at once."""
    try:
        line = canonical_json(dict(record)).encode("ascii") + b"\n"
    except ValueError as error:
        raise NumericalError(f"{path.name}: {error}; give None for a missing number") from None
    try:
        fd = _open_to_edit(path)
    except OSError as error:
        raise wrap_oserror(error, path) from error
    try:
        # half a line at the end, left by a killed process, is cut off
        start = _end_of_lines(fd)
        os.ftruncate(fd, start)
        os.lseek(fd, start, os.SEEK_SET)
        try:
            write_all(fd, line)
        except BaseException:
            os.ftruncate(fd, start)
            raise
    except OSError as error:
        raise wrap_oserror(error, path, len(line)) from error
    finally:
        os.close(fd)


def _open_to_edit(path: Path) -> int:
    """Open for writing in place. A file with another name elsewhere (a copy made of hard links) is
    copied first, so that the other one stays as it is."""
    fd = open_run_file(path, os.O_RDWR | os.O_CREAT)
    if os.fstat(fd).st_nlink == 1:
        return fd
    with os.fdopen(fd, "rb") as file:
        write_bytes(path, file.read(), follow=False)
    return open_run_file(path, os.O_RDWR)


def _end_of_lines(fd: int) -> int:
    """The position after the last newline of an open file."""
    end = os.lseek(fd, 0, os.SEEK_END)
    while end > 0:
        begin = max(end - 4096, 0)
        os.lseek(fd, begin, os.SEEK_SET)
        newline = os.read(fd, end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All complete lines; an absent file has none. DataError for a complete line that is
    damaged."""
    try:
        data = read_run_file(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    records = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):  # [-1]: empty, or half a line
        try:
            record = parse_json(line)
        except ValueError as error:
            raise DataError(f"{path} line {number}: {error}") from None
        if not isinstance(record, dict):
            raise DataError(f"{path} line {number} holds no JSON object")
        records.append(record)
    return records


def refuse_edited(path: Path, n_bytes: int, sha256: str) -> None:
    """Compare the beginning of the file with the digest that a checkpoint remembers; lines after it
    are newer."""
    begin = digest_of(path, n_bytes)
    if begin != sha256:
        raise DataError(
            f"{path} is damaged or was edited: its first {n_bytes} bytes are not those that the "
            "run wrote before its checkpoint; restore it from a copy"
        )


def digest_of(path: Path, n_bytes: int) -> str:
    """SHA-256 of the first bytes, as 64 hexadecimal digits; an absent file is empty."""
    try:
        data = read_run_file(path)
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return hashlib.sha256(data[:n_bytes]).hexdigest()


def durable_length(path: Path) -> int:
    """The file's length in bytes, forced to disk first; 0 if it is absent."""
    try:
        fd = open_run_file(path, os.O_RDWR)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise wrap_oserror(error, path) from error
    try:
        os.fsync(fd)
        return os.fstat(fd).st_size
    except OSError as error:
        raise wrap_oserror(error, path) from error
    finally:
        os.close(fd)


def truncate(path: Path, n_bytes: int) -> None:
    """Cut the file back to `n_bytes`, which must be the end of a line."""
    try:
        with os.fdopen(_open_to_edit(path), "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size < n_bytes:
                raise DataError(f"{path} has {size} bytes, the checkpoint was made at {n_bytes}")
            file.seek(max(n_bytes - 1, 0))
            if n_bytes and file.read(1) != b"\n":
                raise DataError(f"{path} was edited: no line ends at byte {n_bytes}")
            file.truncate(n_bytes)
            os.fsync(file.fileno())
    except OSError as error:
        raise wrap_oserror(error, path) from error
