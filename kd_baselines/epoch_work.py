"""Training that reports once an epoch, as the work of a run."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from datadistill.runs.kinds import Loop, LoopWork, Step

__all__ = ["EpochLoop", "EpochWork"]

R = TypeVar("R")


class EpochLoop(Loop, Protocol):
    """A loop that reports once an epoch."""

    def advance(self) -> dict[str, Any] | None:
        """One step. Returns the line of metrics, with the epoch from 1 and the mean loss, where it was the last
        of an epoch. Leaves by `Interrupted` where a signal breaks off the test after an epoch, which is then
        what the next call begins with."""


class EpochWork(LoopWork[R]):
    """The steps of a loop; a subclass says what its stages are called and how it ends."""

    loop: EpochLoop
    found: tuple[str, ...] = ()
    """What the last test found, for the bar."""

    @abc.abstractmethod
    def stage(self) -> tuple[str, int]:
        """What the next step trains, and of how many epochs."""

    def advance(self) -> Step:
        name, epochs = self.stage()
        line = self.loop.advance()
        if line is None:
            return Step((name, *self.found))
        found = format_test(line)
        self.found = (found,) if found else ()
        return Step(
            (name, *self.found),
            metrics=[line],
            timing={"stage": name, "epoch": line["epoch"]},
            line=format_epoch(name, line, epochs),
            important=line["epoch"] == epochs,
        )

    def place(self) -> dict[str, Any]:
        return {"stage": self.stage()[0], "epoch": None}


def format_epoch(name: str, line: Mapping[str, Any], epochs: int) -> str:
    """A line of metrics for a person.

    >>> format_epoch("student", {"epoch": 1, "loss": 5.0, "perplexity": 120.25}, 8)
    'student  epoch 1/8  loss 5.0000  perplexity 120.2 (validation)'
    """
    parts = [name, f"epoch {line['epoch']}/{epochs}", f"loss {line['loss']:.4f}", format_test(line)]
    return "  ".join(part for part in parts if part)


def format_test(line: Mapping[str, Any]) -> str:
    """What a line of metrics has of the test after the epoch.

    >>> format_test({"epoch": 1, "loss": 0.5, "accuracy": 91.25})
    'accuracy 91.2% (validation)'
    """
    found = [f"accuracy {line['accuracy']:.1f}% (validation)"] if "accuracy" in line else []
    found += [f"perplexity {line['perplexity']:.1f} (validation)"] if "perplexity" in line else []
    return "  ".join(found)
