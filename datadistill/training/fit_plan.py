"""The choices made before plain training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from datadistill.config.plans import SgdPlan
from datadistill.data.augmentation import check_augmentations


@dataclass(frozen=True)
class FitPlan(SgdPlan):
    """Plain training of a net: passes, batches, optimizer, learning rate and its decay.

    Args:
        epochs: passes over the data, 1 or more.
        batch: most images a step, 1 or more.
        optimizer: "adam", "rmsprop" (both with torch's defaults) or "sgd".
        lr: learning rate, above 0.
        decay_epochs: epochs after which the learning rate is multiplied by `decay_factor`, again
            and again; None never.
        decay_factor: above 0, at most 1.
        augment: augmentations of the batches; see `data.augment`.
        momentum: of SGD, at least 0 and below 1.
        weight_decay: added to the gradient, 0 or more.

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
        return (
            1.0 if self.decay_epochs is None else self.decay_factor ** (epoch // self.decay_epochs)
        )


def _adam(groups: list[dict[str, Any]], plan: FitPlan, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=plan.lr, weight_decay=plan.weight_decay, fused=fused)


def _sgd(groups: list[dict[str, Any]], plan: FitPlan, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        groups, lr=plan.lr, momentum=plan.momentum, weight_decay=plan.weight_decay, fused=fused
    )


def _rmsprop(groups: list[dict[str, Any]], plan: FitPlan, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(groups, lr=plan.lr, weight_decay=plan.weight_decay)


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], FitPlan, bool], torch.optim.Optimizer]] = {
    "adam": _adam,
    "rmsprop": _rmsprop,
    "sgd": _sgd,
}
