"""Distillation as a kind of run."""

from __future__ import annotations

import inspect
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from datadistill import distilled_file
from datadistill.config import RESUMABLE_CHANGES, DistillConfig, RunOptions
from datadistill.data import RealData
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError
from datadistill.innerloop import Auto, StepReplay
from datadistill.methods import METHODS
from datadistill.nets.factory import NetFactory
from datadistill.nets.spec import CUSTOM
from datadistill.pool import Pool
from datadistill.pool_from_modules import check_modules
from datadistill.progress import Report, show_progress
from datadistill.runs.checkpoints import Checkpoint
from datadistill.runs.driver import run
from datadistill.runs.folder import RunFolder
from datadistill.runs.inside import refuse_inside
from datadistill.runs.kinds import Kind, Step, Work
from datadistill.runs.resume import fingerprints
from datadistill.runs.signals import interruptible
from datadistill.torch_defaults import use_library_defaults
from datadistill.training.before_learning import describe_unused, warn_of_unused_values
from datadistill.training.learning import Learning
from datadistill.training.learning_from_config import adjoint_of, learning_of
from datadistill.unfinished import KIND, describe_set


@use_library_defaults()
@show_progress
def distill(
    config: DistillConfig | None,
    *,
    data: RealData | None = None,
    net: nn.Module | NetFactory | Sequence[nn.Module] | None = None,
    pool: Pool | None = None,
    experts: Pool | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    options: RunOptions = RunOptions(quiet=True),  # noqa: B008  (frozen)
    progress: bool | Report = False,
) -> DistilledDataset:
    """Learn a distilled set.

    Args:
        config: what to learn; a recipe returns one. None with `resume` takes the run folder's own.
        data: your own real data (`RealData.from_tensors`, `.from_dataset`); default: what the
            config names.
        net: your own module, images (B, C, H, W) to logits (B, K), or a function without arguments
            that builds one (`lambda: MyNet()`); default: what the config names. With
            `config.theta_0` "given" the module's values are where training starts; else it gives
            names and shapes, and this says so (`datadistill.errors.ValuesNotUsed`). A function is
            called again for each draw of theta_0, with the global generators of torch, numpy and
            random seeded: nets start as their constructor has it, and `config.init` is not used. A
            module is never changed. A list or tuple of three or more trained modules stands for
            `pool=Pool.of(net, data=data)`; the modes of their layers are the first one's.
        pool: pretrained nets that theta_0 is drawn from ("random"; "fixed" takes one of them);
            default: what the config names. Pools of modules of your own need `net` too, which gives
            the architecture.
        experts: a pool of nets with every epoch kept, for the methods that match them; default:
            what the config names.
        out: a run folder to write: config, metrics, checkpoints, distilled.safetensors. None writes
            nothing.
        resume: continue the run in `out` from its last checkpoint, to the same bytes as without a
            stop on the same machine, torch version and thread count.
        options: how to carry the run out.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it
            goes on.

    Raises:
        UsageError, DataError, NumericalError, ResourceError, Unavailable: each says what to do.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written where there is a folder.

    Example:
        >>> from datadistill.recipes import recipe
        >>> tiny = recipe("digits-random").with_changes(iterations=2)
        >>> distill(tiny)
        DistilledDataset(10 images 1x8x8, 10 classes, 10 steps, any initialization of convnet)
    """
    if isinstance(net, nn.Module) and isinstance(config, DistillConfig) and not resume:
        _warn_of_unused_values(config, pool)
    return run(Distillation(data, net, pool, experts), config, out, resume=resume, options=options)


