"""Pretraining of a pool of nets as a kind of run.

Reference: Wang et al. 2018, sections 3.5 and 4.2, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from datadistill.config import PoolConfig, RunOptions
from datadistill.config.pool import LATER
from datadistill.data import RealData
from datadistill.errors import DataError, UsageError, format_message, list_some
from datadistill.nets.factory import NetFactory
from datadistill.nets.spec import CUSTOM, FACTORY, NetSpec
from datadistill.pool import KIND, Pool
from datadistill.pool_from_modules import pooled_tensors
from datadistill.pretrained_values import checksum_of
from datadistill.progress import Report, show_progress
from datadistill.runs.checkpoints import Checkpoint
from datadistill.runs.driver import run
from datadistill.runs.folder import POOL_FILE, RunFolder
from datadistill.runs.jsonconfig import dump_config
from datadistill.runs.kinds import Kind, LoopWork, Step, Work
from datadistill.runs.resume import check_changes, fingerprints
from datadistill.runs.state import unflatten_state
from datadistill.stats import mean
from datadistill.theta import frozen_tensors
from datadistill.torch_defaults import use_library_defaults
from datadistill.training.before_learning import warn_of_unused_values
from datadistill.training.finished_nets import FinishedNets, TrainedGroup
from datadistill.training.pool_from_config import pool_loop_of
from datadistill.training.pool_loop import PoolLoop, is_near_chance


@use_library_defaults()
@show_progress
def pretrain(
    config: PoolConfig | None,
    *,
    data: RealData | None = None,
    net: nn.Module | NetFactory | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    options: RunOptions = RunOptions(quiet=True),  # noqa: B008  (frozen)
    progress: bool | Report = False,
) -> Pool:
    """Train a pool of nets to draw theta_0 from, and return it on the CPU.

    Args:
        config: what to train; `pool_recipe` returns one. None with `resume` takes the run folder's
            own.
        data: your own real data; default: what the config names.
        net: your own architecture, images (B, C, H, W) to logits (B, K): a function without
            arguments that builds a net (`lambda: MyNet()`), called again for each net of the pool
            with the global generators of torch, numpy and random seeded; or a module, of which each
            net is a fresh draw by `config.init`, its own values not used. BatchNorm and dropout
            train as in an ordinary loop, and the pool holds each net's running statistics. Default:
            what the config names.
        out: a run folder to write: config, metrics (a line a net), checkpoints, pool.safetensors.
            None writes nothing.
        resume: continue the pool in `out` in the middle of the net where it stopped, to the same
            bytes as without a stop on the same machine, torch version and thread count.
        options: how to carry the run out; "iterations" between checkpoints are gradient steps here.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it
            goes on.

    Raises:
        UsageError, DataError, NumericalError, ResourceError, Unavailable: each says what to do.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written where there is a folder.

    Example:
        >>> tiny = PoolConfig(
        ...     dataset="digits",
        ...     net="mlp",
        ...     net_args={"width": 16},
        ...     nets=2,
        ...     validation_nets=1,
        ...     held_out=1,
        ...     epochs=1,
        ...     batch=32,
        ...     lr=0.01,
        ... )
        >>> pool = pretrain(tiny)
        >>> pool.part("held_out")["layers.0.weight"].shape
        torch.Size([1, 16, 64])
    """
    if isinstance(net, nn.Module) and config is not None and not resume:
        # the line that calls `pretrain`, through its two decorators
        warn_of_unused_values(
            "the values of net are not used: each net is a fresh draw by the scheme "
            f"{config.init}; net=lambda: MyNet() draws as MyNet does",
            stacklevel=5,
        )
    return run(Pretraining(data, net), config, out, resume=resume, options=options)


class Pretraining(Kind[PoolConfig, Pool]):
    """The kind of run that trains a pool."""

    name, config, wanted = KIND, PoolConfig, "datadistill.recipes.pools.pool_recipe(NAME)"

    def __init__(
        self, data: RealData | None = None, net: nn.Module | NetFactory | None = None
    ) -> None:
        self.data, self.net = data, net

    def prepare(self, config: PoolConfig) -> PoolConfig:
        config = config if self.data is None else replace(config, dataset=CUSTOM)
        return config if self.net is None else replace(config, net=CUSTOM, net_args={})

    def check(
        self, config: PoolConfig, path: Path | None, options: RunOptions, resumed: bool
    ) -> None:
        objects = ((config.dataset, self.data), (config.net, self.net))
        if path is not None and any(used == CUSTOM and given is None for used, given in objects):
            raise UsageError(
                f"{path} trains with Python objects of your own; go on from Python with "
                f"{self.command(config, path)}"
            )

    def build(self, config: PoolConfig, options: RunOptions) -> Work[Pool]:
        return _Training(*pool_loop_of(config, options, self.data, self.net), options)

    def load_finished(
        self, folder: RunFolder, config: PoolConfig, options: RunOptions
    ) -> Pool | None:
        """The pool in the folder; what a process left that was killed at the end is removed."""
        if not (folder.path / POOL_FILE).exists():
            return None
        with folder.lock():
            pool = Pool.load(folder.path)
            record = {**dict(pool.record or {}), "device": config.device}
            check_changes(folder.path, KIND, record, dump_config(config), options)
            folder.clean()
            FinishedNets(folder.path / "nets").remove()
        return pool

    def command(self, config: PoolConfig, path: Path) -> str:
        used = (("data", config.dataset), ("net", config.net))
        if own := [f"{name}=..." for name, value in used if value == CUSTOM]:
            return f"pretrain(None, out={str(path)!r}, resume=True, {', '.join(own)})"
        return f"datadistill pretrain --resume {path}"

    def explain_memory(self, config: PoolConfig) -> str:
        taken = f"{config.at_once} nets at once and batches of {config.batch}"
        return f"{taken}; try a smaller --at-once or --batch"

    def describe_end(self, config: PoolConfig, path: Path) -> str:
        return f"all nets were trained and the pool is saved in {path}"


class _Training(LoopWork[Pool]):
    """Gradient steps of group after group. A finished group is a file, which is as good as a
    checkpoint."""

    what = "training nets"

    loop: PoolLoop

    def __init__(self, loop: PoolLoop, spec: NetSpec, options: RunOptions) -> None:
        self.loop, self.spec, self.options = loop, spec, options
        self.device, values = loop.data.device, {}
        if spec.init == FACTORY:  # of the first net that a function of the user's own builds
            values = {"factory": checksum_of(loop.draws.one(0, 0))}
        elif spec.name == CUSTOM:  # those of a module that are not drawn
            values = {"given": checksum_of(frozen_tensors(loop.net))}
        self.fingerprints = fingerprints(loop.data, loop.net, values)
        self.nets = FinishedNets(None)
        self.found: tuple[str, ...] = ()

    def advance(self) -> Step:
        total, number = self.loop.config.total, self.loop.groups[self.loop.group][0]
        trained = self.loop.advance()
        name = f"net {number + 1}/{total}"
        if trained is None:
            return Step((name, *self.found))
        self.nets.add(trained, dump_config(self.loop.config))
        accuracies = self.nets.accuracies
        self.found = (f"accuracy {mean(accuracies):.1f}% (validation, mean so far)",)
        return Step(
            (name, *self.found),
            metrics=_records(trained),
            timing={"net": trained.numbers[-1]},
            line=f"net {len(accuracies)}/{total}  {self.found[0]}",
            important=False,
            kept=True,
        )

    def restore(self, folder: RunFolder, checkpoint: Checkpoint | None) -> None:
        """Take over the nets that are finished and whole, and the state of the group that is
        not."""
        config = dump_config(self.loop.config)
        self.nets = nets = FinishedNets(folder.path / "nets")
        for numbers in self.loop.groups:
            try:
                found = nets.read(numbers)
            except DataError as error:
                warnings.warn(f"{error}; these nets are trained again", stacklevel=4)
                found = None
            if found is None:
                break
            # the file's own config, for config.json may have been edited
            check_changes(folder.path, KIND, found.config, config, self.options)
            nets.groups.append(replace(found, tensors={}))
        self.loop.start(len(nets))
        if checkpoint is not None:
            state = unflatten_state(checkpoint.tensors, checkpoint.state["loop"])
            if state["group"] == self.loop.group:
                self.load(state)
        folder.truncate_metrics(0)
        for group in nets.groups:
            for record in _records(group):
                folder.append_metrics(record)

    def place(self) -> dict[str, Any]:
        return {"net": len(self.nets.accuracies)}

    def progress(self) -> str:
        return f", {len(self.nets.accuracies)} nets trained"

    def finish(self, folder: RunFolder | None, broken_off: str) -> Pool:
        config, data = self.loop.config, self.loop.data
        default = PoolConfig()
        left_out = [name for name in LATER if getattr(config, name) == getattr(default, name)]
        stored = dump_config(config).items()
        record = {name: value for name, value in stored if name not in ("device", *left_out)}
        pool = Pool(
            self.nets.stack(),
            nets=config.nets,
            validation_nets=config.validation_nets,
            held_out=config.held_out,
            net=self.spec,
            dataset=data.name,
            classes=data.classes,
            normalization=data.normalization,
            accuracies=tuple(self.nets.accuracies),
            record=record,
            data_fingerprint=data.fingerprint,
            buffers=list(pooled_tensors(self.loop.net)[1]),
            epochs=config.kept_epochs,
        )
        if folder is not None:
            pool.save(folder.path / POOL_FILE)
            self.nets.remove()
        _warn_of_chance(self.nets.accuracies, len(data.classes))
        return pool


def _records(trained: TrainedGroup) -> list[dict[str, Any]]:
    """A line of metrics.jsonl for each net."""
    found = zip(trained.numbers, trained.losses, trained.accuracies, strict=True)
    return [{"net": n, "loss": loss, "accuracy": accuracy} for n, loss, accuracy in found]


def _warn_of_chance(accuracies: Sequence[float], classes: int) -> None:
    low = [n for n, a in enumerate(accuracies) if is_near_chance(a, classes)]
    if low:
        message = (
            f"{len(low)} of {len(accuracies)} nets classify hardly better than chance (nets "
            f"{list_some(low, 5)}; the worst {min(accuracies):.1f}%); train longer (--epochs), or "
            "with another learning rate (--lr)"
        )
        warnings.warn(format_message(message), stacklevel=4)
