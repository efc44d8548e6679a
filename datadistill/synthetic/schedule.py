"""The schedule of a synthetic set: the images that step t trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from datadistill.errors import UsageError

__all__ = ["Schedule"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """Explicit steps: the images of each step of an epoch, in order, and the number of epochs.

    Step t trains on `batches[t % len(batches)]`. Images are used again in every epoch; step sizes are not.

    Args:
        batches: index tensors into the images, one for each step of an epoch.
        epochs: passes over them.

    Example:
        >>> Schedule.equal(images=4, steps=2, epochs=3).order
        [tensor([0, 1]), tensor([2, 3]), tensor([0, 1]), tensor([2, 3]), tensor([0, 1]), tensor([2, 3])]
    """

    batches: Sequence[Int[Tensor, " b"]]
    epochs: int = 1

    def __post_init__(self) -> None:
        if not self.batches or self.epochs < 1:
            raise UsageError(
                f"a schedule has {len(self.batches)} batches and {self.epochs} epochs, wanted 1 or more of each"
            )

    @classmethod
    def equal(cls, images: int, steps: int, epochs: int = 1) -> Schedule:
        """Images 0 .. images - 1 cut into `steps` batches of the same size."""
        return cls(torch.arange(images).split(images // steps), epochs)

    @property
    def steps(self) -> int:
        """T, the gradient steps of one training."""
        return len(self.batches) * self.epochs

    @property
    def order(self) -> list[Int[Tensor, " b"]]:
        return list(self.batches) * self.epochs
