"""Signals: the first Ctrl-C or SIGTERM lets the iteration finish, the second Ctrl-C does not wait.

with StopFlag() as stop:
    for i in range(iterations):
        step(i)
        if stop.requested:
            checkpoint(i)
            stop.raise_if_requested(f"stopped after iteration {i}; go on with --resume {folder}")

What takes long and changes nothing (reading data, testing nets) need not finish: it calls `poll()`
once an image or a batch, and whoever started it says by `interruptible` that it may be broken off
there, and with which sentence. No function in between knows of it.

    with StopFlag(), interruptible("stopped; nothing was written"):
        test_all(nets)                                                # calls poll() now and then
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from ..errors import Interrupted

_LINE = "stopping after this iteration; press Ctrl-C again to stop at once"
_current = threading.local()  # .flag: the innermost StopFlag of this thread


class StopFlag:
    """Turns SIGINT and SIGTERM into a flag that a loop polls.

    Inside the block the first signal sets `requested` to its number and prints one line to stderr.
    A SIGINT after that leaves the process at once with code 130: files are written atomically, so
    whatever was being saved is complete or absent. A SIGTERM after the first signal changes
    nothing. The former handlers come back at the end of the block.

    Flags nest: only the innermost sees a signal, hands it to the one around it at its end, and
    starts set where that one is.

    `deferred`: a signal is `pending`, and nothing sees it until somebody sets `requested`: ranks
    that work together must all break off at the same place, on which they agree.

    Signals that the process was started with ignored (a background job of a shell script, `nohup`)
    stay ignored. Outside the main thread Python allows no handlers: the block then does nothing,
    and `requested` can be set by hand (as it can to pass on another rank's signal).

    Example:
        >>> with StopFlag() as stop:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     stop.requested == signal.SIGTERM
        True
    """

    def __init__(self, *, deferred: bool = False) -> None:
        self.requested: int | None = None
        self.pending: int | None = None
        self.deferred = deferred
        self._previous: dict[int, Any] = {}
        self._sentences: list[str] = []  # of the `interruptible` blocks around
        self._around: StopFlag | None = None

    def __enter__(self) -> StopFlag:
        self._around, _current.flag = getattr(_current, "flag", None), self
        if self._around is not None and self.requested is None:
            self._take(self._around.requested or self._around.pending)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _current.flag = self._around
        if self._around is not None and self._around.requested is None:
            self._around._take(self.requested or self.pending)
        while self._previous:
            number, handler = self._previous.popitem()
            # None: installed by other than Python, which cannot put it back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def __bool__(self) -> bool:
        return self.requested is not None

    def raise_if_requested(self, message: str) -> None:
        """Raise `Interrupted` with exit code 128 + signal number (130 for SIGINT, 143 for SIGTERM)
        if a signal came. `message` says what was saved and how to resume."""
        if self.requested is not None:
            raise Interrupted(message, self.requested)

    def _take(self, number: int | None) -> None:
        if self.deferred:
            self.pending = number
        else:
            self.requested = number

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested is None and self.pending is None:
            self._take(number)
            _say(_LINE)
        elif number == signal.SIGINT:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(128 + signal.SIGINT)


@contextlib.contextmanager
def interruptible(message: str = "") -> Iterator[None]:
    """Let `poll` raise `Interrupted` in this block, where a `StopFlag` is around it; at once where
    a signal has come before. `message` says what was saved and how to resume; default: that of the
    block around.

    Example:
        >>> with StopFlag() as stop, interruptible("stopped; nothing was written"):
        ...     stop.requested = signal.SIGTERM
        ...     poll()
        Traceback (most recent call last):
        ...
        datadistill.errors.Interrupted: stopped; nothing was written
    """
    flag = innermost()
    if flag is None:
        yield
        return
    around = flag._sentences[-1] if flag._sentences else ""
    flag._sentences.append(message or around)
    try:
        poll()
        yield
    finally:
        flag._sentences.pop()


def innermost() -> StopFlag | None:
    """The `StopFlag` of this thread that sees signals now."""
    flag: StopFlag | None = getattr(_current, "flag", None)
    return flag


def poll() -> None:
    """Raise `Interrupted` where a signal has come and the innermost `StopFlag` is in an
    `interruptible` block.

    Called where breaking off leaves nothing half done: before an image is read, a batch tested, a
    step of a net that is only tested.
    """
    flag = innermost()
    if flag is not None and flag.requested is not None and flag._sentences:
        flag.raise_if_requested(flag._sentences[-1])


def _say(line: str) -> None:
    """Print to stderr from a signal handler: whatever is wrong with stderr, the run goes on."""
    stream = sys.stderr
    if stream is None:
        return
    replaced = stream is not sys.__stderr__  # by a notebook, say
    with contextlib.suppress(Exception):  # closed, or a pipe whose reader has gone
        if replaced:
            stream.write(line + "\n")
            stream.flush()
        else:
            # past the buffer: the handler may have interrupted a print, and a line that cannot be
            # written would stay in the buffer and turn the exit code into Python's 120
            os.write(stream.fileno(), line.encode("ascii") + b"\n")
