"""A dry run of a distillation: everything is loaded, built and checked, one outer iteration is made
in memory, and nothing of the run is written; data that are missing may be fetched."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import nn

from datadistill.config import DistillConfig, RunOptions
from datadistill.data import RealData
from datadistill.device import peak_memory
from datadistill.nets.factory import NetFactory
from datadistill.pool import Pool
from datadistill.runs.resume import name_out_of_memory
from datadistill.theta import trainable
from datadistill.torch_defaults import use_library_defaults
from datadistill.training.distillation import Distillation

__all__ = ["DryRun", "dry_run"]


@dataclass(frozen=True)
class DryRun:
    """What a distillation would work with.

    Args:
        loss: of the first outer iteration; None where it is not finite, and `on_nan` passes over
            it.
        images: (N, C, H, W) of the set.
        set_bytes: of its images, labels and step sizes.
        real_images: to learn from.
        validation_images: to test on while it learns.
        parameters: numbers of the net that the steps train.
        steps: of one training on the set.
        differentiated_steps: of them, or of those the method takes in their place, the most that
            the loss is differentiated through; 0 for a method that differentiates no training.
        iterations: of the run.
        seconds: of the first iteration, which is slower than the others.
        memory: the most bytes after this iteration, of the process or of its GPU, which tests and
            later windows may exceed; None where the system does not tell.
        note: what the run would log before its first iteration.
    """

    loss: float | None
    images: tuple[int, ...]
    set_bytes: int
    real_images: int
    validation_images: int
    parameters: int
    steps: int
    differentiated_steps: int
    iterations: int
    seconds: float
    memory: int | None
    note: str | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@use_library_defaults()
def dry_run(
    config: DistillConfig,
    *,
    data: RealData | None = None,
    net: nn.Module | NetFactory | Sequence[nn.Module] | None = None,
    pool: Pool | None = None,
    experts: Pool | None = None,
    options: RunOptions = RunOptions(quiet=True),  # noqa: B008  (frozen)
) -> DryRun:
    """Load, build and check what `distill` would, and make one outer iteration in memory.

    Args:
        config, data, net, pool, experts, options: as of `distill`.

    Raises:
        UsageError, DataError, NumericalError, ResourceError, Unavailable: as of `distill`.

    Example:
        >>> from datadistill.recipes import recipe
        >>> found = dry_run(recipe("digits-random").with_changes(batch=8, nets=1))
        >>> found.images, found.steps, found.iterations
        ((10, 1, 8, 8), 10, 400)
    """
    kind = Distillation(data, net, pool, experts)
    kind.refuse_config(config)
    config = kind.prepare(config)
    kind.check(config, None, options, False)
    with name_out_of_memory(partial(kind.explain_memory, config)):
        note = kind.build(config, options).check()
        learning = kind.learning
        assert learning is not None  # that of `build`
        began = time.monotonic()
        loss = learning.advance()
        seconds = time.monotonic() - began
    d, module, real, loop = learning.snapshot(), learning.net, learning.data, learning.loop
    return DryRun(
        loss=loss if math.isfinite(loss) else None,
        images=tuple(d.images.shape),
        set_bytes=d.bytes,
        real_images=len(real.train),
        validation_images=len(real.validation),
        parameters=sum(module.get_parameter(name).numel() for name in trainable(module)),
        steps=d.schedule.steps,
        differentiated_steps=loop.method.differentiated_steps(loop.synthetic),
        iterations=loop.iterations,
        seconds=seconds,
        memory=peak_memory(real.device),
        note=note,
    )
