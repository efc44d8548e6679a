"""Progress of whatever takes long: a bar on a terminal, plain lines elsewhere, or a function of the
caller's.

Library code names its tasks, and the caller decides whether they are shown:

    with reporting(True):                                  # or a function of (what, done, total)
        with track("testing nets", total=200) as task:
            task.advance()

Every function that may run for more than a few seconds takes `progress=`. Tasks may lie inside each
other: the outermost has the bar, the innermost is named beside it.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, ParamSpec, Protocol, TypeVar

from datadistill.errors import UsageError, escape

LINE_EVERY = 5.0  # seconds between plain lines
BAR, SHORTEST_BAR = 30, 8  # columns
BAR_AFTER = 3  # words that are worth more than the bar
P = ParamSpec("P")
T = TypeVar("T")

Report = Callable[[str, int, int | None], Any]
"""What is done, how much of it, and how much it is in all (None: unknown)."""


class Task:
    """Some work: a few words, the units of work in all (None: unknown), and those done before."""

    def __init__(
        self, what: str, total: int | None = None, start: int = 0, display: Display | None = None
    ) -> None:
        self.what, self.total, self.start, self.done = what, total, start, start
        self.parts: tuple[str, ...] = ()
        self.began = time.monotonic()
        self._display = display

    def advance(self, units: int = 1) -> None:
        """Some units more are done."""
        self.update(self.done + units)

    def update(self, done: int, *parts: str) -> None:
        """Set the number of units done in all. `parts` is what else is known, in order of worth:
        what does not fit on the line is left out."""
        self.done = done
        if parts:
            self.parts = parts
        if self._display is not None:
            self._display.move(self)

    def speed(self) -> float:
        """Units a second since the start."""
        return (self.done - self.start) / max(time.monotonic() - self.began, 1e-9)

    def format_left(self) -> str:
        """Time left, such as "1:05 left"; empty where nothing is known of it."""
        speed = self.speed()
        if self.total is None or speed <= 0:
            return ""
        seconds = int((self.total - self.done) / speed)
        hours, rest = divmod(seconds, 3600)
        clock = (
            f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
            if hours
            else f"{rest // 60}:{rest % 60:02d}"
        )
        return f"{clock} left"

    def count(self) -> str:
        """Such as "12/200"."""
        return f"{self.done}" if self.total is None else f"{self.done}/{self.total}"


class Display(Protocol):
    """A place where tasks are shown."""

    def begin(self, task: Task) -> None: ...

    def move(self, task: Task) -> None: ...

    def end(self, task: Task) -> None: ...

    def say(self, line: str) -> None: ...


_DISPLAY: ContextVar[Display | None] = ContextVar("progress_display", default=None)


@contextlib.contextmanager
def track(what: str, total: int | None = None, start: int = 0) -> Iterator[Task]:
    """A task, shown where somebody asked for progress.

    Example:
        >>> with reporting(lambda what, done, total: print(what, done, total)):
        ...     with track("testing nets", total=2) as task:
        ...         task.advance()
        testing nets 0 2
        testing nets 1 2
    """
    shown = _DISPLAY.get()
    task = Task(what, total, start, shown)
    if shown is None:
        yield task
        return
    shown.begin(task)
    try:
        yield task
    finally:
        shown.end(task)


def iterate(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """The items, one unit of work each."""
    with track(what, total) as task:
        for item in items:
            yield item
            task.advance()


def show_progress(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function with an argument `progress` show its tasks; see `reporting`."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with reporting(kwargs.get("progress", False)):  # type: ignore[arg-type]
            return function(*args, **kwargs)

    return run


@contextlib.contextmanager
def reporting(progress: bool | Report | None = True) -> Iterator[None]:
    """Show the tasks that begin meanwhile: True on stderr; or by a function that is called with
    (what, done, total). False or None changes nothing: what calls from outside asked for is
    shown."""
    if not (isinstance(progress, bool) or progress is None or callable(progress)):
        raise UsageError(
            f"progress is {progress!r}, wanted True, False, or a function of (what, done, total)"
        )
    if not progress or (progress is True and _DISPLAY.get() is not None):
        yield
        return
    token = _DISPLAY.set(Terminal() if progress is True else Told(progress))
    try:
        yield
    finally:
        _DISPLAY.reset(token)


def display() -> Display | None:
    """The place where tasks are shown now; None: nowhere."""
    return _DISPLAY.get()


def announce(line: str) -> None:
    """Print a line where progress is shown."""
    if (shown := _DISPLAY.get()) is not None:
        shown.say(line)


class Told:
    """Progress as calls of a function."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def begin(self, task: Task) -> None:
        self.report(task.what, task.done, task.total)

    move = begin

    def end(self, task: Task) -> None:
        pass

    def say(self, line: str) -> None:
        pass


