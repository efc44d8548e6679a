"""Stratified splits: hold a share of every class out.

How many of each class: the largest-remainder method (Hamilton), so that the counts add up exactly
and no class is off its share by one or more, save where a class would be left with nothing to learn
from. Which ones: drawn from a generator (`split_stratified`), or by a hash of the index that stays
the same for ever, whatever the version of torch (`split_stratified_fixed`, for sets that come
without a split of their own).
"""

from __future__ import annotations

import hashlib
import math

import torch
from jaxtyping import Int
from torch import Tensor

from datadistill.errors import DataError, UsageError


def held_out_counts(sizes: list[int], amount: int | float, at_least: int = 0) -> list[int]:
    """The number of images of each class that are held out.

    Args:
        sizes: images in each class; a class of size 0 takes no part.
        amount: an int is a total number, a float in (0, 1) a share of all (at least one image).
        at_least: fewest held-out images of each class; it may raise the total.

    Example:
        >>> held_out_counts([60, 30, 11], 10)
        [6, 3, 1]
    """
    total = sum(sizes)
    if (
        isinstance(amount, bool)
        or not isinstance(amount, int | float)
        or not math.isfinite(amount)
        or amount < 0
    ):
        raise UsageError(
            f"the held-out part is {amount!r}; wanted a number of images, or a "
            "share between 0 and 1"
        )
    room = [max(size - 1, 0) for size in sizes]
    if isinstance(amount, float):
        if amount >= 1:
            raise UsageError(
                f"the held-out share is {amount!r}; wanted it below 1.0 (an int is a "
                "number of images)"
            )
        wanted = min(max(round(amount * total), 1), sum(room)) if amount > 0 else 0
    else:
        wanted = amount
    short = [k for k, size in enumerate(sizes) if 0 < size <= at_least]
    if short:
        raise DataError(
            f"class {short[0]} has {sizes[short[0]]} image(s); wanted at least {at_least + 1}, "
            f"so that {at_least} can be held out and one is left to learn from"
        )
    if wanted > sum(room):
        raise DataError(
            f"{wanted:,} images are to be held out, but at most {sum(room):,} of the {total:,} can "
            "be, with one image of each class left to learn from; hold fewer out"
        )
    quotas = [wanted * size / max(total, 1) for size in sizes]
    counts = [min(int(quota), r) for quota, r in zip(quotas, room, strict=True)]
    by_remainder = sorted(range(len(sizes)), key=lambda k: (counts[k] - quotas[k], k))
    while sum(counts) < wanted:  # one pass, save where small classes have no room
        for k in by_remainder:
            if sum(counts) < wanted and counts[k] < room[k]:
                counts[k] += 1
    return [max(count, at_least) if size else 0 for count, size in zip(counts, sizes, strict=True)]


def split_stratified(
    labels: Int[Tensor, " n"], amount: int | float, generator: torch.Generator, *, at_least: int = 0
) -> tuple[Int[Tensor, " k"], Int[Tensor, " h"]]:
    """Split indices into kept and held out, each class in proportion: two ascending index tensors
    that together hold every index once. The amounts are those of `held_out_counts`; the generator,
    on the CPU, decides which images.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 1, 1, 1])
        >>> kept, held_out = split_stratified(labels, 2, torch.Generator().manual_seed(0))
        >>> labels[held_out]
        tensor([0, 1])
    """
    return _split(labels, amount, torch.randperm(len(labels), generator=generator), at_least)


def split_stratified_fixed(
    labels: Int[Tensor, " n"], amount: int | float, key: str, *, at_least: int = 0
) -> tuple[Int[Tensor, " k"], Int[Tensor, " h"]]:
    """As `split_stratified`, with the choice made by SHA-256 of `key` and the index: the same for
    ever."""
    digests = [hashlib.sha256(f"{key}/{index}".encode()).digest() for index in range(len(labels))]
    return _split(
        labels, amount, torch.tensor(sorted(range(len(labels)), key=digests.__getitem__)), at_least
    )


def _split(
    labels: Tensor, amount: int | float, order: Tensor, at_least: int
) -> tuple[Tensor, Tensor]:
    """Hold the first images of each class, in `order`, out."""
    labels = labels.cpu()
    sizes = torch.bincount(labels).tolist() if len(labels) else []
    mask = torch.zeros(len(labels), dtype=torch.bool)
    ordered = labels[order] if len(labels) else labels
    for k, count in enumerate(held_out_counts(sizes, amount, at_least)):
        mask[order[ordered == k][:count]] = True
    return (~mask).nonzero().flatten(), mask.nonzero().flatten()
