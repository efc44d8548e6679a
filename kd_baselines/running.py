"""The steps of a run: progress, metrics, checkpoints, signals, and going on."""

from __future__ import annotations

import time
from typing import Any

from datadistill.config import RunOptions
from datadistill.nets.spec import CUSTOM
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonconfig import dump_config
from datadistill.runs.signals import StopFlag
from datadistill.runs.state import flatten_state, unflatten_state
from datadistill.training.progress import LINE_EVERY, Progress
from datadistill.training.resume import changes, save_checkpoint
from kd_baselines.netfile import TEACHER
from kd_baselines.setup import Setup
from kd_baselines.staged import StagedLoop

__all__ = ["KIND", "carry_out"]

KIND = "kd"


def carry_out(
    loop: StagedLoop, setup: Setup, folder: RunFolder | None, options: RunOptions, stop: StopFlag
) -> None:
    """Train what is not yet trained. With a folder: go on from its last checkpoint, write the teacher's file
    once its nets are trained, and keep checkpoints.

    Raises:
        Interrupted: a signal came; a checkpoint was written where there is a folder.
        UsageError: the checkpoint is of another config.
        NumericalError, ResourceError: each says what to do.
    """
    if folder is not None:
        _restore(loop, setup, folder, options)
    with Progress(loop.steps, loop.step, options.quiet) as progress:
        _steps(loop, setup, folder, options, progress, stop)


def _steps(
    loop: StagedLoop, setup: Setup, folder: RunFolder | None, options: RunOptions, progress: Progress,
    stop: StopFlag,
) -> None:  # fmt: skip
    """Gradient steps up to the last one, with checkpoints and signals."""
    unit, interval = options.checkpoint_interval
    began = saved_time = time.monotonic()
    saved_at, said = loop.step, -LINE_EVERY
    if loop.step:
        progress.say(f"going on from step {loop.step} of {loop.steps}")
    while not loop.done:
        if stop:
            if folder is None:
                stop.raise_if_requested(f"stopped at step {loop.step}; nothing was saved (no folder)")
                raise AssertionError  # the flag is set, so the line above raised
            if loop.step != saved_at:
                _checkpoint(loop, setup, folder, options)
            way = f"kd-baselines train --resume {folder.path}"
            if setup.config.dataset == CUSTOM:
                way = f"train(None, out={str(folder.path)!r}, resume=True, data=...)"
            stop.raise_if_requested(f"saved at step {loop.step} of {loop.steps}; go on with: {way}")
        job = loop.jobs[loop.job]
        line = loop.advance()
        progress.update(loop.step, job.name)
        if line is not None:
            now = time.monotonic()
            if now - said >= LINE_EVERY or line["epoch"] == job.plan.epochs:
                said = now
                progress.say(f"{_words(line, job.plan.epochs)}  {progress.left(loop.step)}")
            if folder is not None:
                folder.append_metrics(line)
                seconds = time.monotonic() - began
                folder.append_timing({"stage": line["stage"], "epoch": line["epoch"], "seconds": seconds})
        if folder is not None:
            if loop.done or (loop.job >= len(loop.jobs) - len(setup.stages) and job.name.startswith("teacher")):
                _save_teacher(setup, folder)
            since = loop.step - saved_at if unit == "iterations" else time.monotonic() - saved_time
            if since >= interval or loop.done:
                _checkpoint(loop, setup, folder, options)
                saved_at, saved_time = loop.step, time.monotonic()


def _words(line: dict[str, Any], epochs: int) -> str:
    """A line of metrics for a person."""
    told = f"  accuracy {line['accuracy']:.1f}% (validation)" if "accuracy" in line else ""
    return f"{line['stage']}  epoch {line['epoch']}/{epochs}  loss {line['loss']:.4f}{told}"


def _checkpoint(loop: StagedLoop, setup: Setup, folder: RunFolder, options: RunOptions) -> None:
    tensors, state = flatten_state(loop.state())
    record = {"loop": state, "metrics_bytes": folder.metrics_length(), "config": dump_config(setup.config)}
    save_checkpoint(folder, loop.step, tensors, record, options)


def _restore(loop: StagedLoop, setup: Setup, folder: RunFolder, options: RunOptions) -> None:
    """Put the loop where the last whole checkpoint left it, and metrics.jsonl with it."""
    checkpoint = folder.checkpoints.latest()
    if checkpoint is None:
        folder.truncate_metrics(0)
        return
    config = dump_config(setup.config)
    # the checkpoint's own config, for config.json may have been edited
    changes(folder.path, KIND, checkpoint.state.get("config", config), config, options)
    loop.load(unflatten_state(checkpoint.tensors, checkpoint.state["loop"]))
    folder.truncate_metrics(checkpoint.state["metrics_bytes"])


def _save_teacher(setup: Setup, folder: RunFolder) -> None:
    path = folder.path / TEACHER
    if setup.teacher_nets and not path.exists():
        setup.saved(setup.teacher_nets, setup.teacher_spec).save(path)
