"""The one driver of runs: folder, checkpoints, signals, metrics, progress and resume.

    run(kind, config)                        in memory, nothing written
    run(kind, config, out="runs/a")          in a run folder
    run(kind, None, out="runs/a", resume=True)

What is trained is described by `kinds.Kind` and `kinds.Work`.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..config import RunOptions
from ..errors import Interrupted, UsageError
from ..progress import LINE_EVERY, Terminal, announce, display, per_second, reporting, track
from .environment import environment
from .folder import RunFolder
from .jsonconfig import build_config, dump_config
from .kinds import Kind, Step, Work
from .resume import (
    check_changes,
    check_changes_since,
    name_out_of_memory,
    refuse_others,
    save_checkpoint,
    undo_create,
)
from .signals import StopFlag, interruptible
from .state import flatten_state

__all__ = ["run"]

C = TypeVar("C")
R = TypeVar("R")


def run(
    kind: Kind[C, R],
    config: C | None,
    out: str | os.PathLike[str] | None = None,
    *,
    resume: bool = False,
    options: RunOptions = RunOptions(quiet=True),  # noqa: B008  (frozen)
) -> R:
    """Carry out a run from its config to its result.

    Args:
        kind: with the Python objects it was given.
        config: of the run; None with `resume` takes the run folder's own.
        out: the run folder; None writes nothing.
        resume: continue the run in `out` from its latest checkpoint, to the same bytes as without
            interruption on the same machine, torch version and thread count.
        options: how to carry it out.

    Raises:
        UsageError, DataError, NumericalError, ResourceError, Unavailable: each says what to do.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written where there is a folder.
    """
    if config is not None:
        kind.refuse_config(config)
        config = kind.prepare(config)
    if out is None:
        return _run_in_memory(kind, config, resume, options)
    path = Path(out)
    folder = None
    if resume:
        folder, stored = _open_run(kind, path, config, options)
        if (result := kind.load_finished(folder, stored, options)) is not None:
            return result
        config = stored
    if config is None:
        raise UsageError(f"no config was given; pass {kind.wanted}, or resume a run folder")
    if folder is None:
        RunFolder.refuse_occupied(path)  # before the data are read, which may take minutes
    kind.check(config, path, options, resume)
    with name_out_of_memory(partial(kind.explain_memory, config)), StopFlag() as stop:
        with interruptible(_describe_not_begun(kind, config, folder)):
            work = kind.build(config, options)
        fresh = folder is None
        with contextlib.ExitStack() as held:
            if folder is None:
                stop.raise_if_requested(_describe_not_begun(kind, config, None))
                found = {**environment(work.device), **work.fingerprints}
                made = RunFolder.create_locked(path, dump_config(config), found, kind.name)
                folder = held.enter_context(made)
            else:
                held.enter_context(folder.lock())
            session = _Session(kind, config, work, folder, options, stop)
            held.enter_context(undo_create(folder, lambda: not fresh or session.stepped))
            folder.clean()
            refuse_others(folder, work.device, work.fingerprints, options)
            _run_inputs(work, folder, options, f"go on with: {kind.command(config, path)}")
            session.restore()
            session.take_steps()
            result = work.finish(
                folder,
                f"all {kind.unit}s were done, and the result was not tested to the end; go on "
                f"with: {kind.command(config, path)}",
            )
        stop.raise_if_requested(kind.describe_end(config, path))
    return result


def _run_in_memory(kind: Kind[C, R], config: C | None, resume: bool, options: RunOptions) -> R:
    if resume or config is None:
        raise UsageError(
            "a run in memory cannot be resumed; pass out=FOLDER, and a config to start one"
        )
    kind.check(config, None, options, False)
    with name_out_of_memory(partial(kind.explain_memory, config)), StopFlag() as stop:
        with interruptible(_describe_not_begun(kind, config, None)):
            work = kind.build(config, options)
        _run_inputs(work, None, options, "nothing was saved (no folder)")
        _Session(kind, config, work, None, options, stop).take_steps()
        return work.finish(None, f"all {kind.unit}s were done, but nothing was saved (no folder)")


def _run_inputs(work: Work[R], folder: RunFolder | None, options: RunOptions, way: str) -> None:
    """Carry out the runs that this one needs; after a signal the sentence is this run's, and not
    theirs."""
    try:
        with interruptible():
            work.run_inputs(folder, options)
    except Interrupted as stopped:
        kept = "stopped before the first step of this session; the runs that it needs are kept"
        raise Interrupted(
            f"{kept if folder else 'stopped'}; {way}", stopped.exit_code - 128
        ) from stopped


def _open_run(
    kind: Kind[C, R], path: Path, config: C | None, options: RunOptions
) -> tuple[RunFolder, C]:
    """The folder to resume, and its config, with changes where they are allowed."""
    folder = RunFolder.open(path, kind=kind.name)
    stored = build_config(kind.config, folder.config, str(path / "config.json"))
    config = stored if config is None else config
    check_changes(path, kind.name, folder.config, dump_config(config), options, kind.resumable)
    kind.reopen(folder)
    return folder, config


def _describe_not_begun(kind: Kind[C, R], config: C, folder: RunFolder | None) -> str:
    if folder is None:
        return "stopped before the run began; nothing was written"
    return f"nothing was changed; go on with: {kind.command(config, folder.path)}"


class _Session:
    """The steps of a run in one process, from its latest checkpoint to the last step or a
    signal."""

    def __init__(
        self,
        kind: Kind[Any, Any],
        config: Any,
        work: Work[Any],
        folder: RunFolder | None,
        options: RunOptions,
        stop: StopFlag,
    ) -> None:
        self.kind, self.config, self.work, self.folder = kind, config, work, folder
        self.options, self.stop = options, stop
        self.began = self.saved_time = time.monotonic()
        self.cpu_began = time.process_time()
        self.saved_step, self.logged, self.stepped = 0, -math.inf, False

    def restore(self) -> None:
        """Put the work where the latest checkpoint left it, and metrics.jsonl with it."""
        folder, kind = self.folder, self.kind
        assert folder is not None
        # the runs that this one needs count their own seconds
        self.began = self.saved_time = time.monotonic()
        self.cpu_began = time.process_time()
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
            if checkpoint is not None:
                self._checkpoint(folder)

    def take_steps(self) -> None:
        """All steps that are left, with metrics, checkpoints and signals."""
        work = self.work
        self.saved_step = work.step
        with (
            reporting(not self.options.quiet),
            track(work.what, work.steps, work.step) as self.task,
        ):
            self._begin()
            while not work.is_done:
                if self.stop:
                    self._interrupt()
                try:
                    step = work.advance()
                except Interrupted:
                    continue  # to the top, where the state is saved
                self._record(step)
                if self.folder is not None:
                    self._save_when_due(self.folder, step)

    def _begin(self) -> None:
        work, unit = self.work, self.kind.unit
        if work.step:
            announce(f"going on from {unit} {work.step} of {work.steps}{work.progress()}")
            if self.folder is not None and not work.is_done:
                # a session begins
                self.folder.append_timing({**work.place(), "seconds": 0.0, "cpu_seconds": 0.0})
            return
        try:
            with interruptible():
                line = work.check()
        except Interrupted:
            return  # the loop acts on the signal
        if line is not None:
            announce(line)

    def _interrupt(self) -> None:
        """Save, and leave by `Interrupted`."""
        work, folder, unit = self.work, self.folder, self.kind.unit
        if folder is None:
            self.stop.raise_if_requested(
                f"stopped at {unit} {work.step}; nothing was saved (no folder)"
            )
            return
        if work.step != self.saved_step:
            self._checkpoint(folder)
        folder.end_session({**work.place(), **self._seconds()})
        self.stop.raise_if_requested(
            f"saved at {unit} {work.step} of {work.steps}{work.progress()}; go on with: "
            f"{self.kind.command(self.config, folder.path)}"
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
        if self.folder is not None:
            for record in step.metrics:
                self.folder.append_metrics(record)
            if step.timing is not None:
                self.folder.append_timing({**step.timing, **self._seconds()})

    def _save_when_due(self, folder: RunFolder, step: Step) -> None:
        unit, interval = self.options.checkpoint_interval
        since = self.work.step - self.saved_step
        due = (
            since >= interval
            if unit == "iterations"
            else time.monotonic() - self.saved_time >= interval
        )
        if not step.kept and (due or self.work.is_done):
            self._checkpoint(folder)
        if step.kept or due or self.work.is_done:
            self.saved_step, self.saved_time = self.work.step, time.monotonic()

    def _checkpoint(self, folder: RunFolder) -> None:
        tensors, state = flatten_state(self.work.state())
        record = {
            "loop": state,
            **folder.metrics_record(),
            "config": dump_config(self.config),
            **self.work.description(),
        }
        save_checkpoint(folder, self.work.step, tensors, record, self.options)

    def _seconds(self) -> dict[str, float]:
        """Since this session began: on the clock, and of the processor, all cores together."""
        return {
            "seconds": time.monotonic() - self.began,
            "cpu_seconds": time.process_time() - self.cpu_began,
        }


def _draws_bar() -> bool:
    shown = display()
    return isinstance(shown, Terminal) and shown.draws
