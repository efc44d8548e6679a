"""Checks of images and labels that come from anywhere, before they become a `RealData`."""

from __future__ import annotations

import torch
from torch import Tensor

from datadistill.data.normalization import Normalization
from datadistill.device import resolve
from datadistill.errors import DataError, UsageError, list_some


def resolve_device(device: torch.device | str) -> torch.device:
    """The device of that name, before the images are made ready for it."""
    try:
        where = torch.device(device)
    except (RuntimeError, TypeError):
        return resolve(str(device))  # "auto", or refused
    return resolve(str(where)) if where.type == "cuda" else where


def refuse_contradiction(
    normalization: Normalization, size: int | None, channels: int | None
) -> None:
    """Refuse a size or a number of channels beside a normalization that is for others, and what is
    none."""
    if not isinstance(normalization, Normalization):
        raise UsageError(
            f"normalization is a {type(normalization).__name__}; wanted a Normalization, such as a "
            "distilled set's .normalization"
        )
    if size not in (None, normalization.size) or channels not in (None, normalization.channels):
        raise UsageError(
            f"size={size}, channels={channels} contradict the normalization, which is for size "
            f"{normalization.size} and {normalization.channels} channel(s); choose these, or leave "
            "them out"
        )


def check_part(
    images: Tensor, labels: Tensor, classes: tuple[str, ...], what: str, every_class: bool = True
) -> None:
    """Refuse what would fail later or silently: wrong shapes, labels out of range, classes without
    images."""
    if images.ndim != 4 or images.numel() == 0:
        raise DataError(
            f"{what} has images of shape {tuple(images.shape)}; wanted (N, channels, height, "
            "width), none of them 0: reshape them"
        )
    if (
        labels.ndim != 1
        or labels.is_floating_point()
        or labels.dtype == torch.bool
        or len(labels) != len(images)
    ):
        raise DataError(
            f"{what} has labels of shape {tuple(labels.shape)}, {labels.dtype}, for "
            f"{len(images):,} images; wanted ({len(images)},) integers"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise DataError(
            f"{what} has labels from {low} to {high} but there are {len(classes)} classes; "
            f"wanted 0..{len(classes) - 1}: renumber them, or name more classes"
        )
    if len(classes) < 2:
        raise DataError(f"{what} has one class only ({', '.join(classes)}); wanted two or more")
    counts = torch.bincount(labels.long(), minlength=len(classes)).tolist()
    empty = [
        f"{name} ({k})"
        for k, (name, count) in enumerate(zip(classes, counts, strict=True))
        if count == 0
    ]
    if every_class and empty:
        raise DataError(
            f"{what} has no image of class {list_some(empty, 5)}; counts: {counts[:20]}: "
            "add some or drop the class"
        )
