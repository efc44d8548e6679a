"""The choices made before plain training."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from datadistill.config.schedule_plan import SchedulePlan
from datadistill.data.augmentation import check_augmentations
from datadistill.training.schedule import learning_rate_factor


@dataclass(frozen=True)
class FitPlan(SchedulePlan):
    """Plain training of a net: passes, batches, optimizer, learning rate and its schedule.

    Args:
        epochs: passes over the data, 1 or more.
        batch: most images a step, 1 or more.
        optimizer: "adam", "adamw", "rmsprop" (with torch's defaults) or "sgd".
        lr: learning rate, above 0.
        decay_epochs: epochs after which the learning rate is multiplied by `decay_factor`, again
            and again; None never.
        decay_factor: above 0, at most 1.
        augment: augmentations of the batches; see `data.augment`.
        momentum: of SGD, at least 0 and below 1.
        weight_decay: 0 or more, added to the gradient; by AdamW taken from the weights.
        milestones: epochs after which the learning rate is multiplied by `decay_factor`, once each,
            as by `torch.optim.lr_scheduler.MultiStepLR`.
        schedule: "constant", or "linear" or "cosine", which fall to 0 over all epochs as
            `LinearLR` and `CosineAnnealingLR` do. At most one of `decay_epochs`, `milestones` and a
            falling schedule.
        warmup: W epochs, of which number e from 0 has the factor (e + 1) / W besides.
        nesterov: whether the momentum of SGD is Nesterov's.
        precision: of the net's passes: "float32", or "bfloat16" by autocast; weights, losses and
            steps are float32 in both.

    Example:
        >>> plan = FitPlan(epochs=6, lr=0.1, decay_epochs=2, decay_factor=0.5)
        >>> [plan.lr * plan.factor(epoch) for epoch in range(6)]
        [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        check_augmentations(self.augment)

    def factor(self, epoch: int) -> float:
        """The factor of learning rates in an epoch, counted from 0."""
        falls = bisect_right(self.milestones, epoch)
        if self.decay_epochs is not None:
            falls = epoch // self.decay_epochs
        factor = learning_rate_factor(self.schedule, epoch, self.epochs, self.warmup)
        return factor * self.decay_factor**falls

    def with_epochs(self, epochs: int) -> Self:
        """This plan for another number of epochs; milestones and warm-up end where it ends."""
        milestones = tuple(epoch for epoch in self.milestones if epoch < epochs)
        warmup = min(self.warmup, epochs)
        return replace(self, epochs=epochs, milestones=milestones, warmup=warmup)


def _adam(groups: list[dict[str, Any]], plan: FitPlan, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=plan.lr, weight_decay=plan.weight_decay, fused=fused)


def _adamw(groups: list[dict[str, Any]], plan: FitPlan, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=plan.lr, weight_decay=plan.weight_decay, fused=fused)


def _sgd(groups: list[dict[str, Any]], plan: FitPlan, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        groups,
        lr=plan.lr,
        momentum=plan.momentum,
        weight_decay=plan.weight_decay,
        nesterov=plan.nesterov,
        fused=fused,
    )


def _rmsprop(groups: list[dict[str, Any]], plan: FitPlan, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(groups, lr=plan.lr, weight_decay=plan.weight_decay)


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], FitPlan, bool], torch.optim.Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
    "sgd": _sgd,
}