class Distillation(Kind[DistillConfig, DistilledDataset]):
    """The kind of run that learns a distilled set."""

    name, unit, config, resumable = KIND, "iteration", DistillConfig, RESUMABLE_CHANGES
    takes_ranks = True

    def __init__(
        self,
        data: RealData | None = None,
        net: nn.Module | NetFactory | Sequence[nn.Module] | None = None,
        pool: Pool | None = None,
        experts: Pool | None = None,
    ) -> None:
        for name, value in (("pool", pool), ("experts", experts)):
            if not isinstance(value, Pool | None):
                raise UsageError(
                    f"{name} is {value!r:.80}, wanted a Pool; name its file in the config "
                    f"({name}=FILE), or pass dd.Pool.load(FILE)"
                    + (", or dd.Pool.of([net, ...], data=...)" if name == "pool" else "")
                )
        self.data, self.experts = data, experts
        self.learning: Learning | None = None  # once it is built
        self.nets: Pool | Sequence[nn.Module] | None = pool
        if isinstance(net, list | tuple):
            if pool is not None:
                raise UsageError("net is a list of nets, and a pool is given too; drop one")
            self.nets = check_modules(net)
            net = net[0]
        assert not isinstance(net, Sequence)
        self.net = net

    def refuse_config(self, config: object) -> None:
        if isinstance(config, str):
            raise UsageError(f"config is {config!r}, wanted a config; pass dd.recipe({config!r})")
        super().refuse_config(config)

    def prepare(self, config: DistillConfig) -> DistillConfig:
        config = replace(config, dataset=CUSTOM) if self.data is not None else config
        if self.nets is not None:
            if config.pool not in (None, CUSTOM):
                raise UsageError(
                    f"pretrained nets are given, and the config names the pool {config.pool}; drop "
                    "one"
                )
            config = replace(config, pool=CUSTOM)
        if self.experts is not None:
            if config.experts not in (None, CUSTOM):
                raise UsageError(
                    f"experts are given, and the config names {config.experts}; drop one"
                )
            config = replace(config, experts=CUSTOM)
        return replace(config, net=CUSTOM, net_args={}) if self.net is not None else config

    def check(
        self, config: DistillConfig, path: Path | None, options: RunOptions, resumed: bool
    ) -> None:
        if path is None:
            return
        if config.dataset == "folder":
            refuse_inside(path, config.data)
            refuse_inside(options.rescue_dir, config.data, "--rescue-dir")
        missing = [
            f"{name}="
            for name, used, given in (
                ("data", config.dataset, self.data),
                ("net", config.net, self.net),
                ("pool", config.pool, self.nets),
                ("experts", config.experts, self.experts),
            )
            if used == CUSTOM and given is None
        ]
        if missing:
            raise UsageError(
                f"{path} learns from Python objects of your own; go on from Python with "
                f"dd.distill(None, out={str(path)!r}, resume=True, {', '.join(missing)} ...)"
            )

    def build(self, config: DistillConfig, options: RunOptions) -> Work[DistilledDataset]:
        self.learning = learning_of(config, options, self.data, self.net, self.nets, self.experts)
        return _Outer(self.learning, describe_unused(config))

    def command(self, config: DistillConfig, path: Path) -> str:
        used = (
            ("data", config.dataset),
            ("net", config.net),
            ("pool", config.pool),
            ("experts", config.experts),
        )
        if own := [f"{name}=..." for name, value in used if value == CUSTOM]:
            return f"dd.distill(None, out={str(path)!r}, resume=True, {', '.join(own)})"
        return f"datadistill distill --resume {path}"

    def explain_memory(self, config: DistillConfig) -> str:
        if self.learning is None:
            return "real images, net and set; try a smaller --ipc, or fewer --nets"
        loop = self.learning.loop
        steps = loop.method.differentiated_steps(loop.synthetic)
        reads_batch = "batch" in inspect.signature(METHODS[config.method]).parameters
        smaller = f"a --batch below {config.batch}" if reads_batch else "fewer --nets"
        if not steps:
            return f"an iteration of {config.method}; try {smaller}, or a smaller --ipc"
        adjoint = adjoint_of(config)
        if isinstance(adjoint, Auto):
            adjoint = adjoint.choose(steps)
        if isinstance(adjoint, StepReplay):
            return f"{steps} inner steps; try fewer of them, or {smaller}"
        fewer = "a smaller --window" if config.window else "--adjoint step-replay, fewer of them"
        return f"{steps} inner steps with every graph kept; try {fewer}, or {smaller}"

    def describe_end(self, config: DistillConfig, path: Path) -> str:
        return (
            f"all {config.iterations} iterations were done and the set is saved in {path}; measure "
            f"it with: datadistill evaluate {path} --save"
        )


