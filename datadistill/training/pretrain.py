"""Pools of pretrained nets, from start to end: folder, checkpoints, signals, and the file that is left.

    pretrain(config)                        in memory, nothing written
    pretrain(config, out="runs/a")          a run folder, with pool.safetensors
    pretrain(None, out="runs/a", resume=True)

Reference: Wang et al. 2018, sections 3.5 and 4.2, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from datadistill import data as data_module
from datadistill.config import PoolConfig, RunOptions
from datadistill.data import RealData
from datadistill.device import refuse_too_large, resolve
from datadistill.errors import DataError, Interrupted, UsageError, worded
from datadistill.nets.fits import check_fits
from datadistill.nets.initialization import undrawn
from datadistill.nets.spec import CUSTOM, NetSpec
from datadistill.pool import FILE_NAME, KIND, Pool, refuse_buffers
from datadistill.progress import Report, shows_progress
from datadistill.runs.environment import environment
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonconfig import build_config, dump_config
from datadistill.runs.signals import StopFlag, interruptible
from datadistill.runs.state import flatten_state, unflatten_state
from datadistill.torch_defaults import library_defaults
from datadistill.training.pool_loop import FinishedNets, PoolLoop, Trained, near_chance
from datadistill.training.progress import PoolProgress
from datadistill.training.resume import (
    changes,
    fingerprints,
    named_failures,
    refuse_others,
    save_checkpoint,
    taken_back,
)

CPU = torch.device("cpu")  # where the pool is put together

NOT_BEGUN = "stopped before the run began; nothing was written"


@library_defaults()
@shows_progress
def pretrain(
    config: PoolConfig | None,
    *,
    data: RealData | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    options: RunOptions = RunOptions(quiet=True),  # noqa: B008  (frozen)
    progress: bool | Report = False,
) -> Pool:
    """Train a pool of nets to draw theta_0 from.

    Args:
        config: what to train; `pool_recipe` returns one. None with `resume` takes the run folder's own.
        data: your own real data; default: what the config names.
        out: a run folder to write: config, metrics (a line a net), checkpoints, pool.safetensors. None writes
            nothing.
        resume: go on with the pool in `out` in the middle of the net where it stopped, to the same bytes as
            without a stop on the same machine, torch version and thread count.
        options: how to carry the run out; "iterations" between checkpoints are gradient steps here.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it goes on.

    Returns:
        The pool, on the CPU.

    Raises:
        UsageError, DataError, NumericalError, ResourceError, Unavailable: each says what to do.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written where there is a folder.

    Example:
        >>> tiny = PoolConfig(
        ...     dataset="digits", net="mlp", net_args={"width": 16}, nets=2, validation_nets=1, held_out=1,
        ...     epochs=1, batch=32, lr=0.01,
        ... )
        >>> pool = pretrain(tiny)
        >>> pool.part("held_out")["layers.0.weight"].shape
        torch.Size([1, 16, 64])
    """
    if config is not None and not isinstance(config, PoolConfig):
        raise UsageError(f"config is {config!r:.60}, wanted a PoolConfig; datadistill.recipes.pools has some")
    if config is not None and data is not None:  # what came from Python is named so
        config = replace(config, dataset=CUSTOM)
    if out is None:
        if resume or config is None:
            raise UsageError("a pool in memory cannot be resumed; pass out=FOLDER, and a config to start one")
        with named_failures(_needs(config)), StopFlag() as stop:
            with interruptible(NOT_BEGUN):
                prepared = _prepared(config, data, options)
            return _train(*prepared, None, options, stop)
    path = Path(out)
    folder = None
    if resume:
        folder = RunFolder.open(path, kind=KIND)
        stored = build_config(PoolConfig, folder.config, str(path / "config.json"))
        config = stored if config is None else config
        changes(path, KIND, folder.config, dump_config(config), options)
        if (path / FILE_NAME).exists():
            return _finished(folder, config, options)
    if config is None:
        raise UsageError("no config was given; pass a pool recipe's config, or resume a run folder")
    if folder is None:
        RunFolder.refuse_occupied(path)  # before the data are read, which may take minutes
    if config.dataset == CUSTOM and data is None:
        raise UsageError(
            f"{path} trains on data of your own from Python; go on from Python with pretrain(None, "
            f"out={str(path)!r}, resume=True, data=...)"
        )
    with named_failures(_needs(config)), StopFlag() as stop:
        resumed = f"nothing was changed; go on with: {_way(config, path)}"
        with interruptible(NOT_BEGUN if folder is None else resumed):
            loop, spec = _prepared(config, data, options)
        fresh = folder is None
        if folder is None:
            stop.raise_if_requested(NOT_BEGUN)
            found = {**environment(loop.data.device), **fingerprints(loop.data, loop.net)}
            folder = RunFolder.create(path, dump_config(config), found, KIND)
        with folder.lock(), taken_back(folder, lambda: not fresh or loop.step > 0):
            folder.clean()
            pool = _train(loop, spec, folder, options, stop)
        stop.raise_if_requested(f"all nets were trained and the pool is saved in {path}")
    return pool


def _prepared(config: PoolConfig, data: RealData | None, options: RunOptions) -> tuple[PoolLoop, NetSpec]:
    """Load the data, build the net and the loop."""
    device = resolve(config.device)
    real = data if data is not None else data_module.load(
        config.dataset, root=options.data_root, download=options.download, size=config.size,
        channels=config.channels, validation=config.validation, seed=config.seed,
    )  # fmt: skip
    if not len(real.validation):
        raise DataError(
            f"{real.name} leaves no image to judge the nets by (validation); pass a larger --validation"
        )
    spec = NetSpec.of_images(
        config.net, config.net_args, config.init, shape=real.shape, classes=len(real.classes)
    )
    net = spec.build()
    check_fits(net, real.shape, len(real.classes))
    refuse_buffers(net, config.net)
    if kept := undrawn(net, config.init):
        raise UsageError(
            f"{config.init} does not draw {', '.join(kept[:5])}, so the nets would not be independent; choose "
            "another initialization (--init)"
        )
    needed = 4 * config.total * sum(p.numel() for p in net.parameters())
    refuse_too_large(
        needed, f"for {config.total} nets of {config.net}; lower nets, validation_nets or held_out", CPU
    )
    return PoolLoop(config, real.to(device), net.to(device)), spec


def _train(
    loop: PoolLoop, spec: NetSpec, folder: RunFolder | None, options: RunOptions, stop: StopFlag
) -> Pool:
    """Train what is not yet trained, and make the pool."""
    config, data = loop.config, loop.data
    nets = FinishedNets(None if folder is None else folder.path / "nets")
    if folder is not None:
        _restore(loop, nets, folder, options)
    with PoolProgress(config.total, loop.steps, loop.step, options.quiet) as progress:
        _steps(loop, nets, folder, options, progress, stop)
    record = {name: value for name, value in dump_config(config).items() if name != "device"}
    pool = Pool(
        nets.stacked(), nets=config.nets, validation_nets=config.validation_nets, held_out=config.held_out,
        net=spec, dataset=data.name, classes=data.classes, normalization=data.normalization,
        accuracies=tuple(nets.accuracies), record=record, data_fingerprint=data.fingerprint,
    )  # fmt: skip
    if folder is not None:
        pool.save(folder.path / FILE_NAME)
        nets.remove()
    _warn_of_chance(nets.accuracies, len(data.classes))
    return pool


def _steps(
    loop: PoolLoop,
    nets: FinishedNets,
    folder: RunFolder | None,
    options: RunOptions,
    progress: PoolProgress,
    stop: StopFlag,
) -> None:
    """Gradient steps up to the last one, with checkpoints and signals."""
    config = dump_config(loop.config)
    unit, interval = options.checkpoint_interval
    began = saved_time = time.monotonic()
    saved_at = loop.step
    if loop.step:
        progress.say(f"going on from step {loop.step} of {loop.steps}, {len(nets.accuracies)} nets trained")
        if folder is not None:
            folder.append_timing({"net": len(nets.accuracies), "seconds": 0.0})  # a session begins
    while not loop.done:
        if stop:
            if folder is None:
                stop.raise_if_requested(f"stopped at step {loop.step}; nothing was saved (no folder)")
                raise AssertionError  # the flag is set, so the line above raised
            if loop.step != saved_at:
                _checkpoint(loop, folder, options)
            folder.end_session({"net": len(nets.accuracies), "seconds": time.monotonic() - began})
            stop.raise_if_requested(
                f"saved at step {loop.step} of {loop.steps}, {len(nets.accuracies)} nets trained; go on "
                f"with: {_way(loop.config, folder.path)}"
            )
        number = loop.groups[loop.group][0]
        try:
            trained = loop.advance()
        except Interrupted:
            continue  # to the top, where it is saved
        progress.step(loop.step, number)
        if trained is not None:
            nets.add(trained, config)
            progress.finished(loop.step, len(nets.accuracies), nets.accuracies)
            if folder is not None:
                for record in _lines(trained):
                    folder.append_metrics(record)
                seconds = time.monotonic() - began
                folder.append_timing({"net": trained.numbers[-1], "seconds": seconds})
                saved_at, saved_time = loop.step, time.monotonic()  # finished nets are as good as a checkpoint
        elif folder is not None:
            since = loop.step - saved_at if unit == "iterations" else time.monotonic() - saved_time
            if since >= interval:
                _checkpoint(loop, folder, options)
                saved_at, saved_time = loop.step, time.monotonic()


def _way(config: PoolConfig, path: Path) -> str:
    """What to type to go on."""
    if config.dataset == CUSTOM:
        return f"pretrain(None, out={str(path)!r}, resume=True, data=...)"
    return f"datadistill pretrain --resume {path}"


def _lines(trained: Trained) -> list[dict[str, Any]]:
    """A line for metrics.jsonl for each net."""
    found = zip(trained.numbers, trained.losses, trained.accuracies, strict=True)
    return [{"net": n, "loss": loss, "accuracy": accuracy} for n, loss, accuracy in found]


def _checkpoint(loop: PoolLoop, folder: RunFolder, options: RunOptions) -> None:
    tensors, state = flatten_state(loop.state())
    save_checkpoint(folder, loop.step, tensors, {"loop": state, "config": dump_config(loop.config)}, options)


def _restore(loop: PoolLoop, nets: FinishedNets, folder: RunFolder, options: RunOptions) -> None:
    """Take over the nets that are finished and whole, and the state of the one that is not."""
    refuse_others(folder, loop.data.device, fingerprints(loop.data, loop.net), options)
    config = dump_config(loop.config)
    for numbers in loop.groups:
        try:
            found = nets.read(numbers)
        except DataError as error:
            warnings.warn(f"{error}; these nets are trained again", stacklevel=4)
            found = None
        if found is None:
            break
        # the file's own config, for config.json may have been edited
        changes(folder.path, KIND, found[1]["config"], config, options)
        nets.groups.append(Trained(numbers, {}, found[1]["accuracies"], found[1]["losses"]))
    loop.start(len(nets))
    checkpoint = folder.checkpoints.latest()
    if checkpoint is not None:
        changes(folder.path, KIND, checkpoint.state.get("config", config), config, options)
        state = unflatten_state(checkpoint.tensors, checkpoint.state["loop"])
        if state["group"] == loop.group:
            loop.load(state)
    folder.truncate_metrics(0)
    for group in nets.groups:
        for record in _lines(group):
            folder.append_metrics(record)


def _finished(folder: RunFolder, config: PoolConfig, options: RunOptions) -> Pool:
    """The pool of a run that was over; what a process left that was killed then is removed."""
    with folder.lock():
        pool = Pool.load(folder.path)
        record = {**dict(pool.record or {}), "device": config.device}
        changes(folder.path, KIND, record, dump_config(config), options)
        folder.clean()
        FinishedNets(folder.path / "nets").remove()
    return pool


def _warn_of_chance(accuracies: Sequence[float], classes: int) -> None:
    low = [n for n, a in enumerate(accuracies) if near_chance(a, classes)]
    if low:
        shown = ", ".join(map(str, low[:5])) + (", ..." if len(low) > 5 else "")
        message = (
            f"{len(low)} of {len(accuracies)} nets classify hardly better than chance (nets {shown}; the worst "
            f"{min(accuracies):.1f}%); train longer (--epochs), or with another learning rate (--lr)"
        )
        warnings.warn(worded(message), stacklevel=4)


def _needs(config: PoolConfig) -> str:
    """What takes the memory, and what takes less."""
    return f"{config.at_once} nets at once and batches of {config.batch}; try a smaller --at-once or --batch"
