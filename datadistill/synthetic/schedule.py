"""The schedule of a synthetic set: the images that step t trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from datadistill.errors import DataError, UsageError
from datadistill.runs.content import Check, check_choice, check_fields, check_whole, quote

__all__ = ["Schedule"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """Explicit steps: the images of each step of an epoch, in order, and the number of epochs.

    Step t trains on `batches[t % len(batches)]`. Images are used again in every epoch; step sizes
    are not.

    Args:
        batches: index tensors into the images, one for each step of an epoch.
        epochs: passes over them.

    Example:
        >>> Schedule.equal(images=4, steps=2, epochs=3).order
        [tensor([0, 1]), tensor([2, 3]), tensor([0, 1]), tensor([2, 3]), tensor([0, 1]), tensor([2,
        3])]
    """

    batches: Sequence[Int[Tensor, " b"]]
    epochs: int = 1

    def __post_init__(self) -> None:
        if not self.batches or self.epochs < 1:
            raise UsageError(
                f"a schedule has {len(self.batches)} batches and {self.epochs} epochs, wanted "
                "1 or more of each"
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

    @classmethod
    def of(cls, order: Sequence[Int[Tensor, " b"]]) -> Schedule:
        """The schedule with this order: the shortest one that repeats is an epoch.

        Raises:
            UsageError: no step.

        Example:
            >>> Schedule.of([torch.tensor([0]), torch.tensor([1])] * 3).epochs
            3
        """
        steps, T = [tuple(index.tolist()) for index in order], len(order)
        epoch = next((s for s in range(1, T) if T % s == 0 and steps == steps[:s] * (T // s)), T)
        return cls(list(order[:epoch]), T // max(epoch, 1))

    def to(self, device: torch.device | str) -> Schedule:
        """The same with its indices on `device`."""
        return Schedule([index.to(device) for index in self.batches], self.epochs)

    def describe(self) -> dict[str, Any]:
        """As plain values; `from_description` is the inverse."""
        return {
            "name": EXPLICIT,
            "batches": [index.tolist() for index in self.batches],
            "epochs": self.epochs,
        }

    @classmethod
    def from_description(cls, description: Any) -> Schedule:
        """The schedule that `describe` described.

        Raises:
            DataError: other fields, or batches that are no lists of whole numbers.
        """
        found = check_fields("schedule", description, _DESCRIBED)
        return cls(
            [torch.tensor(index, dtype=torch.long) for index in found["batches"]], found["epochs"]
        )


EXPLICIT = "explicit"


def check_batches(field: str, value: Any) -> list[list[int]]:
    """The value, a list of whole numbers for each step; DataError otherwise."""
    if (
        not isinstance(value, list)
        or not value
        or not all(
            isinstance(index, list) and all(type(i) is int for i in index) for index in value
        )
    ):
        raise DataError(f"{field} is {quote(value)}, wanted whole numbers for each step")
    return value


_DESCRIBED: dict[str, Check] = {
    "name": partial(check_choice, choices=(EXPLICIT,)),
    "batches": check_batches,
    "epochs": partial(check_whole, least=1),
}
