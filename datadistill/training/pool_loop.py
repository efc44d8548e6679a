"""Training the nets of a pool, group after group, and keeping those that are done.

Net n starts from the stream (seed, "pool_theta_0", n) and sees its batches by the streams of
`fit_loop.py` with number n. Groups of `at_once` nets train side by side; a pool is the same
whatever `at_once`, up to rounding. A net alone trains as an ordinary loop does: dropout is on, and
BatchNorm normalizes with statistics of the batch and keeps running ones.

With keep "every-epoch" a net is kept as it was at its start and after every epoch, stacked along a
second axis (epochs + 1).

A finished group is a file until the pool is written (`finished_nets.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.config import PoolConfig
from datadistill.data import RealData
from datadistill.data.augmentation import check_augmentations
from datadistill.errors import NumericalError
from datadistill.evaluation.accuracy import accuracy
from datadistill.nets.initialization import draw_whole
from datadistill.pool_from_modules import pooled_tensors
from datadistill.runs.signals import interruptible
from datadistill.starts import Built, Random
from datadistill.streams import generator
from datadistill.theta import Theta, net_with, stack, trainable
from datadistill.training.finished_nets import TrainedGroup
from datadistill.training.fit_loop import Fit, of_module, of_stack
from datadistill.training.fit_plan import FitPlan


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
        check_augmentations(self.plan.augment, data.shape, data.name)
        self.names = [name for tensors in pooled_tensors(net) for name in tensors]
        self.groups = [
            range(first, min(first + config.at_once, config.total))
            for first in range(0, config.total, config.at_once)
        ]
        self.start(0)

    def start(self, group: int) -> None:
        """Stand at the beginning of a group, from 0; of the end, after the last."""
        self.group = group
        # of keep "every-epoch": the nets at their start and after each epoch so far
        self.epochs: list[Theta] = []
        if not self.is_done:
            self.fit = self._fit(self.groups[group])
            self.loss_sum = torch.zeros(len(self.groups[group]), dtype=torch.float64)
            self._keep_epoch()

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
            self._keep_epoch()
        if not self.fit.is_done:
            return None
        with interruptible():
            trained = self._train_group(numbers)
        self.start(self.group + 1)
        return trained

    def _keep_epoch(self) -> None:
        """Keep the nets as they are, where an epoch begins and they are asked for."""
        if self.config.kept_epochs is not None and self.fit.step % self.fit.steps_per_epoch == 0:
            self.epochs.append(self._copy())

    def _stack(self) -> Theta:
        """name -> (nets of the group, ...): the group's nets as they are."""
        tensors = {name: self.fit.tensors[name].detach() for name in self.names}
        several = len(self.groups[self.group]) > 1
        return tensors if several else {name: p[None] for name, p in tensors.items()}

    def _copy(self) -> Theta:
        """The same on the CPU, for good."""
        layout = torch.contiguous_format
        return {name: p.cpu().clone(memory_format=layout) for name, p in self._stack().items()}

    def _train_group(self, numbers: range) -> TrainedGroup:
        tensors = self._stack()
        for name, x in tensors.items():
            if not bool(torch.isfinite(x).all()):
                raise NumericalError(
                    f"{_format_numbers(numbers)}: {name} is not finite after training; train with "
                    "a smaller learning rate (--lr)"
                )
        each = [{name: p[i] for name, p in tensors.items()} for i in range(len(numbers))]
        kept = self._copy()
        if self.epochs:
            kept = {name: torch.stack([at[name] for at in self.epochs], dim=1) for name in kept}
        return TrainedGroup(
            numbers,
            kept,
            [accuracy(self.net, theta, self.data.validation) for theta in each],
            (self.loss_sum / self.fit.steps_per_epoch).tolist(),
        )

    def state(self) -> dict[str, Any]:
        """The unfinished group's state, as nested tensors and plain values."""
        state = {"group": self.group, "fit": self.fit.state(), "loss_sum": self.loss_sum}
        return {**state, "epochs": self.epochs} if self.epochs else state

    def load(self, state: Mapping[str, Any]) -> None:
        self.start(state["group"])
        self.fit.load(state["fit"])
        self.loss_sum = state["loss_sum"].clone()
        self.epochs = list(state.get("epochs", ()))


def _format_numbers(numbers: range) -> str:
    if len(numbers) == 1:
        return f"net {numbers[0]}"
    return f"nets {numbers[0]} to {numbers[-1]}"


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
