"""One distillation from start to end: folder, checkpoints, signals, and the file that is left.

dd.distill(config)                        in memory, nothing written
dd.distill(config, out="runs/a")          a run folder
dd.distill(None, out="runs/a", resume=True)
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from datadistill import distilled_file
from datadistill.config import RESUMABLE_CHANGES, DistillConfig, RunOptions
from datadistill.data import RealData
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, Interrupted, UsageError, ValuesNotUsed
from datadistill.nets.factory import NetFactory
from datadistill.nets.spec import CUSTOM
from datadistill.progress import Report, shows_progress
from datadistill.runs.environment import environment
from datadistill.runs.folder import RunFolder
from datadistill.runs.inside import refuse_inside
from datadistill.runs.jsonconfig import build_config, dump_config
from datadistill.runs.signals import StopFlag, interruptible
from datadistill.runs.state import flatten_state, unflatten_state
from datadistill.torch_defaults import library_defaults
from datadistill.training.before_learning import check_before_learning
from datadistill.training.outer import OuterLoop
from datadistill.training.progress import RunProgress
from datadistill.training.resume import (
    changes,
    changes_since_checkpoint,
    fingerprints,
    named_failures,
    refuse_others,
    save_checkpoint,
    taken_back,
)
from datadistill.training.setup import outer_loop
from datadistill.unfinished import describe

KIND = "distill"
NOT_BEGUN = "stopped before the run began; nothing was written"


@library_defaults()
@shows_progress
def distill(
    config: DistillConfig | None,
    *,
    data: RealData | None = None,
    net: nn.Module | NetFactory | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    options: RunOptions = RunOptions(quiet=True),  # noqa: B008  (frozen)
    progress: bool | Report = False,
) -> DistilledDataset:
    """Learn a distilled set.

    Args:
        config: what to learn; a recipe returns one. None with `resume` takes the run folder's own.
        data: your own real data (`RealData.from_tensors`, `.from_dataset`); default: what the config names.
        net: your own module, images (B, C, H, W) to logits (B, K), or a function without arguments that builds
            one (`lambda: MyNet()`); default: what the config names. With `config.theta_0` "given" the module's
            values are where training starts; else it gives names and shapes, and this says so
            (`datadistill.errors.ValuesNotUsed`). A function is called anew for each draw of theta_0, with
            the global generators of torch, numpy and random seeded: nets start as their constructor has it,
            and `config.init` is not used. A module is never changed.
        out: a run folder to write: config, metrics, checkpoints, distilled.safetensors. None writes nothing.
        resume: go on with the run in `out` from its last checkpoint, to the same bytes as without a stop on
            the same machine, torch version and thread count.
        options: how to carry the run out.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it goes on.

    Returns:
        The distilled set.

    Raises:
        UsageError, DataError, NumericalError, ResourceError, Unavailable: each says what to do.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written where there is a folder.

    Example:
        >>> from datadistill.recipes import recipe
        >>> tiny = recipe("digits-random").with_changes(iterations=2)
        >>> distill(tiny)
        DistilledDataset(10 images 1x8x8, 10 classes, 10 steps, any initialization of convnet)
    """
    if isinstance(config, str):
        raise UsageError(f"config is {config!r}, wanted a config; pass dd.recipe({config!r})")
    if config is not None:  # what came from Python is named so, not after a default it does not use
        config = replace(config, dataset="custom") if data is not None else config
        config = replace(config, net=CUSTOM, net_args={}) if net is not None else config
    if isinstance(net, nn.Module) and config is not None and not resume:
        _say_unused_values(config)
    if out is None:
        if resume or config is None:
            raise UsageError("a run in memory cannot be resumed; pass out=FOLDER, and a config to start one")
        with named_failures(_needs(config)), StopFlag() as stop:
            with interruptible(NOT_BEGUN):
                loop = outer_loop(config, options, data, net)
            with RunProgress(config.iterations, quiet=options.quiet) as shown:
                _iterate(loop, None, options, shown, stop)
            return loop.result()
    path = Path(out)
    folder, config = _resumed(path, config, options) if resume else (None, config)
    if config is None:
        raise UsageError("no config was given; pass a recipe's config, or resume a run folder")
    if config.dataset == "folder":
        refuse_inside(path, config.data)
        refuse_inside(options.rescue_dir, config.data, "--rescue-dir")
    if folder is None:
        RunFolder.refuse_occupied(path)  # before the data are read, which may take minutes
    _refuse_missing(path, config, data, net)
    with named_failures(_needs(config)), StopFlag() as stop:
        with interruptible(NOT_BEGUN if folder is None else _go_on(config, path, "nothing was changed")):
            loop = outer_loop(config, options, data, net)
        fresh = folder is None
        if folder is None:
            stop.raise_if_requested(NOT_BEGUN)
            env = {**environment(loop.data.device), **fingerprints(loop.data, loop.net, loop.origin)}
            folder = RunFolder.create(path, dump_config(config), env, KIND)
        with folder.lock(), taken_back(folder, lambda: not fresh or loop.iteration > 0):
            folder.clean()
            due = _restore(loop, folder, options)
            with RunProgress(config.iterations, loop.iteration, options.quiet) as shown:
                _iterate(loop, folder, options, shown, stop, due)
            result = loop.result()
            result.accuracies = _measured_before(folder, result)
            result.save(folder.distilled)
        stop.raise_if_requested(
            f"all {config.iterations} iterations were done and the set is saved in {path}; measure it with: "
            f"datadistill evaluate {path} --save"
        )
    return result


def _say_unused_values(config: DistillConfig) -> None:
    """Once for each place that calls `distill`, as Python's own filter has it."""
    if config.theta_0 != "given" and config.pool is None and config.weights is None:
        kept = "one draw" if config.theta_0 == "fixed" else "fresh draws"
        said = ValuesNotUsed(
            f'the values of net are not used: theta_0 is "{config.theta_0}", {kept} by the scheme '
            f'{config.init}; theta_0="given" starts from them, and net=lambda: MyNet() draws as MyNet does'
        )
        try:
            warnings.warn(said, stacklevel=5)  # the line that calls `distill`, through its two decorators
        except ValuesNotUsed:  # said of what is meant as often as not, so no error where warnings are errors
            print(said, file=sys.stderr)


