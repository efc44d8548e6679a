"""Batches of real images, drawn from one tensor in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from datadistill.errors import DataError, UsageError
from datadistill.torch_defaults import use_library_defaults


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images and labels, each one tensor on one device.

    Args:
        images: (N,C,H,W) float32, normalized, contiguous.
        labels: (N,) int64.
    """

    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]

    def __repr__(self) -> str:
        return f"Split({len(self)} images)"

    def __len__(self) -> int:
        return len(self.labels)

    @use_library_defaults()
    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """A uniform random batch of `size` images and labels without repetition; everything, in
        order, where `size` is N or more.

        Its cost grows with the batch and not with N. With a generator on the CPU the same images
        come on every device.
        """
        if size < 1:
            raise UsageError(f"the batch size is {size}; wanted 1 or more")
        if len(self) == 0:
            raise DataError(
                "this split is empty, so no batch can be drawn from it; hold some images out "
                "(validation=...)"
            )
        if size >= len(self):
            return self.images, self.labels
        indices = draw_distinct(len(self), size, generator).to(self.labels.device)
        return self.images[indices], self.labels[indices]

    @use_library_defaults()
    def of_class(self, k: int) -> Split:
        """The images of one class, as a split of their own (empty where there are none)."""
        mask = self.labels == k
        return Split(self.images[mask], self.labels[mask])

    @use_library_defaults()
    def to(self, device: torch.device | str) -> Split:
        return Split(self.images.to(device), self.labels.to(device))


def draw_distinct(n: int, size: int, generator: torch.Generator) -> Int[Tensor, " size"]:
    """`size` distinct numbers below `n`, uniform, at a cost that grows with `size`.

    The first `size` different values of a uniform sequence are a sample without replacement. Beyond
    n/2 the sequence would grow long (n log n), so there the n - size numbers to leave out are drawn
    instead.
    """
    device = generator.device
    if size > n // 2:
        mask = torch.ones(n, dtype=torch.bool, device=device)
        if size < n:
            mask[draw_distinct(n, n - size, generator)] = False
        return mask.nonzero().flatten()
    drawn = torch.randint(n, (size,), generator=generator, device=device)
    while True:
        values, inverse = torch.unique(drawn, return_inverse=True)
        if len(values) >= size:
            position = torch.arange(len(drawn), device=device)
            first = torch.full_like(values, len(drawn)).scatter_reduce(0, inverse, position, "amin")
            return drawn[first.sort().values[:size]]
        drawn = torch.cat([drawn, torch.randint(n, (size,), generator=generator, device=device)])
