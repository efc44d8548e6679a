"""What a person sees of a run: a bar on a terminal, plain lines elsewhere; see `datadistill.progress`."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any

from datadistill.progress import LINE_EVERY, Terminal, announce, display, per_second, reporting, say, track

__all__ = ["LINE_EVERY", "PoolProgress", "Progress", "RunProgress", "say"]


class Progress:
    """The task of a run, and lines of text.

    Args:
        total: units of work in all.
        start: units already done.
        quiet: show nothing, unless whoever calls asked for progress.
        what: a few words.
    """

    def __init__(self, total: int, start: int = 0, quiet: bool = False, what: str = "training") -> None:
        self.total, self.start, self.quiet, self.what = total, start, quiet, what
        self.began = time.monotonic()
        self._shown = contextlib.ExitStack()

    def __enter__(self) -> Progress:
        self._shown.enter_context(reporting(not self.quiet))
        self.task = self._shown.enter_context(track(self.what, self.total, self.start))
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    @property
    def draws(self) -> bool:
        """Whether there is a bar, and lines would only repeat it."""
        shown = display()
        return isinstance(shown, Terminal) and shown.draws

    def speed(self) -> str:
        """Units a second since the start."""
        return per_second(self.task.speed())

    def left(self, done: int) -> str:
        """Time left, as minutes:seconds."""
        self.task.done = done
        return self.task.left() or "0:00 left"

    def update(self, done: int, *parts: str) -> None:
        """Move the bar, where there is one."""
        self.task.update(done, *parts)

    def say(self, line: str) -> None:
        """A line of its own."""
        announce(line)


class RunProgress:
    """Shows loss, accuracy on the validation split, step sizes, speed and time left of a distillation.

    Args:
        total: outer iterations.
        start: iterations already done.
        quiet: show nothing.
    """

    def __init__(self, total: int, start: int = 0, quiet: bool = False) -> None:
        self.shown = Progress(total, start, quiet, "learning")
        self.began, self.say = self.shown.began, self.shown.say
        self.loss: float | None = None
        self.found: tuple[str, ...] = ()

    def __enter__(self) -> RunProgress:
        self.shown.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.shown.__exit__()

    def iteration(self, done: int, loss: float) -> None:
        """After each outer iteration."""
        self.loss = loss if self.loss is None or self.loss != self.loss else 0.95 * self.loss + 0.05 * loss
        self.shown.update(done, f"loss {self.loss:.3f}", *self.found)

    def record(self, record: dict[str, Any]) -> None:
        """After each look at the validation split."""
        sizes = f"step sizes {_few(record['step_sizes'])}"
        self.found = (f"validation {record['accuracy']:.1f}%", sizes)
        if self.shown.draws:
            return
        done = record["iteration"]
        loss = "-" if record["loss"] is None else f"{record['loss']:.3f}"
        self.shown.task.done = done
        self.say(
            f"iteration {done}/{self.shown.total}  loss {loss}  "
            f"accuracy {record['accuracy']:.1f}% (validation)  {sizes}  "
            f"{self.shown.speed()}  {self.shown.left(done)}"
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
        self.shown = Progress(steps, start, quiet, "training nets")
        self.say = self.shown.say
        self.nets, self.said = nets, -math.inf
        self.found: tuple[str, ...] = ()

    def __enter__(self) -> PoolProgress:
        self.shown.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.shown.__exit__()

    def step(self, done: int, net: int) -> None:
        """After gradient steps of net number `net`, from 0; `done` counts those of all nets."""
        self.shown.update(done, f"net {net + 1}/{self.nets}", *self.found)

    def finished(self, done: int, nets: int, accuracies: Sequence[float]) -> None:
        """After a net: how many are trained, and their accuracies so far."""
        mean = sum(accuracies) / len(accuracies)
        self.found = (f"accuracy {mean:.1f}% (validation, mean so far)",)
        now = time.monotonic()
        if not self.shown.draws and (now - self.said >= LINE_EVERY or nets == self.nets):
            self.said = now
            self.say(f"net {nets}/{self.nets}  {self.found[0]}  {self.shown.left(done)}")


def _few(values: list[float]) -> str:
    shown = [f"{v:.3g}" for v in values]
    return " ".join(shown) if len(shown) <= 5 else f"{shown[0]} {shown[1]} .. {shown[-1]}"
