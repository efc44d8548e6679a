"""The one way by which every source becomes a `RealData`: check, bring to one shape, split, normalize."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from datadistill import streams
from datadistill.data.batches import Split
from datadistill.data.images import refuse_values, to_channels, to_size, unit_range
from datadistill.data.naming import refuse_names
from datadistill.data.normalization import Normalization, measured
from datadistill.data.parts import LARGEST, Parts
from datadistill.data.real import HeldOut, RealData
from datadistill.data.source import Pixels
from datadistill.data.splits import stratified
from datadistill.device import resolve
from datadistill.errors import DataError, UsageError


def assemble(
    name: str,
    train: Pixels,
    test: Pixels | Callable[[], Pixels],
    *,
    classes: tuple[str, ...],
    description: str,
    validation: int | float,
    seed: int,
    size: int | None = None,
    channels: int | None = None,
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    normalization: Normalization | None = None,
    split: Sequence[Tensor] | None = None,
    ids: tuple[list[str], list[str]] | None = None,
    device: torch.device | str = "cpu",
) -> RealData:
    """Check, bring to one shape, split and normalize.

    Args:
        train: images (N,C,H,W), uint8 or float 0..1, and labels of the training part.
        test: the test part, which is judged now and normalized at the first use of `.test`; or a function
            that reads it then, such that it can be pickled.
        statistics: published mean and deviation for the stored channels. Used where the channels stay or
            grey is repeated; after RGB to grey, or where None, both are measured on the whole training part
            (validation included, so that they do not depend on `seed`).
        normalization: overrides `statistics`, `size` and `channels`.
        split: places of the images to learn from and of the validation images, in place of a draw.
        ids: of the images of the training part and of the test part; see `datadistill.data.parts`.
    """
    where = place(device)
    refuse_names(classes, name)
    images, labels = train
    check(images, labels, classes, "the training part")
    native = images.shape[1]
    if normalization is not None:
        refuse_contradiction(normalization, size, channels)
        size, channels = normalization.size, normalization.channels
    channels = native if channels is None else channels
    if size is None and images.shape[2] == images.shape[3]:
        size = images.shape[2]
    if normalization is None and statistics is not None and native in (channels, 1):
        mean, std = (values * (channels // native) for values in statistics)
        normalization = Normalization(mean, std, size, channels)
    elif normalization is None:
        images = to_size(to_channels(unit_range(images), channels), size)
        normalization = measured(images, size)
    part = partial(finished, normalization)
    if isinstance(test, tuple):
        check(*test, classes, "the test part", every_class=False)
        refuse_values(test[0], "the test images")
        part(test[0][:1], test[1][:1])  # refused here where no rule leads to the shape of the others
    if split is None:
        split = stratified(labels, validation, streams.generator(seed, "validation"))
    kept, held_out = split
    parts = None
    if ids is not None and len(ids[0]) + len(ids[1]) <= LARGEST:
        learned, validated = (tuple(ids[0][i] for i in places.tolist()) for places in split)
        parts = Parts(learned, validated, tuple(ids[1]))
    rest = HeldOut(partial(finished_test, part, test, tuple(classes)))
    data = RealData(
        name, part(images[kept], labels[kept]), part(images[held_out], labels[held_out]),
        tuple(classes), normalization, description, rest, parts=parts,
    )  # fmt: skip
    return data if where.type == "cpu" else data.to(where)


def place(device: torch.device | str) -> torch.device:
    """The device of that name, before the images are made ready for it.

    Raises:
        UsageError, Unavailable: no such name, or no such device on this machine.
    """
    try:
        where = torch.device(device)
    except (RuntimeError, TypeError):
        return resolve(str(device))  # "auto", or refused
    return resolve(str(where)) if where.type == "cuda" else where


def refuse_contradiction(normalization: Normalization, size: int | None, channels: int | None) -> None:
    """Refuse a size or a number of channels beside a normalization that is for others, and what is none."""
    if not isinstance(normalization, Normalization):
        raise UsageError(
            f"normalization is a {type(normalization).__name__}; wanted a Normalization, such as a distilled "
            "set's .normalization"
        )
    if size not in (None, normalization.size) or channels not in (None, normalization.channels):
        raise UsageError(
            f"size={size}, channels={channels} contradict the normalization, which is for size "
            f"{normalization.size} and {normalization.channels} channel(s); leave them out"
        )


def finished(normalization: Normalization, pixels: Tensor, targets: Tensor) -> Split:
    """A part of the data as a run sees it."""
    images = to_channels(unit_range(pixels), normalization.channels)
    return Split(normalization(images), targets.long())


def finished_test(
    part: Callable[[Tensor, Tensor], Split], test: Pixels | Callable[[], Pixels], classes: tuple[str, ...]
) -> Split:
    """The test part, at the first use of `.test`."""
    pixels, targets = test if isinstance(test, tuple) else test()
    check(pixels, targets, classes, "the test part", every_class=False)
    return part(pixels, targets)


def check(
    images: Tensor, labels: Tensor, classes: tuple[str, ...], what: str, every_class: bool = True
) -> None:
    """Refuse what would fail later or silently: wrong shapes, labels out of range, classes without images."""
    if images.ndim != 4 or images.numel() == 0:
        raise DataError(
            f"{what} has images of shape {tuple(images.shape)}; wanted (N, channels, height, width), none of "
            "them 0: reshape them"
        )
    if (
        labels.ndim != 1
        or labels.is_floating_point()
        or labels.dtype == torch.bool
        or len(labels) != len(images)
    ):
        raise DataError(
            f"{what} has labels of shape {tuple(labels.shape)}, {labels.dtype}, for {len(images):,} images; "
            f"wanted ({len(images)},) integers"
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
    empty = [f"{name} ({k})" for k, (name, count) in enumerate(zip(classes, counts, strict=True)) if count == 0]
    if every_class and empty:
        raise DataError(
            f"{what} has no image of class {', '.join(empty[:5])}; counts: {counts[:20]}: "
            "add some or drop the class"
        )
