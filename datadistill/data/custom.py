"""Your own images: tensors, or a torch Dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datadistill import streams
from datadistill.data.arrays import image_tensor, refuse_channels_last
from datadistill.data.assemble import assemble, check, refuse_contradiction
from datadistill.data.images import from_pil, to_channels, to_size, unit_range
from datadistill.data.labels import LARGEST, class_number, class_numbers
from datadistill.data.naming import Names, class_names, in_order_of, unified
from datadistill.data.normalization import Normalization
from datadistill.data.parts import pixel_ids
from datadistill.data.real import RealData
from datadistill.data.source import Pixels
from datadistill.data.splits import stratified
from datadistill.errors import DataError
from datadistill.runs.signals import poll
from datadistill.torch_defaults import library_defaults


@library_defaults()
def from_tensors(
    images: Any,
    labels: Any,
    test_images: Any,
    test_labels: Any,
    *,
    classes: Any = None,
    test_classes: Any = None,
    name: str = "custom",
    validation: int | float | None = None,
    seed: int = 0,
    size: int | None = None,
    channels: int | None = None,
    normalization: Normalization | None = None,
    device: torch.device | str = "cpu",
) -> RealData:
    """`RealData.from_tensors`, where the arguments are explained."""
    images, test_images = image_tensor(images, "images"), image_tensor(test_images, "test_images")
    if normalization is not None:
        refuse_contradiction(normalization, size, channels)
    known = channels if normalization is None else normalization.channels
    for what, tensor in (("images", images), ("test_images", test_images)):
        if tensor.ndim != 4 or tensor.numel() == 0:
            raise DataError(
                f"{what} have shape {tuple(tensor.shape)}; wanted (N, channels, height, width), none of them "
                "0: reshape them"
            )
        refuse_channels_last(tuple(tensor.shape), what, known)
    labels = class_numbers(labels, len(images), "the training part")
    test_labels = class_numbers(test_labels, len(test_images), "the test part")
    names = _names(class_names(classes), labels)
    test_labels = _renumbered(test_labels, class_names(test_classes), names)
    side = size if normalization is None else normalization.size
    if test_images.shape[1:] != images.shape[1:] and side is None:
        raise DataError(
            f"test images have shape {tuple(test_images.shape[1:])} and training images "
            f"{tuple(images.shape[1:])}; wanted the same (C,H,W), or size= to bring them to"
        )
    return assemble(
        name,
        (images, labels),
        (test_images, test_labels),
        classes=names,
        description=_sentence(name, len(images), len(test_images)),
        validation=0.1 if validation is None else validation,
        seed=seed,
        size=size,
        channels=channels,
        normalization=normalization,
        device=device,
    )


def _renumbered(labels: Tensor, names: Names | None, wanted: Names) -> Tensor:
    """Test labels in the order of the training names."""
    pairs = [(None, int(label)) for label in labels]
    ordered = in_order_of(pairs, names, wanted)
    return labels if ordered is pairs else torch.tensor([ordered[i][1] for i in range(len(pairs))])


@library_defaults()
def from_dataset(
    dataset: Any,
    test: Any = None,
    *,
    holdout: int | float = 0.2,
    classes: Any = None,
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
    `datadistill.data.augment` on batches instead. torchvision's ImageFolder makes 8-bit RGB of every file and
    passes over orientation tags, before anything here sees the image; `load_folder` does neither.

    Args:
        dataset: map-style (`len` and indexing), or a DataLoader of one; images are Pillow images, or tensors
            or arrays (C,H,W) in uint8 or float 0..1 that are not normalized; labels integers from 0.
        test: another such data set, read now, too, and normalized when `.test` is first asked for. Where both
            have class names, its labels go by name. None holds a part of `dataset` out.
        holdout: that part, stratified: an int is a number, a float a share.
        classes: names in label order (see `RealData.from_tensors`); by default those that the data set, or the
            one behind a Subset, ConcatDataset or DataLoader, has as `classes` or `class_to_idx`, else "0", "1",
            ...
        name, validation, seed, size, channels, normalization, device: as in `RealData.from_tensors`. Images
            of several sizes need `size`; Pillow images become grey (1) or RGB (3), as the first one is,
            unless `channels` says.

    Raises:
        UsageError: not a map-style data set, or a DataLoader that changes what it loads.
        DataError: items that do not fit; a test image of a class that the training set does not have.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> pairs = TensorDataset(torch.rand(40, 1, 8, 8), torch.arange(40) % 2)
        >>> data = RealData.from_dataset(pairs)
        >>> len(data.train), len(data.validation), len(data.test)
        (29, 3, 8)
    """
    chosen = class_names(classes)
    dataset, own = unified(dataset, "the data set")
    if test is not None:
        test, names_of_test = unified(test, "the test data set")
        test = in_order_of(test, names_of_test, own or chosen)
    if normalization is not None:
        refuse_contradiction(normalization, size, channels)
        size, channels = normalization.size, normalization.channels
    channels = _channels(dataset, channels) if channels is None else channels
    images, labels = _read(dataset, range(len(dataset)), size, channels, seed)
    names = _names(chosen or own, labels)
    ids: tuple[list[str], list[str]] | None = None
    if test is None:
        check(images, labels, names, "the data set")
        kept, held_out = stratified(labels, holdout, streams.generator(seed, "holdout"))
        found = pixel_ids(images, labels, names)
        ids = [found[i] for i in kept.tolist()], [found[i] for i in held_out.tolist()]
        tested = images[held_out], labels[held_out]
        images, labels = images[kept], labels[kept]
    else:
        tested = _read_test(test, size, channels, seed, images)
    return assemble(
        name,
        (images, labels),
        tested if len(tested[1]) else _nothing,
        classes=names,
        description=_sentence(name, len(images), len(tested[1])),
        validation=0.1 if validation is None else validation,
        seed=seed,
        size=size,
        channels=channels,
        normalization=normalization,
        ids=ids,
        device=device,
    )


