"""What a person sees of a run: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class RunProgress:
    """Shows loss, accuracy on the validation split, step sizes, speed and time left.

    Args:
        total: outer iterations.
        start: iterations already done.
        quiet: show nothing.
    """

    def __init__(self, total: int, start: int = 0, quiet: bool = False) -> None:
        self.total, self.start, self.quiet = total, start, quiet
        self.began = time.monotonic()
        self.loss: float | None = None
        self.console = Console(stderr=True)
        self.bar: Progress | None = None

    def __enter__(self) -> RunProgress:
        if not self.quiet and self.console.is_terminal:
            self.bar = Progress(
                BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn(),
                console=self.console,
            )  # fmt: skip
            self.task = self.bar.add_task("starting", total=self.total, completed=self.start)
            self.bar.start()
            self.text = ""
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def iteration(self, done: int, loss: float) -> None:
        """After each outer iteration."""
        self.loss = loss if self.loss is None or self.loss != self.loss else 0.95 * self.loss + 0.05 * loss
        if self.bar is not None:
            speed = (done - self.start) / max(time.monotonic() - self.began, 1e-9)
            description = f"loss {self.loss:.3f}  {self.text}{speed:.1f} it/s"
            self.bar.update(self.task, completed=done, description=description)

    def record(self, record: dict[str, Any]) -> None:
        """After each look at the validation split."""
        text = f"accuracy {record['accuracy']:.1f}% (validation)  step sizes {_few(record['step_sizes'])}  "
        if self.bar is not None:
            self.text = text
            return
        done = record["iteration"]
        elapsed = time.monotonic() - self.began
        speed = (done - self.start) / max(elapsed, 1e-9)
        left = (self.total - done) / speed if speed > 0 else 0.0
        loss = "-" if record["loss"] is None else f"{record['loss']:.3f}"
        self.say(
            f"iteration {done}/{self.total}  loss {loss}  {text}{speed:.1f} it/s  "
            f"{int(left) // 60}:{int(left) % 60:02d} left"
        )

    def say(self, line: str) -> None:
        """A line of its own."""
        if self.quiet:
            return
        if self.bar is not None:
            self.bar.console.print(line, highlight=False, markup=False)
        else:
            say(line)


def say(line: str) -> None:
    """A plain line on stderr; a closed or narrow-charset stream does not stop a run."""
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
