"""What a person sees of a run: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from datadistill.runs.content import visible

LINE_EVERY = 5.0  # seconds between lines about nets or epochs


class Progress:
    """A bar on a terminal, and lines of text.

    Args:
        total: units of work in all.
        start: units already done.
        quiet: show nothing.
    """

    def __init__(self, total: int, start: int = 0, quiet: bool = False) -> None:
        self.total, self.start, self.quiet = total, start, quiet
        self.began = time.monotonic()
        self.console = Console(stderr=True)
        self.bar: rich.progress.Progress | None = None

    def __enter__(self) -> Progress:
        if not self.quiet and self.console.is_terminal:
            self.bar = rich.progress.Progress(
                BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False),
                TimeRemainingColumn(), console=self.console,
            )  # fmt: skip
            self.task = self.bar.add_task("starting", total=self.total, completed=self.start)
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def speed(self, done: int) -> float:
        """Units a second since the start."""
        return (done - self.start) / max(time.monotonic() - self.began, 1e-9)

    def left(self, done: int) -> str:
        """Time left, as minutes:seconds."""
        speed = self.speed(done)
        seconds = int((self.total - done) / speed) if speed > 0 else 0
        return f"{seconds // 60}:{seconds % 60:02d} left"

    def update(self, done: int, description: str) -> None:
        """Move the bar, where there is one."""
        if self.bar is not None:
            self.bar.update(self.task, completed=done, description=description)

    def say(self, line: str) -> None:
        """A line of its own."""
        if self.quiet:
            return
        line = visible(line)
        if self.bar is not None:
            self.bar.console.print(line, highlight=False, markup=False)
        else:
            say(line)


class RunProgress:
    """Shows loss, accuracy on the validation split, step sizes, speed and time left of a distillation.

    Args:
        total: outer iterations.
        start: iterations already done.
        quiet: show nothing.
    """

    def __init__(self, total: int, start: int = 0, quiet: bool = False) -> None:
        self.shown = Progress(total, start, quiet)
        self.began, self.say = self.shown.began, self.shown.say
        self.loss: float | None = None
        self.text = ""

    def __enter__(self) -> RunProgress:
        self.shown.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.shown.__exit__()

    def iteration(self, done: int, loss: float) -> None:
        """After each outer iteration."""
        self.loss = loss if self.loss is None or self.loss != self.loss else 0.95 * self.loss + 0.05 * loss
        self.shown.update(done, f"loss {self.loss:.3f}  {self.text}{self.shown.speed(done):.1f} it/s")

    def record(self, record: dict[str, Any]) -> None:
        """After each look at the validation split."""
        text = f"accuracy {record['accuracy']:.1f}% (validation)  step sizes {_few(record['step_sizes'])}  "
        if self.shown.bar is not None:
            self.text = text
            return
        done = record["iteration"]
        loss = "-" if record["loss"] is None else f"{record['loss']:.3f}"
        self.say(
            f"iteration {done}/{self.shown.total}  loss {loss}  {text}{self.shown.speed(done):.1f} it/s  "
            f"{self.shown.left(done)}"
        )


class PoolProgress:
    """Shows how many nets are trained, their accuracy and the time left.

    Args:
        nets: nets of the pool.
        steps: gradient steps of all of them.
        start: steps already done.
        quiet: show nothing.
    """

    def __init__(self, nets: int, steps: int, start: int = 0, quiet: bool = False) -> None:
        self.shown = Progress(steps, start, quiet)
        self.say = self.shown.say
        self.nets, self.text, self.said = nets, "", -math.inf

    def __enter__(self) -> PoolProgress:
        self.shown.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.shown.__exit__()

    def step(self, done: int, net: int) -> None:
        """After gradient steps of net number `net`, from 0; `done` counts those of all nets."""
        self.shown.update(done, f"net {net + 1}/{self.nets}  {self.text}")

    def finished(self, done: int, nets: int, accuracies: Sequence[float]) -> None:
        """After a net: how many are trained, and their accuracies so far."""
        mean = sum(accuracies) / len(accuracies)
        self.text = f"accuracy {mean:.1f}% (validation, mean so far)"
        now = time.monotonic()
        if self.shown.bar is None and (now - self.said >= LINE_EVERY or nets == self.nets):
            self.said = now
            self.say(f"net {nets}/{self.nets}  {self.text}  {self.shown.left(done)}")


def say(line: str) -> None:
    """A plain line on stderr; an absent, closed or narrow-charset stream does not stop a run."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except UnicodeEncodeError:
        sys.stderr.write(line.encode("ascii", "replace").decode() + "\n")
    except (OSError, ValueError):
        pass


def _few(values: list[float]) -> str:
    shown = [f"{v:.3g}" for v in values]
    return " ".join(shown) if len(shown) <= 5 else f"{shown[0]} {shown[1]} .. {shown[-1]}"
