"""Images and labels as users hand them over, as a `Split`: what a fit trains on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from datadistill.data.batches import Split
from datadistill.data.naming import to_map_style
from datadistill.errors import DataError, UsageError

__all__ = ["float_images", "split_of", "to_labels"]


def split_of(data: Any, what: str = "the data") -> Split:
    """The images and labels of anything that has both.

    Images are taken as they are, normalized as the net wants them. A data set is read once, in its
    order: its random transforms are drawn once (augment by the plan instead).

    Args:
        data: a `Split`; a pair of images and labels, tensors or arrays, the labels also a list; a
            torch `TensorDataset` or other map-style data set, a list of pairs, or a DataLoader of
            one.
        what: named in errors.

    Example:
        >>> pairs = [(torch.zeros(1, 2, 2), 3), (torch.ones(1, 2, 2), 1)]
        >>> split_of(pairs).labels
        tensor([3, 1])
    """
    if isinstance(data, Split):
        images, labels = data.images, data.labels
    elif _is_pair(data):
        images, labels = data
        images = torch.from_numpy(images) if isinstance(images, np.ndarray) else images
    elif isinstance(data, torch.utils.data.TensorDataset):
        if len(data.tensors) != 2:
            raise UsageError(
                f"{what} has {len(data.tensors)} tensors an item; wanted images and labels"
            )
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
    images, labels = (
        x.clone() if x.is_inference() else x for x in (images.detach(), labels.detach())
    )
    return Split(images, labels)


def float_images(images: Any) -> Tensor:
    """A batch of images (B,...), refused where no net takes it: no tensor, or whole numbers."""
    if not isinstance(images, Tensor):
        raise UsageError(
            f"images are a {type(images).__name__}; pass a tensor (B, channels, height, width)"
        )
    if not images.is_floating_point():
        raise UsageError(
            f"images are {tuple(images.shape)} {images.dtype}; pass floats, normalized as the net "
            "wants them (images.float() / 255 brings bytes to the range 0 to 1)"
        )
    return images


def to_labels(labels: Any, samples: int) -> Int[Tensor, " b"] | Float[Tensor, "b k"]:
    """Class numbers (B,) int64, or probabilities (B,K) as they are.

    Args:
        labels: (B,) or (B,1) whole numbers of any type; (B,K) one-hot rows of integers; or (B,K)
            floats, probabilities.
        samples: B.

    Example:
        >>> to_labels(torch.tensor([[0, 0, 1], [1, 0, 0]]), 2)
        tensor([2, 0])
    """
    if not isinstance(labels, Tensor):
        try:
            labels = torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"labels are a {type(labels).__name__} that makes no tensor ({str(error)[:100]}); "
                f"pass class numbers ({samples},), 0 or more"
            ) from None
    if labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    found = f"labels are {tuple(labels.shape)} {labels.dtype} for {samples} samples"
    wanted = f"pass class numbers ({samples},), 0 or more, or probabilities ({samples}, classes)"
    if labels.dim() not in (1, 2) or labels.shape[0] != samples or labels.is_complex():
        raise UsageError(f"{found}; {wanted}")
    if labels.dim() == 2:
        if labels.is_floating_point():
            return labels
        wide = labels.long()
        if not bool(((wide == 0) | (wide == 1)).all() and (wide.sum(1) == 1).all()):
            raise UsageError(f"{found}, whole numbers that are not one-hot; {wanted}")
        return wide.argmax(1)
    if labels.is_floating_point() and not bool(
        (labels == labels.round()).all() and (labels.abs() < 2**31).all()
    ):
        raise UsageError(f"{found}, and not all whole numbers; {wanted}")
    return labels.long()


def _is_pair(data: Any) -> bool:
    """Whether these are images and labels, and not a list of two pairs."""
    if (
        not isinstance(data, tuple | list)
        or len(data) != 2
        or not isinstance(data[0], Tensor | np.ndarray)
    ):
        return False
    return isinstance(data[1], Tensor | np.ndarray | list | tuple)


def _read(data: Any, what: str) -> tuple[Tensor, Any]:
    if isinstance(data, Mapping | Tensor | str | bytes):
        raise UsageError(
            f"{what} is a {type(data).__name__}; pass a Split(images, labels), a data set of pairs "
            "(image, label), or a pair of tensors (images, labels)"
        )
    dataset, _ = to_map_style(data, what)
    if not len(dataset):
        raise DataError(f"{what} has no image; pass some")
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for place in range(len(dataset)):
        item = dataset[place]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UsageError(
                f"item {place} of {what} is a {type(item).__name__}; wanted a pair (image, label)"
            )
        image, label = item
        if not isinstance(image, Tensor):
            raise UsageError(
                f"the image of item {place} of {what} is a {type(image).__name__}; wanted a tensor "
                "(channels, height, width): give the data set a transform (torchvision's "
                "ToTensor), or take datadistill.RealData.from_dataset"
            )
        if images and image.shape != images[0].shape:
            raise DataError(
                f"item {place} of {what} has shape {tuple(image.shape)}, the first "
                f"{tuple(images[0].shape)}; wanted all alike"
            )
        images.append(image)
        labels.append(torch.as_tensor(label))
    if len({x.shape for x in labels}) > 1:
        raise DataError(f"{what} has labels of several shapes; wanted one class number an image")
    return torch.stack(images), torch.stack(labels)
