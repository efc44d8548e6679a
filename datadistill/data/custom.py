"""Your own images: tensors, or a torch Dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datadistill import streams
from datadistill.data.arrays import image_tensor, refuse_channels_last
from datadistill.data.checks import check_part, refuse_contradiction
from datadistill.data.images import from_pil, to_channels, to_size, unit_range
from datadistill.data.labels import LARGEST, class_number, class_numbers
from datadistill.data.naming import Names, class_names, reorder_labels, to_map_style
from datadistill.data.normalization import Normalization
from datadistill.data.parts import pixel_ids
from datadistill.data.source import Pixels
from datadistill.data.splits import split_stratified
from datadistill.errors import DataError
from datadistill.runs.signals import poll


def read_tensors(
    images: Any,
    labels: Any,
    test_images: Any,
    test_labels: Any,
    *,
    classes: Any,
    test_classes: Any,
    size: int | None,
    channels: int | None,
    normalization: Normalization | None,
) -> tuple[Pixels, Pixels, Names]:
    """Both parts and the class names; the arguments are explained at `RealData.from_tensors`."""
    images, test_images = image_tensor(images, "images"), image_tensor(test_images, "test_images")
    if normalization is not None:
        refuse_contradiction(normalization, size, channels)
    known = channels if normalization is None else normalization.channels
    for what, tensor in (("images", images), ("test_images", test_images)):
        if tensor.ndim != 4 or tensor.numel() == 0:
            raise DataError(
                f"{what} have shape {tuple(tensor.shape)}; wanted (N, channels, height, width), "
                "none of them 0: reshape them"
            )
        refuse_channels_last(tuple(tensor.shape), what, known)
    labels = class_numbers(labels, len(images), "the training part")
    test_labels = class_numbers(test_labels, len(test_images), "the test part")
    names = _names(class_names(classes), labels)
    test_labels = _renumber(test_labels, class_names(test_classes), names)
    side = size if normalization is None else normalization.size
    if test_images.shape[1:] != images.shape[1:] and side is None:
        raise DataError(
            f"test images have shape {tuple(test_images.shape[1:])} and training images "
            f"{tuple(images.shape[1:])}; wanted the same (C,H,W), or size= to bring them to"
        )
    return (images, labels), (test_images, test_labels), names


def _renumber(labels: Tensor, names: Names | None, wanted: Names) -> Tensor:
    """Test labels in the order of the training names."""
    pairs = [(None, int(label)) for label in labels]
    ordered = reorder_labels(pairs, names, wanted)
    return labels if ordered is pairs else torch.tensor([ordered[i][1] for i in range(len(pairs))])


class OwnImages(NamedTuple):
    """Images and labels of a user's data set; `ids` where its test part was held out of it."""

    train: Pixels
    test: Pixels
    classes: Names
    size: int | None
    channels: int
    ids: tuple[list[str], list[str]] | None


def read_dataset(
    dataset: Any,
    test: Any,
    *,
    holdout: int | float,
    classes: Any,
    seed: int,
    size: int | None,
    channels: int | None,
    normalization: Normalization | None,
) -> OwnImages:
    """Every image, once; the arguments are explained at `RealData.from_dataset`."""
    chosen = class_names(classes)
    dataset, own = to_map_style(dataset, "the data set")
    if test is not None:
        test, names_of_test = to_map_style(test, "the test data set")
        test = reorder_labels(test, names_of_test, own or chosen)
    if normalization is not None:
        refuse_contradiction(normalization, size, channels)
        size, channels = normalization.size, normalization.channels
    channels = _channels(dataset, channels) if channels is None else channels
    images, labels = _read(dataset, range(len(dataset)), size, channels, seed)
    names = _names(chosen or own, labels)
    ids: tuple[list[str], list[str]] | None = None
    if test is None:
        check_part(images, labels, names, "the data set")
        kept, held_out = split_stratified(labels, holdout, streams.generator(seed, "holdout"))
        found = pixel_ids(images, labels, names)
        ids = [found[i] for i in kept.tolist()], [found[i] for i in held_out.tolist()]
        tested = images[held_out], labels[held_out]
        images, labels = images[kept], labels[kept]
    else:
        tested = _read_test(test, size, channels, seed, images)
    return OwnImages((images, labels), tested, names, size, channels, ids)


def refuse_no_test() -> Pixels:
    raise DataError(
        "no image was held out (holdout=0) and no test data set given; pass one of the two"
    )


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


def _read(
    dataset: Any, indices: Sequence[int], size: int | None, channels: int, seed: int
) -> Pixels:
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
                f"tensor of shape {tuple(image.shape)}"
                if isinstance(image, Tensor)
                else type(image).__name__
            )
            raise DataError(
                f"item {index} of the data set has a {found} for an image; wanted (C,H,W) "
                "or a Pillow image"
            )
        refuse_channels_last(tuple(image.shape), f"item {index} of the data set", channels)
    if label is None or abs(label) > LARGEST:
        raise DataError(
            f"item {index} of the data set has the label {item[1]!r:.60}; wanted an integer from 0"
        )
    return image, label


def _names(names: Names | None, labels: Tensor) -> Names:
    """The names, or numbers in their place."""
    if names is not None:
        return names
    highest = int(labels.max())
    if highest >= len(labels):
        raise DataError(
            f"the labels go up to {highest:,} but there are {len(labels):,} images; wanted 0, 1, "
            "... with an image of each: renumber them"
        )
    return tuple(str(k) for k in range(highest + 1))
