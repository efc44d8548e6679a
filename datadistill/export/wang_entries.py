"""The entries of a `results.pth` of Wang et al.'s own code, checked one by one.

Each is one gradient step: (images (B, C, H, W), labels (B,) integers or (B, K) probabilities, lr,
one number). Every refusal says what is wrong; the caller puts the file and the entry's number
before it.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from torch import Tensor

from datadistill.errors import DataError
from datadistill.runs.torchfile import is_plain

Entry = tuple[Tensor, Tensor, float]


def check_entries(
    found: Any, path: object, dataset: str, channels: int, classes: int
) -> list[Entry]:
    """The checked entries of a file's content."""
    if not isinstance(found, list | tuple) or not found:
        what = "is empty" if isinstance(found, list | tuple) else f"holds a {type(found).__name__}"
        raise DataError(f"{path} {what}, wanted a list of (images, labels, lr), one entry a step")
    entries: list[Entry] = []
    for t, entry in enumerate(found):
        try:
            entries.append(_entry(entry, dataset, channels, classes))
            first = entries[0]
            if entries[t][0].shape[1:] != first[0].shape[1:]:
                shapes = tuple(entries[t][0].shape), tuple(first[0].shape)
                raise DataError(
                    f"images are {shapes[0]}, those of entry 0 {shapes[1]}; wanted one shape"
                )
            if entries[t][1].dim() != first[1].dim():
                raise DataError("labels are of another kind than those of entry 0; wanted one kind")
        except DataError as error:
            raise DataError(f"{path}: entry {t}: {error}") from None
    return entries


def _entry(entry: Any, dataset: str, channels: int, classes: int) -> Entry:
    if not isinstance(entry, list | tuple) or len(entry) != 3:
        what = (
            f"has {len(entry)} parts"
            if isinstance(entry, list | tuple)
            else f"is a {type(entry).__name__}"
        )
        raise DataError(f"{what}, wanted three: images, labels, lr")
    images, labels, lr = entry
    for name, x in (("images", images), ("labels", labels)):
        if not isinstance(x, Tensor) or not is_plain(x):
            what = (
                "not an ordinary one (dense, each number stored)"
                if isinstance(x, Tensor)
                else type(x).__name__
            )
            raise DataError(f"{name} are no tensor of numbers: {what}; save plain tensors")
    if images.dim() != 4 or not len(images) or not images.is_floating_point():
        raise DataError(
            f"images are {tuple(images.shape)} {images.dtype}, wanted floats (B, C, H, W), B >= 1"
        )
    if images.shape[2] != images.shape[3]:
        raise DataError(
            f"images are {images.shape[2]}x{images.shape[3]} pixels, wanted square ones"
        )
    if images.shape[1] != channels:
        raise DataError(
            f"images have {images.shape[1]} channels, wanted {channels} for {dataset}; name the "
            "data set it was learned from, or pass --channels 3 where a grey one was used in three"
        )
    if not bool(torch.isfinite(images).all()):
        bad = int((~torch.isfinite(images)).flatten(1).any(1).nonzero()[0])
        raise DataError(f"image {bad} has values that are not finite; wanted finite numbers")
    return images.detach().float(), _labels(labels.detach(), len(images), classes), _step_size(lr)


def _labels(labels: Tensor, n: int, classes: int) -> Tensor:
    """Class numbers (B,), or probabilities (B, K); one-hot integers become class numbers."""
    if (
        labels.shape not in ((n,), (n, classes))
        or labels.dtype == torch.bool
        or labels.is_complex()
    ):
        raise DataError(
            f"labels are {tuple(labels.shape)} {labels.dtype} for {n} images, wanted ({n},) "
            f"integers or ({n}, {classes}) probabilities"
        )
    if labels.is_floating_point():
        sums = labels.float().sum(-1)
        if (
            labels.dim() != 2
            or not bool((labels >= 0).all())
            or not bool(((sums - 1).abs() < 1e-3).all())
        ):
            raise DataError(
                "labels are floats and no probabilities; wanted rows of 0 or more that sum to 1"
            )
        return labels.float()
    labels = labels.long()
    if labels.dim() == 2:
        if not bool(((labels == 0) | (labels == 1)).all()) or not bool((labels.sum(1) == 1).all()):
            raise DataError(
                "labels are rows of integers and not one-hot; wanted a single 1 in each row"
            )
        return labels.argmax(1)
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(
            f"labels reach {int(labels.min())}..{int(labels.max())}, wanted 0..{classes - 1}"
        )
    return labels


def _step_size(lr: Any) -> float:
    if isinstance(lr, Tensor):
        if not is_plain(lr) or lr.numel() != 1 or lr.is_complex() or lr.dtype == torch.bool:
            raise DataError(f"lr is a tensor {tuple(lr.shape)} {lr.dtype}, wanted one number")
        lr = lr.item()
    if isinstance(lr, bool) or not isinstance(lr, int | float):
        raise DataError(f"lr is a {type(lr).__name__}, wanted one number")
    if not (math.isfinite(lr) and lr > 0):
        raise DataError(f"lr is {lr}, but it must be positive and finite")
    return float(lr)


def _digest(*tensors: Tensor) -> bytes:
    digest = hashlib.sha256()
    for x in tensors:
        digest.update(f"{x.dtype} {tuple(x.shape)};".encode())
        digest.update(x.contiguous().numpy().data)
    return digest.digest()


def store_once(entries: list[Entry]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Images and labels of the entries that differ in value, and which of them each step uses."""
    kept: dict[bytes, Tensor] = {}
    images, labels, order, count = [], [], [], 0
    for x, y, _ in entries:
        key = _digest(x, y)
        if key not in kept:
            kept[key] = torch.arange(count, count + len(x))
            images.append(x)
            labels.append(y)
            count += len(x)
        order.append(kept[key])
    return torch.cat(images), torch.cat(labels), order
