"""The schedule of a synthetic set: the images that step t trains on, and how they are augmented.

    explicit            step t trains on batches[t mod S], S steps an epoch
    random minibatches  step t trains on part t mod S of a shuffled pass over all images, in S parts
                        of `minibatch` images; every pass is shuffled anew

Either may augment the images of a step, each image by a draw of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from datadistill.data.augmentation import augment, check_augmentations
from datadistill.errors import DataError, UsageError
from datadistill.innerloop.steps import Pair
from datadistill.runs.content import (
    Check,
    check_choice,
    check_fields,
    check_texts,
    check_whole,
    quote,
)
from datadistill.streams import generator

__all__ = ["Schedule"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """The images of each step, and the number of epochs.

    Images are used again in every epoch; step sizes are not.

    Args:
        batches: index tensors into the images, one for each step of an epoch; with `minibatch` one
            of all images.
        epochs: passes over them.
        minibatch: images of a step of a shuffled pass; the last step of a pass may have fewer. None
            takes the batches as they are.
        augment: augmentations of a step's images; see `data.augment`.

    Example:
        >>> Schedule.equal(images=4, steps=2, epochs=3).order
        [tensor([0, 1]), tensor([2, 3]), tensor([0, 1]), tensor([2, 3]), tensor([0, 1]), tensor([2,
        3])]
        >>> shuffled = Schedule.shuffled(images=5, minibatch=2, epochs=10)
        >>> shuffled.steps, torch.cat([shuffled.index(t, stream=0) for t in range(3)]).sort().values
        (30, tensor([0, 1, 2, 3, 4]))
    """

    batches: Sequence[Int[Tensor, " b"]]
    epochs: int = 1
    minibatch: int | None = None
    augment: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.batches or self.epochs < 1:
            raise UsageError(
                f"a schedule has {len(self.batches)} batches and {self.epochs} epochs, wanted "
                "1 or more of each"
            )
        if self.minibatch is not None and (self.minibatch < 1 or len(self.batches) != 1):
            raise UsageError(
                f"minibatches of {self.minibatch} images are drawn from {len(self.batches)} "
                "batches, wanted 1 or more from one batch of all images"
            )
        check_augmentations(self.augment)

    @classmethod
    def equal(
        cls, images: int, steps: int, epochs: int = 1, augment: Sequence[str] = ()
    ) -> Schedule:
        """Images 0 .. images - 1 cut into `steps` batches of the same size."""
        return cls(torch.arange(images).split(images // steps), epochs, augment=augment)

    @classmethod
    def shuffled(
        cls, images: int, minibatch: int, epochs: int, augment: Sequence[str] = ()
    ) -> Schedule:
        """Random minibatches of images 0 .. images - 1."""
        return cls([torch.arange(images)], epochs, min(minibatch, images), augment)

    @property
    def steps_per_epoch(self) -> int:
        if self.minibatch is None:
            return len(self.batches)
        return -(-len(self.batches[0]) // self.minibatch)

    @property
    def steps(self) -> int:
        """T, the gradient steps of one training."""
        return self.steps_per_epoch * self.epochs

    @property
    def is_random(self) -> bool:
        """Whether a step depends on the stream that it is drawn from."""
        return self.minibatch is not None or bool(self.augment)

    def index(self, t: int, stream: int) -> Int[Tensor, " b"]:
        """The images of step t, on the CPU where they are drawn from a stream."""
        epoch, part = divmod(t, self.steps_per_epoch)
        if self.minibatch is None:
            return self.batches[part]
        every = self.batches[0].cpu()
        order = torch.randperm(len(every), generator=generator(stream, "minibatches", epoch))
        return every[order[part * self.minibatch : (part + 1) * self.minibatch]]

    def pair(self, images: Callable[[Tensor], Tensor], labels: Tensor, t: int, stream: int) -> Pair:
        """Images and labels of step t, differentiable: a pure function of the arguments.

        Args:
            images: makes images (B, C, H, W) of their numbers (B,).
            labels: of all images.
            t: the step, from 0.
            stream: seed of minibatches and augmentation.
        """
        index = self.index(t, stream).to(labels.device)
        found = images(index)
        if self.augment:
            draws = generator(stream, "augment_synthetic", t)
            found = augment(found, draws, self.augment)
        return found, labels[index]

    @property
    def order(self) -> list[Int[Tensor, " b"]]:
        """The images of all T steps; of random minibatches those of stream 0."""
        return [self.index(t, 0) for t in range(self.steps)]

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

    def first(self, images: int) -> tuple[Schedule, list[int]]:
        """The schedule of the first images alone, and of which step each of its steps has the step
        size. A step loses its other images, and is left out where it has none; random minibatches
        are drawn from fewer images, with as many epochs.

        Example:
            >>> half, steps = Schedule.equal(images=4, steps=2, epochs=2).first(2)
            >>> half.order, steps
            ([tensor([0, 1]), tensor([0, 1])], [0, 2])
        """
        if self.minibatch is not None:
            fewer = Schedule.shuffled(images, self.minibatch, self.epochs, self.augment)
            return fewer, list(range(fewer.steps))
        rest = [index[index < images] for index in self.batches]
        kept = [t for t, index in enumerate(rest) if len(index)]
        epochs = range(self.epochs)
        steps = [epoch * self.steps_per_epoch + t for epoch in epochs for t in kept]
        return replace(self, batches=[rest[t] for t in kept]), steps

    def to(self, device: torch.device | str) -> Schedule:
        """The same with its indices on `device`."""
        return replace(self, batches=[index.to(device) for index in self.batches])

    def describe(self) -> dict[str, Any]:
        """As plain values; `from_description` is the inverse."""
        augmented = {"augment": list(self.augment)} if self.augment else {}
        if self.minibatch is not None:
            drawn = {"images": len(self.batches[0]), "minibatch": self.minibatch}
            return {"name": SHUFFLED, **drawn, "epochs": self.epochs, **augmented}
        return {
            "name": EXPLICIT,
            "batches": [index.tolist() for index in self.batches],
            "epochs": self.epochs,
            **augmented,
        }

    @classmethod
    def from_description(cls, description: Any) -> Schedule:
        """The schedule that `describe` described.

        Raises:
            DataError: other fields, or batches that are no lists of whole numbers.
        """
        name = description.get("name") if isinstance(description, dict) else None
        own = _SHUFFLED if name == SHUFFLED else _EXPLICIT
        found = check_fields("schedule", description, own, optional=("augment",))
        rest = {"epochs": found["epochs"], "augment": tuple(found["augment"] or ())}
        try:
            if name == SHUFFLED:
                return cls.shuffled(found["images"], found["minibatch"], **rest)
            return cls([torch.tensor(i, dtype=torch.long) for i in found["batches"]], **rest)
        except UsageError as error:
            raise DataError(f"schedule: {error}") from None


EXPLICIT, SHUFFLED = "explicit", "shuffled"
MOST_IMAGES = 10_000_000
"""That a file may say, before its images have been counted."""


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


_SHARED: dict[str, Check] = {
    "name": partial(check_choice, choices=(EXPLICIT, SHUFFLED)),
    "epochs": partial(check_whole, least=1),
    "augment": check_texts,
}
_EXPLICIT: dict[str, Check] = {**_SHARED, "batches": check_batches}
_SHUFFLED: dict[str, Check] = {
    **_SHARED,
    "images": partial(check_whole, least=1, most=MOST_IMAGES),
    "minibatch": partial(check_whole, least=1),
}
