"""One process at a time in a run folder.

The lock is `flock` on the file `lock`, so it ends with the process that holds it, however that
dies. The file says who holds it: pid, host and the process's start time, which tells a process from
a later one with the same pid. They are for the message, and stand in for `flock` on file systems
that have none.

A file that names its owner, without `flock` (filelock's `SoftFileLock`), would keep a folder whose
owner was killed on another machine or in another container, is dead and not yet reaped, or died
before it wrote its name.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
import warnings
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import UsageError
from .atomic import wrap_oserror, write_all
from .regular import open_run_file

try:
    import fcntl
except ImportError:  # Windows: only the recorded pid protects the folder there
    fcntl = None  # type: ignore[assignment]

_held: weakref.WeakSet[RunLock] = weakref.WeakSet()


class RunLock:
    """Holds a folder for this process.

    Use it as a context manager, or call `acquire` and `release`. A child made by fork (a data
    loader's worker) does not hold the lock: it would keep it after its parent is killed.

    Args:
        folder: an existing folder.

    Attributes:
        note: a sentence if the lock of a dead process was taken over (also given as a warning),
            else None.

    Example:
        >>> with RunLock(getfixture("tmp_path")) as lock:
        ...     lock.path.name
        'lock'
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.path = self.folder / "lock"
        self.note: str | None = None
        self._fd: int | None = None

    def acquire(self) -> RunLock:
        """Take the lock or raise `UsageError`; waits, a second at most, only for an owner to write
        its name."""
        if self._fd is not None:
            return self
        deadline = time.monotonic() + 1.0
        while self._fd is None:
            try:
                fd = open_run_file(self.path, os.O_RDWR | os.O_CREAT)
            except OSError as error:
                raise wrap_oserror(error, self.path) from error
            try:
                self._take(fd, wait=time.monotonic() < deadline)
            finally:
                if self._fd is None:
                    os.close(fd)
        return self

    def release(self) -> None:
        """Give the lock back and remove its file; does nothing if it is not held."""
        if self._fd is None:
            return
        with contextlib.suppress(OSError):
            # removed before it is unlocked: whoever waits on this file finds its name gone and
            # starts again
            if self._is_current(self._fd):
                os.unlink(self.path)
        self._forget()

    def __enter__(self) -> RunLock:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _take(self, fd: int, wait: bool) -> None:
        """Lock the open file and sign it. Leaves `_fd` None where the file must be opened again."""
        locked = _flock(fd)
        owner = _read_owner(fd)
        here = socket.gethostname()
        mine = owner.get("pid") == os.getpid() and owner.get("started") == _start_time(os.getpid())
        lives = owner.get("host") == here and _is_alive(owner)
        signed = lives or owner.get("host", here) != here
        # taken a moment ago: its owner is still to write its name
        if locked is False and not signed and wait:
            time.sleep(0.01)
            return
        if locked is False or (locked is None and not mine and lives):
            who = f"pid {owner['pid']} on {owner['host']}" if owner else "another process"
            raise UsageError(
                f"{self.folder} is in use by {who}; wait until it ends, or choose another folder"
            )
        if not self._is_current(fd):
            return
        if locked and os.fstat(fd).st_nlink > 1:
            os.unlink(self.path)  # that of a copy made of hard links: not this folder's alone
            return
        if owner and not mine:
            who = f"pid {owner['pid']} on {owner['host']}"
            self.note = f"{self.folder}: took over the lock of {who}, which no longer runs"
            warnings.warn(self.note, stacklevel=4)
        me = {"pid": os.getpid(), "host": here, "started": _start_time(os.getpid())}
        try:
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            write_all(fd, json.dumps(me).encode("ascii") + b"\n")
        except OSError as error:
            raise wrap_oserror(error, self.path) from error
        self._fd = fd
        _held.add(self)

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def _forget(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        _held.discard(self)


def _flock(fd: int) -> bool | None:
    """True: locked. False: somebody else holds it. None: this file system or machine has no such
    lock."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        return None


def _read_owner(fd: int) -> dict[str, Any]:
    """The owner that the lock file names; empty if it names none legibly."""
    try:
        owner = json.loads(os.read(fd, 4096))
    except (OSError, ValueError, RecursionError):
        return {}
    if (
        not isinstance(owner, dict)
        or type(owner.get("pid")) is not int
        or type(owner.get("host")) is not str
    ):
        return {}
    return owner if owner["pid"] > 0 else {}


def _is_alive(owner: dict[str, Any]) -> bool:
    """Whether the process that signed still runs on this machine."""
    started = _start_time(owner["pid"])
    if started is not None and owner.get("started") is not None:
        return started == owner["started"]
    if os.name == "nt":  # os.kill(pid, 0) is a Ctrl-C there
        return True
    try:
        os.kill(owner["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # it runs, under another user
    return True


def _start_time(pid: int) -> int | None:
    """Clock ticks from boot to a process's start, where /proc tells it; -1 for a dead one not yet
    reaped."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        # the name in field 2 may hold blanks and brackets: count from its end (state is 3, start
        # time 22)
        fields = text[text.rindex(")") + 2 :].split()
        return -1 if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def _after_fork() -> None:
    for lock in list(_held):
        lock._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