def _resumed(path: Path, config: DistillConfig | None, options: RunOptions) -> tuple[RunFolder, DistillConfig]:
    """The folder to go on with, and its config, with changes where they are allowed."""
    folder = RunFolder.open(path, kind=KIND)
    stored = build_config(DistillConfig, folder.config, str(path / "config.json"))
    if config is None:
        return folder, stored
    changes(path, KIND, folder.config, dump_config(config), options, RESUMABLE_CHANGES)
    return folder, config


def _restore(loop: OuterLoop, folder: RunFolder, options: RunOptions) -> bool:
    """Put the loop where the last whole checkpoint left it, and metrics.jsonl with it. Returns whether the look
    at the validation split after that iteration is still to come."""
    refuse_others(folder, loop.data.device, fingerprints(loop.data, loop.net, loop.origin), options)
    config = dump_config(loop.config)
    changed = changes(folder.path, KIND, folder.config, config, options, RESUMABLE_CHANGES)
    checkpoint = folder.checkpoints.latest()
    due = checkpoint is not None and checkpoint.state.get("look_due", False) is True
    if checkpoint is not None:
        stored = checkpoint.state.get("config", config)
        changed |= changes_since_checkpoint(folder, stored, config, options, RESUMABLE_CHANGES)
        if checkpoint.iteration > loop.config.iterations:
            raise UsageError(
                f"{folder.path} has done {checkpoint.iteration} iterations, more than the "
                f"{loop.config.iterations} that are wanted now; ask for more, or start a new run"
            )
        loop.load(unflatten_state(checkpoint.tensors, checkpoint.state["loop"]))
    if checkpoint is None:
        folder.truncate_metrics(0)
    else:
        folder.truncate_metrics(checkpoint.state["metrics_bytes"], checkpoint.state.get("metrics_sha256"))
    if changed:  # only now that everything fits, and nobody else is in the folder
        folder.replace_config(config)
        if checkpoint is not None:
            _checkpoint(loop, folder, options, due)
    return due


