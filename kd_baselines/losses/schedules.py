"""Weights that change over the epochs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from datadistill.errors import UsageError

__all__ = ["Linear", "Weight", "check_weight", "weight_at"]


@dataclass(frozen=True)
class Linear:
    """The weight goes from `start` in the first epoch to `end` in epoch number `epochs` by equal
    steps, and stays there (as FitNets anneals lambda, Romero et al. 2015).

    >>> [Linear(4.0, 1.0, epochs=4)(epoch) for epoch in range(6)]
    [4.0, 3.0, 2.0, 1.0, 1.0, 1.0]
    """

    start: float
    end: float
    epochs: int

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UsageError(f"a schedule over {self.epochs} epochs; give at least 1")
        for weight in (self.start, self.end):
            check_weight(weight)

    def __call__(self, epoch: int) -> float:
        if epoch >= self.epochs - 1:
            return self.end
        return self.start + (self.end - self.start) * epoch / (self.epochs - 1)


Weight = float | Linear


def weight_at(weight: Weight, epoch: int) -> float:
    """The weight in an epoch, from 0."""
    return weight(epoch) if isinstance(weight, Linear) else weight


def check_weight(weight: Weight) -> None:
    """Refuse a weight that is negative, not finite or no number."""
    if not isinstance(weight, Linear) and not (isinstance(weight, Real) and 0 <= weight < math.inf):
        raise UsageError(f"a weight is {weight!r}; give 0 or more, finite, or a `Linear` schedule")