def _nothing() -> Pixels:
    raise DataError("no image was held out (holdout=0) and no test data set given; pass one of the two")


def _read_test(test: Any, size: int | None, channels: int, seed: int, images: Tensor) -> Pixels:
    """Read a test data set, in which each image has the shape of those to learn from."""
    try:
        pixels, labels = _read(test, range(len(test)), size, channels, seed)
    except DataError as error:
        raise DataError(f"the test data set: {error}") from error
    if pixels.shape[1:] != images.shape[1:]:
        raise DataError(
            f"test images have shape {tuple(pixels.shape[1:])} and training images "
            f"{tuple(images.shape[1:])}; wanted the same (C,H,W), or size= to bring them to"
        )
    return pixels, labels


def _channels(dataset: Any, said: int | None) -> int:
    if len(dataset) == 0:
        raise DataError("the data set is empty; wanted pairs (image, label)")
    image = _pair(dataset, 0, said)[0]
    return from_pil(image).shape[0] if isinstance(image, Image.Image) else image.shape[0]


def _read(dataset: Any, indices: Sequence[int], size: int | None, channels: int, seed: int) -> Pixels:
    images: list[Tensor] = []
    labels: list[int] = []
    with streams.global_stream(seed, "dataset"):
        for index in indices:
            poll()
            image, label = _pair(dataset, index, channels)
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


def _pair(dataset: Any, index: int, channels: int | None) -> tuple[Any, int]:
    item = dataset[index]
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise DataError(
            f"item {index} of the data set is a {type(item).__name__}; wanted a pair (image, label)"
        )
    image, label = item[0], class_number(item[1])
    if not isinstance(image, Image.Image):
        if isinstance(image, Tensor | np.ndarray):
            image = image_tensor(image, f"item {index} of the data set")
        if not isinstance(image, Tensor) or image.ndim != 3:
            found = (
                f"tensor of shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            )
            raise DataError(
                f"item {index} of the data set has a {found} for an image; wanted (C,H,W) or a Pillow image"
            )
        refuse_channels_last(tuple(image.shape), f"item {index} of the data set", channels)
    if label is None or abs(label) > LARGEST:
        raise DataError(f"item {index} of the data set has the label {item[1]!r:.60}; wanted an integer from 0")
    return image, label


def _names(names: Names | None, labels: Tensor) -> Names:
    """The names, or numbers in their place."""
    if names is not None:
        return names
    highest = int(labels.max())
    if highest >= len(labels):
        raise DataError(
            f"the labels go up to {highest:,} but there are {len(labels):,} images; wanted 0, 1, ... with "
            "an image of each: renumber them"
        )
    return tuple(str(k) for k in range(highest + 1))


def _sentence(name: str, learn: int, held_out: int) -> str:
    return f"{name}: {learn:,} images of your own to learn from, {held_out:,} held out"