def _refuse_missing(
    path: Path, config: DistillConfig, data: RealData | None, net: nn.Module | NetFactory | None
) -> None:
    """A run on data or a module from Python can go on from Python only."""
    missing = [
        f"{name}="
        for name, used, given in (("data", config.dataset, data), ("net", config.net, net))
        if used == CUSTOM and given is None
    ]
    if missing:
        raise UsageError(
            f"{path} learns from Python objects of your own; go on from Python with dd.distill(None, "
            f"out={str(path)!r}, resume=True, {', '.join(missing)} ...)"
        )


def _measured_before(folder: RunFolder, result: DistilledDataset) -> dict[str, Any]:
    """The accuracies in the folder's file, where that is this very set (a finished run that is resumed)."""
    if not folder.distilled.exists():
        return result.accuracies
    try:
        old = DistilledDataset.load(folder.distilled)
    except DataError:
        return result.accuracies
    return old.accuracies if distilled_file.identity(old) == distilled_file.identity(result) else {}


def _iterate(
    loop: OuterLoop,
    folder: RunFolder | None,
    options: RunOptions,
    progress: RunProgress,
    stop: StopFlag,
    due: bool = False,
) -> None:
    """Outer iterations up to the last one, with looks at the validation split, checkpoints and signals.

    A look that a signal breaks off is still due; the checkpoint says so.
    """
    config = loop.config
    unit, interval = options.checkpoint_interval
    saved_at, saved_time = loop.iteration, time.monotonic()
    if folder is not None and loop.iteration:
        progress.say(f"going on from iteration {loop.iteration} of {config.iterations}")
        folder.append_timing({"iteration": loop.iteration, "seconds": 0.0})  # a session begins
    elif (note := _checked(loop)) is not None:
        progress.say(note)
    while due or loop.iteration < config.iterations:
        if stop:
            if folder is None:
                stop.raise_if_requested(f"stopped at iteration {loop.iteration}; nothing was saved (no folder)")
                raise AssertionError  # the flag is set, so the line above raised
            if loop.iteration != saved_at:
                _checkpoint(loop, folder, options, due)
            seconds = time.monotonic() - progress.began
            folder.end_session({"iteration": loop.iteration, "seconds": seconds})
            stop.raise_if_requested(_go_on(config, folder.path, f"saved at iteration {loop.iteration}"))
        if not due:
            loss = loop.advance()
            progress.iteration(loop.iteration, loss)
            due = loop.iteration % config.validate_every == 0 or loop.iteration == config.iterations
        if due:
            began = time.monotonic()
            try:
                with interruptible():
                    record = loop.validate()
            except Interrupted:
                continue  # to the top, where it is saved
            due = False
            progress.record(record)
            if folder is not None:
                folder.append_metrics(record)
                seconds = time.monotonic() - progress.began
                folder.append_timing(
                    {"iteration": loop.iteration, "seconds": seconds, "validation": time.monotonic() - began}
                )
        if folder is not None:
            since = loop.iteration - saved_at if unit == "iterations" else time.monotonic() - saved_time
            if since >= interval or loop.iteration == config.iterations:
                _checkpoint(loop, folder, options)
                saved_at, saved_time = loop.iteration, time.monotonic()


def _checked(loop: OuterLoop) -> str | None:
    """What is to be said before learning; nothing where a signal comes meanwhile, on which the loop acts."""
    try:
        with interruptible():
            return check_before_learning(loop)
    except Interrupted:
        return None


def _go_on(config: DistillConfig, path: Path, done: str) -> str:
    """What was done, and how to go on."""
    way = f"datadistill distill --resume {path}"
    if CUSTOM in (config.dataset, config.net):
        way = f"dd.distill(None, out={str(path)!r}, resume=True, data=..., net=...)"
    return f"{done}; go on with: {way}"


def _checkpoint(loop: OuterLoop, folder: RunFolder, options: RunOptions, due: bool = False) -> None:
    tensors, state = flatten_state(loop.state())
    record = {
        "loop": state, **folder.metrics_record(), "config": dump_config(loop.config),
        "set": describe(loop.distilled()),
    }  # fmt: skip
    if due:  # the look at the validation split after this iteration
        record["look_due"] = True
    save_checkpoint(folder, loop.iteration, tensors, record, options)


def _needs(config: DistillConfig) -> str:
    """What takes the memory, and what takes less."""
    return (
        f"{config.inner_steps} inner steps with every graph kept; try --adjoint step-replay, fewer --epochs, "
        f"or a --batch below {config.batch}"
    )
