"""Images and labels as users hand them over, as a `Split`: what `fit`, `score` and a cached teacher work on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from datadistill.data import RealData, Split
from datadistill.data.naming import unified
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError
from kd_baselines.losses.labels import to_labels

__all__ = ["as_split", "float_images", "refuse_distilled"]


def as_split(data: Any, what: str = "the data") -> Split:
    """The images and labels of anything that has both.

    Images are taken as they are, normalized as the net wants them. A data set is read once, in its order: its
    random transforms are drawn once (augment by the plan instead).

    Args:
        data: a `Split`; a `RealData`, whose training part is taken; a `DistilledDataset`, whose labels may be
            soft; a pair of tensors; a torch `TensorDataset` or other map-style data set, a list of pairs, or a
            DataLoader of one.
        what: named in errors.

    Raises:
        UsageError: none of these, images that are no floats, or labels that are none.
        DataError: no image, or images of several shapes.

    Example:
        >>> pairs = [(torch.zeros(1, 2, 2), 3), (torch.ones(1, 2, 2), 1)]
        >>> as_split(pairs).labels
        tensor([3, 1])
    """
    if isinstance(data, RealData):
        data = data.train
    if isinstance(data, Split | DistilledDataset):
        images, labels = data.images, data.labels
    elif isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(x, Tensor) for x in data):
        images, labels = data
    elif isinstance(data, torch.utils.data.TensorDataset):
        if len(data.tensors) != 2:
            raise UsageError(f"{what} has {len(data.tensors)} tensors an item; wanted images and labels")
        images, labels = data.tensors
    else:
        images, labels = _read(data, what)
    images = float_images(images)
    labels = to_labels(labels, len(images))
    if (
        isinstance(data, Split)
        and images is data.images
        and labels is data.labels
        and not images.is_inference()
    ):
        return data
    # a tensor made under inference_mode would break every later gradient
    images, labels = (x.clone() if x.is_inference() else x for x in (images.detach(), labels.detach()))
    return Split(images, labels)


def float_images(images: Any) -> Tensor:
    """A batch of images, refused where no net takes it.

    Args:
        images: (B,...) floats.

    Raises:
        UsageError: no tensor, or whole numbers.

    Example:
        >>> float_images(torch.zeros(2, 1, 2, 2)).shape
        torch.Size([2, 1, 2, 2])
    """
    if not isinstance(images, Tensor):
        raise UsageError(f"images are a {type(images).__name__}; pass a tensor (B, channels, height, width)")
    if not images.is_floating_point():
        raise UsageError(
            f"images are {tuple(images.shape)} {images.dtype}; pass floats, normalized as the net wants them "
            "(images.float() / 255 brings bytes to the range 0 to 1)"
        )
    return images


def refuse_distilled(data: Any, why: str) -> None:
    """UsageError for a distilled set where real images are needed, which ends with `why`."""
    if isinstance(data, DistilledDataset):
        raise UsageError(f"data is a DistilledDataset of {len(data.images)} learned images, {why}")


def _read(data: Any, what: str) -> tuple[Tensor, Any]:
    if isinstance(data, Mapping | Tensor | str | bytes):
        raise UsageError(
            f"{what} is a {type(data).__name__}; pass a Split(images, labels), a data set of pairs "
            "(image, label), or a pair of tensors (images, labels)"
        )
    dataset, _ = unified(data, what)
    if not len(dataset):
        raise DataError(f"{what} has no image; pass some")
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for place in range(len(dataset)):
        item = dataset[place]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UsageError(f"item {place} of {what} is a {type(item).__name__}; wanted a pair (image, label)")
        image, label = item
        if not isinstance(image, Tensor):
            raise UsageError(
                f"the image of item {place} of {what} is a {type(image).__name__}; wanted a tensor "
                "(channels, height, width): give the data set a transform (torchvision's ToTensor), or take "
                "datadistill.RealData.from_dataset"
            )
        if images and image.shape != images[0].shape:
            raise DataError(
                f"item {place} of {what} has shape {tuple(image.shape)}, the first {tuple(images[0].shape)}; "
                "wanted all alike"
            )
        images.append(image)
        labels.append(torch.as_tensor(label))
    if len({x.shape for x in labels}) > 1:
        raise DataError(f"{what} has labels of several shapes; wanted one class number an image")
    return torch.stack(images), torch.stack(labels)
