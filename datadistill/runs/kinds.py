"""The contract between `driver.run` and whatever is trained.

    class Kind    what can be configured, run in a folder, interrupted, resumed and kept
    class Work    one such run, built from its config: steps, state, result

A new kind of run is a subclass of each, in one file.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from ..config import RunOptions
from ..errors import UsageError
from .folder import RunFolder
from .state import unflatten_state

if TYPE_CHECKING:
    import torch

    from .checkpoints import Checkpoint

__all__ = ["Kind", "Loop", "LoopWork", "Step", "Work"]

C = TypeVar("C")
R = TypeVar("R")


@dataclass(frozen=True)
class Step:
    """The report of one step.

    Args:
        parts: what is known, for the progress bar.
        metrics: lines for metrics.jsonl.
        timing: a line for timing.jsonl, to which the driver adds the seconds; None for none.
        line: for the log where there is no bar.
        important: whether `line` is logged however little time has passed since the last one.
        kept: whether the step left everything on disk that a checkpoint would hold.
    """

    parts: tuple[str, ...] = ()
    metrics: Sequence[Mapping[str, Any]] = ()
    timing: Mapping[str, Any] | None = None
    line: str | None = None
    important: bool = True
    kept: bool = False


class Work(abc.ABC, Generic[R]):
    """One run, built from its config. `driver.run` takes the steps."""

    device: torch.device
    """Where it computes."""
    fingerprints: Mapping[str, str]
    """What a resumed run must find again; see `resume.fingerprints`."""
    what: ClassVar[str] = "training"
    """Named on the progress bar."""

    def run_inputs(self, folder: RunFolder | None, options: RunOptions) -> None:
        """Carry out the runs whose results this one needs, in folders below its own; finished ones
        are loaded, interrupted ones resumed. Called once, before the first step or the resume."""

    @property
    @abc.abstractmethod
    def step(self) -> int:
        """Steps done."""

    @property
    @abc.abstractmethod
    def steps(self) -> int:
        """Steps in all."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.step >= self.steps

    def check(self) -> str | None:
        """Check before the first step whatever costs time. Returns a line for the log."""
        return None

    @abc.abstractmethod
    def advance(self) -> Step:
        """Take one step.

        Raises:
            Interrupted: a signal came during a test after the step; the next call repeats the test
                only.
            NumericalError: a loss that is not finite.
        """

    @abc.abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs, as nested tensors and plain values."""

    @abc.abstractmethod
    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from `state()`."""

    def load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Resume from the state in a checkpoint."""
        self.load(unflatten_state(checkpoint.tensors, checkpoint.state["loop"]))

    def description(self) -> dict[str, Any]:
        """Values of a checkpoint besides the state, for readers that have neither data nor net."""
        return {}

    def restore(self, folder: RunFolder, checkpoint: Checkpoint | None) -> None:
        """Resume from the latest checkpoint, and cut metrics.jsonl to its length then."""
        if checkpoint is None:
            folder.truncate_metrics(0)
            return
        self.load_checkpoint(checkpoint)
        folder.truncate_metrics(
            checkpoint.state["metrics_bytes"], checkpoint.state.get("metrics_sha256")
        )

    def place(self) -> dict[str, Any]:
        """The position of the run, for a line of timing.jsonl that begins or ends a session."""
        return {"step": self.step}

    def progress(self) -> str:
        """Follows "step 3 of 9" in a sentence."""
        return ""

    @abc.abstractmethod
    def finish(self, folder: RunFolder | None, broken_off: str) -> R:
        """The result, written to the folder where there is one. `broken_off` is the sentence of
        `signals.interruptible` where a signal breaks off a final test."""


class Loop(Protocol):
    """Something that is trained step by step and can be resumed at any step."""

    @property
    def step(self) -> int:
        """Steps done."""

    @property
    def steps(self) -> int:
        """Steps in all."""

    @property
    def is_done(self) -> bool:
        """Whether all of them are."""

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs, as nested tensors and plain values."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from `state()`."""


class LoopWork(Work[R]):
    """Work whose steps and state are those of a loop."""

    loop: Loop

    @property
    def step(self) -> int:
        return self.loop.step

    @property
    def steps(self) -> int:
        return self.loop.steps

    @property
    def is_done(self) -> bool:
        return self.loop.is_done

    def state(self) -> dict[str, Any]:
        return self.loop.state()

    def load(self, state: Mapping[str, Any]) -> None:
        self.loop.load(state)


class Kind(abc.ABC, Generic[C, R]):
    """A kind of run, with the Python objects that one run was given (data, net, teacher)."""

    name: ClassVar[str]
    """As config.json has it."""
    config: type[C]
    """The class of its configs."""
    unit: ClassVar[str] = "step"
    """What is counted."""
    resumable: ClassVar[tuple[str, ...]] = ()
    """Fields that `--resume-with-changes` lets a resumed run change."""
    takes_ranks: ClassVar[bool] = False
    """Whether several processes may carry out one run together (`runs.ranks`)."""
    wanted: ClassVar[str] = "a recipe's config"
    """What to pass as a config, for error sentences."""

    def prepare(self, config: C) -> C:
        """The config with everything named that came as a Python object."""
        return config

    def reopen(self, folder: RunFolder) -> None:
        """Check, before a resume, that the folder's run was given the same kinds of objects."""

    def check(self, config: C, path: Path | None, options: RunOptions, resumed: bool) -> None:
        """Refuse what cannot be run before anything is read. `path` is None for a run in memory."""

    @abc.abstractmethod
    def build(self, config: C, options: RunOptions) -> Work[R]:
        """Load data and nets. Refuses what does not fit, before anything is trained."""

    def load_finished(self, folder: RunFolder, config: C, options: RunOptions) -> R | None:
        """The result of a run that was resumed although it had finished; None to build it again."""
        return None

    @abc.abstractmethod
    def command(self, config: C, path: Path) -> str:
        """The command that resumes the run."""

    @abc.abstractmethod
    def explain_memory(self, config: C) -> str:
        """The end of the sentence "out of memory: ...": what takes the memory and what takes less.
        Called where memory ran out, before or after `build`."""

    def describe_end(self, config: C, path: Path) -> str:
        """The sentence for a signal after the last step, when everything is saved."""
        return f"all {self.unit}s were done, and the result is saved in {path}"

    def refuse_config(self, config: object) -> None:
        """UsageError unless the config is one of this kind."""
        if not isinstance(config, self.config):
            raise UsageError(
                f"config is {config!r:.60}, wanted a {self.config.__name__}; {self.wanted} is one"
            )
