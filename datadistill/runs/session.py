"""The steps of a run in one process, from its latest checkpoint to the last step or a signal, with
metrics, checkpoints and progress. `driver.run` makes it."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from ..config import RunOptions
from ..errors import Interrupted, UsageError
from ..progress import LINE_EVERY, Terminal, announce, display, per_second, reporting, track
from .checkpoints import Checkpoint
from .folder import RunFolder
from .jsonconfig import dump_config
from .kinds import Kind, Step, Work
from .ranks import current
from .resume import check_changes, check_changes_since, save_checkpoint
from .signals import StopFlag, interruptible
from .state import flatten_state

__all__ = ["Session"]


class Session:
    """The steps that one process takes of a run.

    Args:
        kind, config, work: of the run.
        folder: that this process writes; None in memory, and for all ranks but the first.
        options: how to carry the run out.
        stop: the flag of signals.
        path: of the run's folder, whoever writes it; None in memory.
    """

    def __init__(
        self,
        kind: Kind[Any, Any],
        config: Any,
        work: Work[Any],
        folder: RunFolder | None,
        options: RunOptions,
        stop: StopFlag,
        path: Path | None = None,
    ) -> None:
        self.kind, self.config, self.work, self.folder = kind, config, work, folder
        self.options, self.stop, self.ranks = options, stop, current()
        self.path = path  # of the folder, which rank 0 has
        self.began = self.saved_time = time.monotonic()
        self.cpu_began = time.process_time()
        self.saved_step, self.logged, self.stepped = 0, -math.inf, False

    def restore(self) -> None:
        """Put the work where the latest checkpoint left it, and metrics.jsonl with it."""
        # the runs that this one needs count their own seconds
        self.began = self.saved_time = time.monotonic()
        self.cpu_began = time.process_time()
        checkpoint, changed = None, False
        with self.ranks.together():
            if self.folder is not None:
                checkpoint, changed = self._restore(self.folder)
        if self.ranks.size > 1:
            checkpoint, changed = self.ranks.broadcast((checkpoint, changed))
            self._follow(checkpoint)
        if changed:
            self._checkpoint()

    def _follow(self, checkpoint: Checkpoint | None) -> None:
        """Bring the other ranks to the state of the first: its checkpoint's, or its start."""
        if checkpoint is None:
            begun = self.ranks.broadcast(self.work.state())
        with self.ranks.together():
            if self.ranks.writes:
                return
            if checkpoint is None:
                self.work.load(begun)
            else:
                self.work.load_checkpoint(checkpoint)

    def _restore(self, folder: RunFolder) -> tuple[Checkpoint | None, bool]:
        """The latest checkpoint, of which the work has taken its state, and whether the config is
        another one since."""
        kind = self.kind
        config = dump_config(self.config)
        changed = check_changes(
            folder.path, kind.name, folder.config, config, self.options, kind.resumable
        )
        checkpoint = folder.checkpoints.load_latest()
        if checkpoint is not None:
            stored = checkpoint.state.get("config", config)
            changed |= check_changes_since(folder, stored, config, self.options, kind.resumable)
            if checkpoint.iteration > self.work.steps:
                raise UsageError(
                    f"{folder.path} has done {checkpoint.iteration} {kind.unit}s, more than the "
                    f"{self.work.steps} that are wanted now; ask for more, or start a new run"
                )
        self.work.restore(folder, checkpoint)
        if changed:  # only now that everything fits, and no other process is in the folder
            folder.replace_config(config)
        return checkpoint, changed and checkpoint is not None

    def take_steps(self) -> None:
        """All steps that are left, with metrics, checkpoints and signals."""
        work = self.work
        self.saved_step = work.step
        with (
            reporting(self.ranks.writes and not self.options.quiet),
            track(work.what, work.steps, work.step) as self.task,
        ):
            self._begin()
            self._agree()
            while not work.is_done:
                if self.stop:
                    self._interrupt()
                try:
                    step = work.advance()
                except Interrupted:
                    self._agree()
                    continue  # to the top, where the state is saved
                self._record(step)
                self._save_when_due(step)

    def _agree(self, due: bool = False) -> bool:
        """Whether a checkpoint is due in any rank. A signal to one of them is one to all."""
        self.ranks.heed_signals()
        (any_due,) = self.ranks.most(due)
        return bool(any_due)

    def _begin(self) -> None:
        work, unit = self.work, self.kind.unit
        if work.step:
            announce(f"going on from {unit} {work.step} of {work.steps}{work.progress()}")
            if self.folder is not None and not work.is_done:
                # a session begins
                self.folder.append_timing({**work.place(), "seconds": 0.0, "cpu_seconds": 0.0})
            return
        try:
            with self.ranks.together(), interruptible():
                line = work.check()
        except Interrupted:
            return  # the loop acts on the signal
        if line is not None:
            announce(line)

    def _interrupt(self) -> None:
        """Save, and leave by `Interrupted`."""
        work, unit = self.work, self.kind.unit
        if self.path is None:
            self.stop.raise_if_requested(
                f"stopped at {unit} {work.step}; nothing was saved (no folder)"
            )
            return
        if work.step != self.saved_step:
            self._checkpoint()
        if self.folder is not None:
            self.folder.end_session({**work.place(), **self._seconds()})
        self.stop.raise_if_requested(
            f"saved at {unit} {work.step} of {work.steps}{work.progress()}; go on with: "
            f"{self.kind.command(self.config, self.path)}"
        )

    def _record(self, step: Step) -> None:
        """Progress, metrics.jsonl and timing.jsonl."""
        self.stepped = True
        self.task.update(self.work.step, *step.parts)
        if step.line is not None and not _draws_bar():
            now = time.monotonic()
            if step.important or now - self.logged >= LINE_EVERY or self.work.is_done:
                self.logged = now
                speed = per_second(self.task.speed())
                announce("  ".join([step.line, speed, self.task.format_left() or "0:00 left"]))
        if not step.metrics and step.timing is None:
            return
        with self.ranks.together():
            if self.folder is not None:
                for record in step.metrics:
                    self.folder.append_metrics(record)
                if step.timing is not None:
                    self.folder.append_timing({**step.timing, **self._seconds()})

    def _save_when_due(self, step: Step) -> None:
        if self.path is None:
            self._agree()
            return
        unit, interval = self.options.checkpoint_interval
        since = self.work.step - self.saved_step
        due = (
            since >= interval
            if unit == "iterations"
            else time.monotonic() - self.saved_time >= interval
        )
        due = self._agree(due)
        if not step.kept and (due or self.work.is_done):
            self._checkpoint()
        if step.kept or due or self.work.is_done:
            self.saved_step, self.saved_time = self.work.step, time.monotonic()

    def _checkpoint(self) -> None:
        tensors, state = flatten_state(self.work.state())  # of all ranks
        with self.ranks.together():
            if self.folder is None:
                return
            record = {
                "loop": state,
                **self.folder.metrics_record(),
                "config": dump_config(self.config),
                **self.work.description(),
            }
            save_checkpoint(self.folder, self.work.step, tensors, record, self.options)

    def _seconds(self) -> dict[str, float]:
        """Since this session began: on the clock, and of the processor, all cores together."""
        return {
            "seconds": time.monotonic() - self.began,
            "cpu_seconds": time.process_time() - self.cpu_began,
        }


def _draws_bar() -> bool:
    shown = display()
    return isinstance(shown, Terminal) and shown.draws