class Terminal:
    """A bar on a terminal; elsewhere a plain line every `LINE_EVERY` seconds."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True)
        self.draws = self.console.is_terminal and not self.console.is_dumb_terminal
        self.tasks: list[Task] = []
        self.live: Any = None
        self.said = -math.inf

    def begin(self, task: Task) -> None:
        self.tasks.append(task)
        if self.draws and self.live is None:
            from rich.live import Live

            self.live = Live(
                console=self.console,
                get_renderable=self._line,
                refresh_per_second=4,
                transient=True,
                # stdout may be a file: what is printed there must not come here
                redirect_stdout=bool(getattr(sys.stdout, "isatty", lambda: False)()),
            )
            self.live.start()
        elif not self.draws and len(self.tasks) == 1:
            self.said = time.monotonic()  # the first line comes after `LINE_EVERY` seconds

    def move(self, task: Task) -> None:
        now = time.monotonic()
        if not self.draws and now - self.said >= LINE_EVERY:
            self.said = now
            say("  ".join(_describe_tasks(self.tasks)))

    def end(self, task: Task) -> None:
        self.tasks.remove(task)
        if not self.tasks and self.live is not None:
            self.live.stop()
            self.live = None

    def say(self, line: str) -> None:
        self.said = time.monotonic()
        if self.live is not None:
            self.console.print(escape(line), highlight=False, markup=False)
        else:
            say(line)

    def _line(self) -> Any:
        from rich.text import Text

        shown = fit_line(self.tasks, self.console.width - 1, self.console.encoding)
        return Text(shown, no_wrap=True, overflow="crop")


def fit_line(tasks: Sequence[Task], width: int, encoding: str = "utf-8") -> str:
    """One line about tasks, the outermost first, in at most `width` columns: what is worth least
    goes first.

    In order of worth: how much is done, time left, what is done, the bar, what is known, speed.

    Example:
        >>> task = Task("learning", total=200)
        >>> task.done, task.parts = 50, ("loss 0.123", "accuracy 81.5% (validation)")
        >>> len(fit_line([task], 60)) <= 60
        True
        >>> fit_line([task], 8)
        '50/200'
    """
    if not tasks:
        return ""
    first, words = tasks[0], _describe_tasks(tasks)
    chosen, room, bar = [words[0][:width]], width - len(words[0]), False
    for n, word in enumerate(words[1:], 1):
        if n == BAR_AFTER and first.total and room >= SHORTEST_BAR + 2:
            bar, room = True, room - SHORTEST_BAR - 2
        if len(word) + 2 <= room:
            chosen.append(word)
            room -= len(word) + 2
    text = "  ".join(chosen)
    if not bar and first.total and len(words) <= BAR_AFTER and room >= SHORTEST_BAR + 2:
        bar, room = True, room - SHORTEST_BAR - 2
    if not bar or first.total is None:
        return text
    length = min(BAR, SHORTEST_BAR + room)
    full = round(length * min(1.0, first.done / first.total))
    try:
        "━─".encode(encoding)
        return f"{'━' * full}{'─' * (length - full)}  {text}"
    except (UnicodeEncodeError, LookupError):
        return f"{'#' * full}{'-' * (length - full)}  {text}"


def per_second(speed: float) -> str:
    """Iterations a second, or seconds an iteration where they are slow."""
    return f"{speed:.1f} it/s" if speed >= 1 or speed <= 0 else f"{1 / speed:.1f} s/it"


def say(line: str) -> None:
    """A plain line on stderr; an absent, closed or narrow-charset stream does not stop a run."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(escape(line) + "\n")
        sys.stderr.flush()
    except UnicodeEncodeError:
        sys.stderr.write(line.encode("ascii", "replace").decode() + "\n")
    except (OSError, ValueError):
        pass


def _describe_tasks(tasks: Sequence[Task]) -> list[str]:
    """The parts of a line about tasks, in order of worth."""
    first = tasks[0]
    speed = per_second(first.speed()) if first.done > first.start else ""
    inner = f"{tasks[-1].what} {tasks[-1].count()}" if len(tasks) > 1 else ""
    told = (
        first.count(),
        first.format_left(),
        first.what,
        *first.parts[:2],
        inner,
        speed,
        *first.parts[2:],
    )
    return [escape(word) for word in told if word]