class _Outer(Work[DistilledDataset]):
    """Outer iterations, and a test on the validation split after some of them."""

    what = "learning"

    def __init__(self, learning: Learning, unused: str | None) -> None:
        self.learning, self.device = learning, learning.data.device
        self.unused = unused
        self.fingerprints = fingerprints(learning.data, learning.net, learning.inputs)
        # whether the look at the validation split after this iteration is still to come
        self.due = False
        self.loss: float | None = None  # smoothed, for the bar
        self.found: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        return self.learning.iteration

    @property
    def steps(self) -> int:
        return self.learning.loop.iterations

    @property
    def is_done(self) -> bool:
        return self.step >= self.steps and not self.due

    def check(self) -> str | None:
        checked = None if self.learning.check is None else self.learning.check()
        return "; ".join(filter(None, (self.unused, self.learning.note, checked))) or None

    def advance(self) -> Step:
        if not self.due:
            loss = self.learning.advance()
            if self.loss is None or math.isnan(self.loss):
                self.loss = loss
            else:
                self.loss = 0.95 * self.loss + 0.05 * loss
            self.due = self.learning.is_test_due()
        parts = () if self.loss is None else (f"loss {self.loss:.3f}",)
        if not self.due:
            return Step((*parts, *self.found))
        began = time.monotonic()
        with interruptible():
            record = self.learning.validate()
        self.due = False
        self.found = (
            f"validation {record['accuracy']:.1f}%",
            f"step sizes {_few(record['step_sizes'])}",
        )
        shown = "-" if record["loss"] is None else f"{record['loss']:.3f}"
        return Step(
            (*parts, *self.found),
            metrics=[record],
            timing={**self.place(), "validation": time.monotonic() - began},
            line=f"iteration {self.step}/{self.steps}  loss {shown}  "
            f"accuracy {record['accuracy']:.1f}% (validation)  {self.found[1]}",
        )

    def state(self) -> dict[str, Any]:
        return {**self.learning.state(), "due": self.due}

    def load(self, state: Mapping[str, Any]) -> None:
        self.learning.load(state)
        self.due = state.get("due", False)

    def load_checkpoint(self, checkpoint: Checkpoint) -> None:
        super().load_checkpoint(checkpoint)
        if checkpoint.state.get("look_due") is True:  # where older versions have it
            self.due = True

    def description(self) -> dict[str, Any]:
        d = self.learning.snapshot()
        return {} if d.normalization.tensors else {"set": describe_set(d)}  # of plain values

    def place(self) -> dict[str, Any]:
        return {"iteration": self.step}

    def finish(self, folder: RunFolder | None, broken_off: str) -> DistilledDataset:
        result = self.learning.result()
        if folder is not None:
            result.accuracies = _load_accuracies(folder, result)
            result.save(folder.distilled)
        return result


def _warn_of_unused_values(config: DistillConfig, pool: Pool | None) -> None:
    """Warn once for each place that calls `distill`, as Python's own filter has it."""
    if config.theta_0 != "given" and (pool or config.pool or config.weights) is None:
        kept = "one draw" if config.theta_0 == "fixed" else "fresh draws"
        warn_of_unused_values(
            f'the values of net are not used: theta_0 is "{config.theta_0}", {kept} by the scheme '
            f'{config.init}; theta_0="given" starts from them, and net=lambda: MyNet() '
            "draws as MyNet does",
            stacklevel=6,  # the line that calls `distill`, through its two decorators
        )


def _load_accuracies(folder: RunFolder, result: DistilledDataset) -> dict[str, Any]:
    """The accuracies in the folder's file, where that is this very set (a finished run that is
    resumed)."""
    if not folder.distilled.exists():
        return result.accuracies
    try:
        old = DistilledDataset.load(folder.distilled)
    except DataError:
        return result.accuracies
    return old.accuracies if distilled_file.identity(old) == distilled_file.identity(result) else {}


def _few(values: list[float]) -> str:
    shown = [f"{v:.3g}" for v in values]
    return " ".join(shown) if len(shown) <= 5 else f"{shown[0]} {shown[1]} .. {shown[-1]}"
