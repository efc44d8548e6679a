"""What is decided before a plain training: passes, batches, optimizer, learning rate and its decay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from datadistill.config.values import check_range, check_types
from datadistill.data.augmentation import check_augmentations
from datadistill.errors import UsageError, suggest


@dataclass(frozen=True)
class FitPlan:
    """How a net is trained: passes, batches, optimizer, learning rate and its decay.

    Args:
        epochs: passes over the data, 1 or more.
        batch: most images a step, 1 or more.
        optimizer: "adam", "rmsprop" (both with torch's defaults) or "sgd".
        lr: learning rate, above 0.
        momentum: of SGD, at least 0 and below 1.
        weight_decay: added to the gradient, 0 or more.
        decay_epochs: epochs after which the learning rate is multiplied by `decay_factor`, again and again;
            None never.
        decay_factor: above 0, at most 1.
        augment: augmentations of the batches: "crop", "flip".

    Example:
        >>> plan = FitPlan(epochs=6, lr=0.1, decay_epochs=2, decay_factor=0.5)
        >>> [plan.lr * plan.factor(epoch) for epoch in range(6)]
        [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]
    """

    epochs: int
    batch: int = 128
    optimizer: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay_epochs: int | None = None
    decay_factor: float = 0.5
    augment: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, ("epochs", "batch", "decay_epochs"), least=1)
        if self.optimizer not in OPTIMIZERS:
            raise UsageError(f"there is no optimizer {self.optimizer!r}; {suggest(self.optimizer, OPTIMIZERS)}")
        check_augmentations(self.augment)
        check_range(self, ("lr",), above=0, hint="Adam's usual one is 0.001")
        check_range(self, ("momentum",), least=0, below=1)
        check_range(self, ("weight_decay",), least=0)
        check_range(self, ("decay_factor",), above=0, most=1)

    def factor(self, epoch: int) -> float:
        """What learning rates are multiplied by in an epoch, counted from 0."""
        return 1.0 if self.decay_epochs is None else self.decay_factor ** (epoch // self.decay_epochs)


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
