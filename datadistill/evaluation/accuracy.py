"""Accuracy of nets before and after they were trained on a distilled set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from datadistill.data import Split
from datadistill.distilled import DistilledDataset
from datadistill.distilled_training import finish, step_sizes_for
from datadistill.innerloop import LOSSES, Steps, unroll_with_buffers
from datadistill.innerloop.attributes import keep_attributes
from datadistill.innerloop.steps import Pair
from datadistill.nets import has_batchnorm
from datadistill.objectives import predictions
from datadistill.progress import Task, track
from datadistill.runs.ranks import current
from datadistill.starts import (
    Fixed,
    InitialDistribution,
    Pretrained,
    nets_at_once,
)
from datadistill.theta import Theta, unstack

CHUNK = 10  # nets trained at once
Poll = Callable[[], None]
M = TypeVar("M")
Measure = Callable[[nn.Module, Theta, Split], M]


@torch.no_grad()
def measure_training(
    d: DistilledDataset,
    net: nn.Module,
    start: InitialDistribution,
    target: Split,
    *,
    nets: int,
    poll: Poll | None = None,
    before: bool = True,
    measure: Measure[M] | None = None,
) -> tuple[list[M], list[M]]:
    """Accuracy in percent before and after the set's own T steps, for `nets` draws of `start`.

    Args:
        d: the set, on the device of `start` and `target`.
        net: the architecture.
        start: where theta_0 comes from. Net n is the same whatever `nets` is.
        target: real images to test on.
        nets: how many; ranks (`runs.ranks`) share them out.
        poll: called between chunks of nets, for signals.
        before: False leaves the first list empty.
        measure: a function of (net, theta, target) in place of `accuracy`.
    """
    taken: Measure[Any] = measure or accuracy
    step_sizes = step_sizes_for(d, start.draw(0))
    at_once = 1 if d.schedule.is_random else CHUNK  # each net has minibatches of its own

    def measure_chunk(begin: int, task: Task) -> tuple[list[M], list[M]]:
        first: list[M] = []
        after: list[M] = []
        size = min(at_once, nets - begin)
        for module, theta_0, count in nets_at_once(start, net, 0, size, begin):
            with track("training", d.schedule.steps) as training:
                theta_T = unroll_with_buffers(
                    module,
                    theta_0,
                    _show_steps(d.steps(begin), training),
                    step_sizes,
                    d.update,
                    loss=LOSSES[d.loss],
                    norm=d.norm,
                    stream=begin,
                )
            for one in unstack(theta_0, count) if before else []:
                # a pretrained net has statistics of its own, which are in the module
                as_it_is = isinstance(start, Pretrained) or (
                    d.start.kind in ("given", "weights", "pool") and isinstance(start, Fixed)
                )
                with keep_attributes(module):
                    first.append(
                        taken(module if as_it_is else _build_trained(d, module, one), one, target)
                    )
            for one in unstack(theta_T, count):
                with keep_attributes(module):
                    after.append(taken(_build_trained(d, module, one), one, target))
                task.advance()
        return first, after

    ranks, found = current(), []
    with track("testing nets", nets) as task:
        for turn in range(0, nets, at_once * ranks.size):  # a chunk for each rank
            ranks.heed_signals()
            begin = turn + at_once * ranks.rank
            with ranks.together():
                if poll is not None:
                    poll()
                found.append(measure_chunk(begin, task) if begin < nets else ([], []))
    turns = [pair for of_ranks in zip(*ranks.gather(found), strict=True) for pair in of_ranks]
    return [m for one, _ in turns for m in one], [m for _, one in turns for m in one]


def _show_steps(steps: Steps, task: Task) -> Steps:
    """The same steps, each told to a task as it is taken."""

    def pair(tensors: dict[str, Tensor], t: int) -> Pair:
        task.update(t)
        return steps.fn(tensors, t)

    return Steps(steps.tensors, pair, steps.T)


def _build_trained(d: DistilledDataset, net: nn.Module, theta: Theta) -> nn.Module:
    """The module to test `theta` with: BatchNorm buffers need a copy of their own."""
    return finish(d, net, theta) if has_batchnorm(net) else net


@torch.no_grad()
def accuracy(net: nn.Module, theta: Theta, target: Split, batch: int = 1000) -> float:
    """Percent of `target` that `net` at `theta` classifies right, in evaluation mode."""
    found, labels, _ = predictions(net, theta, target, batch)
    return 100.0 * int((found == labels).sum()) / len(labels)
