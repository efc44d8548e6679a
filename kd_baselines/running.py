"""The steps of a run: progress, metrics, checkpoints, signals, and going on.

A `Loop` is what is trained, step by step; a `Run` is what is told and written beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from datadistill.config import RunOptions
from datadistill.errors import Interrupted
from datadistill.runs.environment import environment
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonconfig import build_config, dump_config
from datadistill.runs.signals import StopFlag
from datadistill.runs.state import flatten_state, unflatten_state
from datadistill.training.progress import LINE_EVERY, Progress
from datadistill.training.resume import changes, refuse_others, save_checkpoint, taken_back

__all__ = ["KIND", "Loop", "Run", "carry_out", "come_back", "in_folder", "not_begun"]

KIND = "kd"
"""What config.json calls a run that trains an image classifier."""

C = TypeVar("C")
T = TypeVar("T")


class Loop(Protocol):
    """Something that is trained step by step, and goes on from any step."""

    @property
    def step(self) -> int:
        """Gradient steps done."""

    @property
    def steps(self) -> int:
        """Gradient steps in all."""

    @property
    def done(self) -> bool:
        """Whether all of them are."""

    def advance(self) -> dict[str, Any] | None:
        """One step. Returns the line of metrics, with the epoch from 1 and the mean loss, where it was the last
        of an epoch. Leaves by `Interrupted` where a signal breaks off the test after an epoch, which is then
        what the next call begins with."""

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs, as nested tensors and plain values."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""


@dataclass(frozen=True, eq=False)
class Run:
    """What is told and written beside a loop.

    Args:
        kind: what config.json calls it.
        config: as it is run.
        again: what to type to go on with it.
        now: () -> what the next step trains, and of how many epochs.
        after: called after each step of a run in a folder, with what it trained, before its checkpoint.
    """

    kind: str
    config: Any
    again: str
    now: Callable[[], tuple[str, int]]
    after: Callable[[str], None] = lambda name: None

    @property
    def all_done(self) -> str:
        """What is said where a signal breaks off the test at the end."""
        return f"all steps were done, and the net was not tested to the end; go on with: {self.again}"


def come_back(
    path: Path, kind: str, config: C | None, cls: type[C], options: RunOptions
) -> tuple[RunFolder, C]:
    """A run folder to go on with, and its config.

    Args:
        path: the folder.
        kind: of the run.
        config: as it was asked for; None: the folder's own.
        cls: of the config.

    Raises:
        UsageError: no such run is there, or it is of another config.
    """
    folder = RunFolder.open(path, kind=kind)
    stored = build_config(cls, folder.config, str(path / "config.json"))
    config = stored if config is None else config
    changes(path, kind, folder.config, dump_config(config), options)
    return folder, config


def not_begun(path: Path, folder: RunFolder | None) -> str:
    """What is said where a signal comes while data and nets are read."""
    if folder is None:
        return "stopped before the run began; nothing was written"
    return f"stopped before the run went on; nothing was changed in {path}"


def in_folder(
    path: Path, folder: RunFolder | None, kind: str, config: Any, device: torch.device,
    found: Mapping[str, str], options: RunOptions, stop: StopFlag, work: Callable[[RunFolder], T],
) -> T:  # fmt: skip
    """Do the work of a run in its folder, made here where it is new, under its lock.

    Args:
        path: the folder.
        folder: the same, come back to; None: a new run.
        kind: of the run.
        config: as it is run.
        device: where.
        found: fingerprints of what a resumed run must find again.
        work: the run, from its last checkpoint on.

    Returns:
        What the work returns.

    Raises:
        UsageError, DataError: other data, net or teacher than before, or refused by the work; a new folder is
            taken back.
        Interrupted: a signal came.
    """
    fresh = folder is None
    if folder is None:
        stop.raise_if_requested(not_begun(path, None))
        folder = RunFolder.create(path, dump_config(config), {**environment(device), **found}, kind)
    with folder.lock(), taken_back(folder, lambda: not fresh or (path / "checkpoints").exists()):
        folder.clean()
        refuse_others(folder, device, found, options)
        result = work(folder)
    stop.raise_if_requested(f"the student was trained and is saved in {path}")
    return result


def carry_out(loop: Loop, run: Run, folder: RunFolder | None, options: RunOptions, stop: StopFlag) -> None:
    """Train what is not yet trained. With a folder: go on from its last checkpoint, and keep checkpoints.

    Raises:
        Interrupted: a signal came; a checkpoint was written where there is a folder.
        UsageError: the checkpoint is of another config.
        NumericalError, ResourceError: each says what to do.
    """
    if folder is not None:
        _restore(loop, run, folder, options)
    with Progress(loop.steps, loop.step, options.quiet) as progress:
        _steps(loop, run, folder, options, progress, stop)


def _steps(
    loop: Loop, run: Run, folder: RunFolder | None, options: RunOptions, progress: Progress, stop: StopFlag
) -> None:
    """Gradient steps up to the last one, with checkpoints and signals."""
    unit, interval = options.checkpoint_interval
    began = saved_time = time.monotonic()
    saved_at, said = loop.step, -LINE_EVERY
    if loop.step:
        progress.say(f"going on from step {loop.step} of {loop.steps}")
        if folder is not None and not loop.done:
            folder.append_timing({"stage": run.now()[0], "epoch": None, "seconds": 0.0})  # a session begins
    while not loop.done:
        if stop:
            if folder is None:
                stop.raise_if_requested(f"stopped at step {loop.step}; nothing was saved (no folder)")
                raise AssertionError  # the flag is set, so the line above raised
            if loop.step != saved_at:
                _checkpoint(loop, run, folder, options)
            stage, seconds = run.now()[0], time.monotonic() - began
            folder.end_session({"stage": stage, "epoch": None, "seconds": seconds})
            stop.raise_if_requested(f"saved at step {loop.step} of {loop.steps}; go on with: {run.again}")
        name, epochs = run.now()
        try:
            line = loop.advance()
        except Interrupted:
            continue  # to the top, where it is saved
        progress.update(loop.step, name)
        if line is not None:
            now = time.monotonic()
            if now - said >= LINE_EVERY or line["epoch"] == epochs:
                said = now
                progress.say(f"{_words(name, line, epochs)}  {progress.left(loop.step)}")
            if folder is not None:
                folder.append_metrics(line)
                folder.append_timing({"stage": name, "epoch": line["epoch"], "seconds": now - began})
        if folder is not None:
            run.after(name)
            since = loop.step - saved_at if unit == "iterations" else time.monotonic() - saved_time
            if since >= interval or loop.done:
                _checkpoint(loop, run, folder, options)
                saved_at, saved_time = loop.step, time.monotonic()


def _words(name: str, line: Mapping[str, Any], epochs: int) -> str:
    """A line of metrics for a person.

    >>> _words("student", {"epoch": 1, "loss": 5.0, "perplexity": 120.25}, 8)
    'student  epoch 1/8  loss 5.0000  perplexity 120.2 (validation)'
    """
    told = f"  accuracy {line['accuracy']:.1f}% (validation)" if "accuracy" in line else ""
    told += f"  perplexity {line['perplexity']:.1f} (validation)" if "perplexity" in line else ""
    return f"{name}  epoch {line['epoch']}/{epochs}  loss {line['loss']:.4f}{told}"


def _checkpoint(loop: Loop, run: Run, folder: RunFolder, options: RunOptions) -> None:
    tensors, state = flatten_state(loop.state())
    record = {"loop": state, **folder.metrics_record(), "config": dump_config(run.config)}
    save_checkpoint(folder, loop.step, tensors, record, options)


def _restore(loop: Loop, run: Run, folder: RunFolder, options: RunOptions) -> None:
    """Put the loop where the last whole checkpoint left it, and metrics.jsonl with it."""
    checkpoint = folder.checkpoints.latest()
    if checkpoint is None:
        folder.truncate_metrics(0)
        return
    config = dump_config(run.config)
    # the checkpoint's own config, for config.json may have been edited
    changes(folder.path, run.kind, checkpoint.state.get("config", config), config, options)
    loop.load(unflatten_state(checkpoint.tensors, checkpoint.state["loop"]))
    folder.truncate_metrics(checkpoint.state["metrics_bytes"], checkpoint.state.get("metrics_sha256"))
