"""Your own images: tensors, or a torch Dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from datadistill import streams
from datadistill.data.assemble import assemble
from datadistill.data.images import from_pil, to_channels, to_size, unit_range
from datadistill.data.normalization import Normalization
from datadistill.data.real import RealData
from datadistill.data.source import Pixels
from datadistill.data.splits import stratified
from datadistill.errors import DataError, UsageError


def from_tensors(
    images: Tensor,
    labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    *,
    classes: Sequence[str] | None = None,
    name: str = "custom",
    validation: int | float | None = None,
    seed: int = 0,
    size: int | None = None,
    channels: int | None = None,
    normalization: Normalization | None = None,
    device: torch.device | str = "cpu",
) -> RealData:
    """`RealData.from_tensors`, where the arguments are explained."""
    for what, value in (
        ("images", images),
        ("labels", labels),
        ("test_images", test_images),
        ("test_labels", test_labels),
    ):
        if not isinstance(value, Tensor):
            raise UsageError(f"{what} is a {type(value).__name__}; wanted a torch tensor")
    names = _names(classes, labels)
    if test_images.shape[1:] != images.shape[1:] and size is None:
        raise DataError(
            f"test images have shape {tuple(test_images.shape[1:])} and training images "
            f"{tuple(images.shape[1:])}; wanted the same (C,H,W), or size= to bring them to"
        )
    return assemble(
        name,
        (images.cpu(), labels.cpu()),
        lambda: (test_images.cpu(), test_labels.cpu()),
        classes=names,
        description=_sentence(name, len(images), len(test_images)),
        validation=0.1 if validation is None else validation,
        seed=seed,
        size=size,
        channels=channels,
        normalization=normalization,
        device=device,
    )


def from_dataset(
    dataset: Any,
    test: Any = None,
    *,
    holdout: int | float = 0.2,
    classes: Sequence[str] | None = None,
    name: str = "custom",
    validation: int | float | None = None,
    seed: int = 0,
    size: int | None = None,
    channels: int | None = None,
    normalization: Normalization | None = None,
    device: torch.device | str = "cpu",
) -> RealData:
    """Your own torch Dataset of (image, label) pairs, read into memory once.

    Random transforms in the data set are drawn once, from `seed`: hand over one without, and use
    `datadistill.data.augment` on batches instead.

    Args:
        dataset: map-style (`len` and indexing); images are Pillow images, or tensors (C,H,W) in uint8 or
            float 0..1 that are not normalized; labels integers from 0.
        test: another such data set, read when `.test` is first asked for. None holds a part of `dataset` out.
        holdout: that part, stratified: an int is a number, a float a share.
        classes: names in label order; those of `dataset.classes` where it has them, else "0", "1", ...
        name, validation, seed, size, channels, normalization, device: as in `RealData.from_tensors`. Images
            of several sizes need `size`; Pillow images become grey (1) or RGB (3), as the first one is,
            unless `channels` says.

    Raises:
        UsageError: not a map-style data set.
        DataError: items that do not fit.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> pairs = TensorDataset(torch.rand(40, 1, 8, 8), torch.arange(40) % 2)
        >>> data = RealData.from_dataset(pairs)
        >>> len(data.train), len(data.validation), len(data.test)
        (29, 3, 8)
    """
    for what, value in (("the data set", dataset), ("the test data set", test)):
        if value is not None and not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
            raise UsageError(
                f"{what} is a {type(value).__name__}; wanted one with a length and items (image, label)"
            )
    if normalization is not None:
        size, channels = normalization.size, normalization.channels
    channels = _channels(dataset) if channels is None else channels
    images, labels = _read(dataset, range(len(dataset)), size, channels, seed)
    names = _names(classes if classes is not None else getattr(dataset, "classes", None), labels)
    if test is None:
        if int(labels.min()) < 0:
            raise DataError(f"the labels begin at {int(labels.min())}; wanted integers from 0")
        kept, held_out = stratified(labels, holdout, streams.generator(seed, "holdout"))
        images, labels = images[kept], labels[kept]
        source: Any = dataset
        indices: Sequence[int] = held_out.tolist()
    else:
        source, indices = test, range(len(test))
    return assemble(
        name,
        (images, labels),
        lambda: _read(source, indices, size, channels, seed),
        classes=names,
        description=_sentence(name, len(images), len(indices)),
        validation=0.1 if validation is None else validation,
        seed=seed,
        size=size,
        channels=channels,
        normalization=normalization,
        device=device,
    )


def _channels(dataset: Any) -> int:
    if len(dataset) == 0:
        raise DataError("the data set is empty; wanted pairs (image, label)")
    image = _pair(dataset, 0)[0]
    return from_pil(image).shape[0] if isinstance(image, Image.Image) else image.shape[0]


def _read(dataset: Any, indices: Sequence[int], size: int | None, channels: int, seed: int) -> Pixels:
    images: list[Tensor] = []
    labels: list[int] = []
    with streams.global_stream(seed, "dataset"):
        for index in indices:
            image, label = _pair(dataset, index)
            try:
                if isinstance(image, Image.Image):
                    image = from_pil(image, channels)
                image = to_size(to_channels(unit_range(image, "the image"), channels), size)
            except DataError as error:
                raise DataError(f"item {index} of the data set: {error}") from error
            if images and image.shape != images[0].shape:
                raise DataError(
                    f"item {index} of the data set has shape {tuple(image.shape)}, the first "
                    f"{tuple(images[0].shape)}; wanted all alike: give size= (32, say)"
                )
            images.append(image)
            labels.append(label)
    if not images:
        raise DataError("the data set is empty; wanted pairs (image, label)")
    return torch.stack(images), torch.tensor(labels)


def _pair(dataset: Any, index: int) -> tuple[Any, int]:
    item = dataset[index]
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise DataError(
            f"item {index} of the data set is a {type(item).__name__}; wanted a pair (image, label)"
        )
    image, label = item[0], item[1]
    if not isinstance(image, Image.Image) and not (isinstance(image, Tensor) and image.ndim == 3):
        found = f"tensor of shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise DataError(
            f"item {index} of the data set has a {found} for an image; wanted (C,H,W) or a Pillow image"
        )
    try:
        whole = int(label)
        if whole != label or isinstance(label, str):
            raise ValueError
    except (TypeError, ValueError):
        raise DataError(
            f"item {index} of the data set has the label {label!r}; wanted an integer from 0"
        ) from None
    return image, whole


def _names(classes: Any, labels: Tensor) -> tuple[str, ...]:
    if isinstance(classes, Sequence) and not isinstance(classes, str) and len(classes) > 0:
        return tuple(str(name) for name in classes)
    if labels.ndim != 1 or labels.numel() == 0:
        raise DataError(f"the labels have shape {tuple(labels.shape)}; wanted (N,) integers, N above 0")
    highest = int(labels.max())
    if highest >= len(labels):
        raise DataError(
            f"the labels go up to {highest:,} but there are {len(labels):,} images; wanted 0, 1, ... with "
            "an image of each: renumber them"
        )
    return tuple(str(k) for k in range(highest + 1))


def _sentence(name: str, learn: int, held_out: int) -> str:
    return f"{name}: {learn:,} images of your own to learn from, {held_out:,} held out"
