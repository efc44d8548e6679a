"""Training the nets of a pool, group after group, and keeping those that are done.

Net n starts from the stream (seed, "pool_theta_0", n) and sees its batches by the streams of
`fit_loop.py` with number n. Groups of `at_once` nets train side by side; a pool is the same
whatever `at_once`, up to rounding. A net alone trains as an ordinary loop does: dropout is on, and
BatchNorm normalizes with statistics of the batch and keeps running ones.

A finished group is a file nets/net-000012.safetensors (named by its first net) until the pool is
written.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.config import PoolConfig
from datadistill.data import RealData
from datadistill.errors import DataError, NumericalError
from datadistill.evaluation.accuracy import accuracy
from datadistill.nets.initialization import draw_whole
from datadistill.pool_from_modules import pooled_tensors
from datadistill.runs.artifact import Artifact
from datadistill.runs.content import check_number, check_object, check_whole, list_of
from datadistill.runs.signals import interruptible
from datadistill.starts import Built, Random
from datadistill.streams import generator
from datadistill.theta import net_with, stack, trainable
from datadistill.training.fit_loop import Fit, of_module, of_stack
from datadistill.training.fit_plan import FitPlan


def _arguments(tensors: dict[str, Tensor], values: dict[str, Any], schema: int) -> dict[str, Any]:
    counts = {len(values["accuracies"]), len(values["losses"]), *(len(p) for p in tensors.values())}
    if len(counts) > 1:
        raise DataError(
            f"accuracies, losses and tensors are of {sorted(counts)} nets, wanted one each a net"
        )
    first = values.pop("first")
    return {"numbers": range(first, first + counts.pop()), "tensors": tensors, **values}


NETS = Artifact(
    "nets",
    fields={
        "first": check_whole,
        "accuracies": list_of(partial(check_number, least=0, most=100)),
        "losses": list_of(partial(check_number, least=0)),
        "config": check_object,
    },
    values=lambda group: {"first": group.numbers[0]},
    arguments=_arguments,
    command="datadistill pretrain",
)


@dataclass(frozen=True)
class TrainedGroup:
    """A finished group: the numbers of its nets, name -> (nets of the group, ...) on the CPU,
    accuracies on the validation split in percent, mean training losses of the last epoch, and the
    pool's config, known of groups on disk."""

    numbers: range
    tensors: dict[str, Tensor]
    accuracies: list[float]
    losses: list[float]
    config: dict[str, Any] = field(default_factory=dict)


