"""Lines, tables and JSON on a terminal, in a pipe, or nowhere.

With --json, stdout carries one JSON object and all else goes to stderr. A reader that has gone
(`| head -1`) does not stop a command, and what a narrow character set cannot say is written as an
escape.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from datadistill.errors import ResourceError, escape
from datadistill.progress import reporting
from datadistill.stats import format_mean

NARROW = 12  # columns of a terminal that the last column of a table must have at least
PIPE_WIDTH = 120  # columns of a table that is not on a terminal


IN_ASCII = {"±": "+-", "×": "x", "η": "eta", "…": "...", "–": "-", "—": "-", "‘": "'", "’": "'"}
"""What stands for a character of ours where the character set of a stream lacks it."""


def _escape(error: UnicodeError) -> tuple[str, int]:
    """The error handler of our streams: `IN_ASCII`, else an escape such as \\xe9."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    shown = [IN_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking]
    return "".join(shown), error.end


codecs.register_error("datadistill", _escape)


def prepare() -> None:
    """Give a process that was started without stdin, stdout or stderr (`2>&-`, a daemon) ones that
    lead nowhere, and let stdout and stderr write every character, escaped where their character set
    lacks it."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            # else the next file that is opened would get this number, and stray output with it
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if fd == 0 else "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # it flushes, and the stream may be closed
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="datadistill")


def write(stream: TextIO | None, text: str) -> None:
    """Write and flush. A closed stream is nobody's failure; a full disk behind stdout is a
    ResourceError."""
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except (BrokenPipeError, ValueError):  # ValueError: closed by this process
        close_quietly(stream)
    except OSError as error:
        close_quietly(stream)
        if stream is sys.stdout:
            raise ResourceError(
                f"stdout could not be written: {error.strerror or error}"
            ) from error


def close_quietly(stream: TextIO | None) -> None:
    """Send what is still to come nowhere, so that the interpreter's last flush cannot fail."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        assert stream is not None
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class Output:
    """The output of a command; `as_json` keeps stdout for `result`."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self.stdout = sys.stdout
        self.stream = sys.stderr if as_json else sys.stdout

    @contextlib.contextmanager
    def redirect_prints(self, progress: bool = True) -> Iterator[None]:
        """While others may print: with --json, their stdout is stderr. Shows progress, unless that
        is False."""
        apart = contextlib.redirect_stdout(sys.stderr) if self.as_json else contextlib.nullcontext()
        with apart, reporting(progress):
            yield

    def say(self, *lines: str) -> None:
        """Plain lines, each of them one line whatever is in it."""
        write(self.stream, "".join(escape(line) + "\n" for line in lines))

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()
    ) -> None:
        """A table without frames; the columns numbered in `right` are set flush right."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        terminal = bool(getattr(self.stream, "isatty", lambda: False)())
        held = io.StringIO()
        console = Console(
            file=held,
            width=None if terminal else PIPE_WIDTH,
            highlight=False,
            force_terminal=terminal,
        )
        taken = sum(
            max(len(row[i]) for row in (columns, *rows)) + 2 for i in range(len(columns) - 1)
        )
        if rows and console.width - taken < NARROW:  # no room beside the others: below them
            self._print_narrow(columns, rows)
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(columns))
        for i, name in enumerate(columns):
            # the last column is the one to break: names and numbers stay whole
            last = i == len(columns) - 1
            heading = Text(to_writable(escape(name), self.stream))
            table.add_column(
                heading,
                justify="right" if i in right else "left",
                overflow="fold",
                no_wrap=not last,
            )
        for row in rows:
            # Text: brackets in a name are no markup. Encoded first, so that columns stay columns
            table.add_row(*(Text(to_writable(escape(cell), self.stream)) for cell in row))
        console.print(table)
        write(self.stream, "\n".join(line.rstrip() for line in held.getvalue().splitlines()) + "\n")

    def _print_narrow(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table for a narrow terminal: a line for each value, under the name of its row."""
        lines = []
        for row in rows:
            lines.append(row[0])
            named = zip(columns[1:], row[1:], strict=True)
            lines += [
                f"  {name} {value}" if name else f"  {value}" for name, value in named if value
            ]
        self.say(*lines)

    def result(self, value: dict[str, Any]) -> None:
        if self.as_json:
            write(self.stdout, json.dumps(value, allow_nan=False) + "\n")


def to_writable(text: str, stream: TextIO | None) -> str:
    """The text in the characters that a stream has; see `IN_ASCII`."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "datadistill").decode(encoding)


def percent(mean: float, deviation: float | None = None, over: int = 2) -> str:
    """An accuracy in percent, with its deviation over nets, which one value has not.

    >>> percent(93.456, 0.5), percent(93.456, 0.0, over=1)
    ('93.46 ± 0.50', '93.46')
    """
    return format_mean(mean, deviation if over > 1 else None)


def size_of(count: int) -> str:
    """A number of bytes."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def shape_of(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