class PoolLoop:
    """State and steps of one pool.

    Args:
        config: what to train.
        data: real images, on the net's device.
        net: the architecture, its buffers as every net starts with them. It is not changed.
        draws: where its nets start.
    """

    def __init__(
        self, config: PoolConfig, data: RealData, net: nn.Module, draws: Random | Built
    ) -> None:
        self.config, self.data, self.net, self.draws = config, data, net, draws
        self.plan = FitPlan.of(config)
        self.names = [name for tensors in pooled_tensors(net) for name in tensors]
        self.groups = [
            range(first, min(first + config.at_once, config.total))
            for first in range(0, config.total, config.at_once)
        ]
        self.start(0)

    def start(self, group: int) -> None:
        """Stand at the beginning of a group, from 0; of the end, after the last."""
        self.group = group
        if not self.is_done:
            self.fit = self._fit(self.groups[group])
            self.loss_sum = torch.zeros(len(self.groups[group]), dtype=torch.float64)

    @property
    def is_done(self) -> bool:
        return self.group >= len(self.groups)

    @property
    def step(self) -> int:
        """Gradient steps done, those of all groups counted."""
        return self.group * self.fit.steps + (0 if self.is_done else self.fit.step)

    @property
    def steps(self) -> int:
        """Gradient steps of all groups."""
        return len(self.groups) * self.fit.steps

    def theta_0(self, number: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The parameters that are trained of a net at its start, and what else was drawn."""
        draws = self.draws
        if isinstance(draws, Built):
            return draws.whole(0, number)
        stream = generator(draws.seed, draws.name, number)
        drawn, buffers = draw_whole(self.net, draws.init, stream)
        return {name: drawn[name] for name in trainable(self.net)}, buffers

    def _fit(self, numbers: range) -> Fit:
        config, split, starts = self.config, self.data.train, [self.theta_0(n) for n in numbers]
        if len(numbers) == 1:
            theta, beside = starts[0]
            net = net_with(self.net, {**theta, **beside})
            return of_module(net, split, self.plan, seed=config.seed, number=numbers[0])
        thetas = [theta for theta, _ in starts]
        return of_stack(
            self.net, stack(thetas), split, self.plan, seed=config.seed, numbers=numbers
        )

    def advance(self) -> TrainedGroup | None:
        """One gradient step. Returns the group's nets where it was their last.

        Raises:
            NumericalError: a loss, parameter or buffer that is not finite, with the nets' numbers.
            Interrupted: a signal came while they were tested; the next call tests them again.
        """
        numbers = self.groups[self.group]
        if not self.fit.is_done:  # else a signal broke off their test
            try:
                losses = self.fit.advance()
            except NumericalError as error:
                raise NumericalError(f"{_format_numbers(numbers)}: {error}") from None
            if self.fit.step > self.fit.steps - self.fit.steps_per_epoch:
                self.loss_sum += losses.double().cpu().reshape(-1)
        if not self.fit.is_done:
            return None
        with interruptible():
            trained = self._train_group(numbers)
        self.start(self.group + 1)
        return trained

    def _train_group(self, numbers: range) -> TrainedGroup:
        tensors = {name: self.fit.tensors[name].detach() for name in self.names}
        for name, x in tensors.items():
            if not bool(torch.isfinite(x).all()):
                raise NumericalError(
                    f"{_format_numbers(numbers)}: {name} is not finite after training; train with "
                    "a smaller learning rate (--lr)"
                )
        if len(numbers) == 1:
            tensors = {name: p[None] for name, p in tensors.items()}
        each = [{name: p[i] for name, p in tensors.items()} for i in range(len(numbers))]
        return TrainedGroup(
            numbers,
            {
                name: p.cpu().clone(memory_format=torch.contiguous_format)
                for name, p in tensors.items()
            },
            [accuracy(self.net, theta, self.data.validation) for theta in each],
            (self.loss_sum / self.fit.steps_per_epoch).tolist(),
        )

    def state(self) -> dict[str, Any]:
        """The unfinished group's state, as nested tensors and plain values."""
        return {"group": self.group, "fit": self.fit.state(), "loss_sum": self.loss_sum}

    def load(self, state: Mapping[str, Any]) -> None:
        self.start(state["group"])
        self.fit.load(state["fit"])
        self.loss_sum = state["loss_sum"].clone()


def _format_numbers(numbers: range) -> str:
    if len(numbers) == 1:
        return f"net {numbers[0]}"
    return f"nets {numbers[0]} to {numbers[-1]}"


class FinishedNets:
    """The finished groups: files of `folder` in a run folder, or in memory where that is None."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.groups: list[TrainedGroup] = []  # without their tensors where there is a folder

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def accuracies(self) -> list[float]:
        return [a for group in self.groups for a in group.accuracies]

    def path(self, numbers: range) -> Path:
        assert self.folder is not None
        return self.folder / f"net-{numbers[0]:06d}.safetensors"

    def add(self, group: TrainedGroup, config: Mapping[str, Any]) -> None:
        """Keep a group; on disk, it is there for good when this returns."""
        if self.folder is not None:
            self.folder.mkdir(exist_ok=True)
            NETS.save(replace(group, config=dict(config)), self.path(group.numbers))
            group = replace(group, tensors={})
        self.groups.append(group)

    def read(self, numbers: range) -> TrainedGroup | None:
        """A group from its file; None where it is missing, DataError where it is damaged."""
        path = self.path(numbers)
        if not path.exists():
            return None
        group = NETS.load(path, TrainedGroup)
        if group.numbers != numbers:
            raise DataError(f"{path} is not the file of nets {numbers[0]} to {numbers[-1]}")
        return group

    def stack(self) -> dict[str, Tensor]:
        """name -> (total, ...): the tensors of all groups."""
        parts: list[dict[str, Tensor]] = []
        for group in self.groups:
            found = group if self.folder is None else self.read(group.numbers)
            if found is None:
                raise DataError(
                    f"{self.path(group.numbers)} has gone; resume the run to train it again"
                )
            parts.append(found.tensors)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def remove(self) -> None:
        """Remove the files: the pool holds the nets now."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def is_near_chance(accuracy: float, classes: int) -> bool:
    """Whether a net has hardly learned anything: below twice chance, or a quarter of the way up
    from it where that is less (few classes).

    >>> (
    ...     is_near_chance(19.0, 10),
    ...     is_near_chance(21.0, 10),
    ...     is_near_chance(55.0, 2),
    ...     is_near_chance(70.0, 2),
    ... )
    (True, False, True, False)
    """
    chance = 100.0 / classes
    return accuracy < min(2 * chance, chance + (100 - chance) / 4)
