"""Labels as users hand them over, as class numbers.

Right: integers of any width, booleans, floats with whole values, a trailing axis of size 1, and
one-hot rows; in a tensor, an array, a list or whatever numpy reads. All others are refused with one
sentence.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from datadistill.errors import DataError

LARGEST = 2**62
"""Labels above this are refused before they are brought to int64, where they could turn
negative."""


def class_numbers(labels: Any, images: int, what: str) -> Int[Tensor, " n"]:
    """Labels (N,) or (N,1) of whole numbers, or (N,K) one-hot rows, as a tensor of int64 on the
    CPU.

    >>> class_numbers([[0.0, 1.0], [1.0, 0.0]], 2, "the training part")
    tensor([1, 0])
    """
    values = _array(labels, images, what)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape[:1] != (images,) or values.ndim not in (1, 2):
        _refuse(what, f"labels of shape {values.shape}, {values.dtype}", images)
    if values.ndim == 2:
        if not (np.isin(values, (0, 1)).all() and (values.astype(bool).sum(1) == 1).all()):
            _refuse(what, f"labels of shape {values.shape} that are not one-hot", images)
        return torch.from_numpy(values.astype(bool).argmax(1).astype(np.int64))
    if values.dtype.kind == "f":
        wrong = ~(np.isfinite(values) & (values == np.round(values)))
        if wrong.any():
            first = int(wrong.argmax())
            _refuse(what, f"the label {values[first]!s} of image {first}", images)
    if len(values) and (values.max() > LARGEST or values.min() < -LARGEST):
        raise DataError(
            f"{what} has labels from {values.min()!s} to {values.max()!s}; wanted 0, 1, ... with "
            "images of each: renumber them"
        )
    return torch.from_numpy(values.astype(np.int64))


def class_number(label: Any) -> int | None:
    """One label (a whole number of any type, a tensor or array with one element, or a one-hot
    vector) as a class number, or None where it is none.

    >>> class_number(torch.tensor([0, 0, 1])), class_number(2.0), class_number("cat")
    (2, 2, None)
    """
    try:
        values = class_numbers(label if _size(label) == 1 else [label], 1, "the item")
    except (DataError, TypeError, ValueError):
        return None
    return int(values[0])


def _size(label: Any) -> int:
    """1 for an array with one element, which is the label and no one-hot vector; else 0."""
    return int(isinstance(label, Tensor | np.ndarray) and label.ndim >= 1 and label.shape == (1,))


def _array(labels: Any, images: int, what: str) -> np.ndarray:
    if isinstance(labels, Tensor):
        if labels.is_complex() or labels.is_quantized or labels.is_meta:
            _refuse(what, f"labels of shape {tuple(labels.shape)}, {labels.dtype}", images)
        labels = labels.detach().to_dense() if labels.layout != torch.strided else labels.detach()
        labels = labels.cpu()
        # numpy has no bfloat16 and no 8-bit floats
        labels = labels.double() if labels.is_floating_point() else labels
        return labels.resolve_neg().numpy()
    if isinstance(labels, list | tuple):
        labels = [_array(x, images, what) if isinstance(x, Tensor) else x for x in labels]
    try:
        values = np.asarray(labels)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of several lengths
        raise DataError(
            f"{what} has labels that make no array ({error}); wanted ({images},) integers"
        ) from None
    if values.dtype == object and values.ndim == 1 and all(type(v) in (int, bool) for v in values):
        low, high = min(values, default=0), max(values, default=0)  # wider than 64 bits
        raise DataError(
            f"{what} has labels from {low} to {high}; wanted 0, 1, ... with images of "
            "each: renumber them"
        )
    if values.dtype.kind not in "biuf":
        shown = repr(values.reshape(-1)[0]) if values.size else "nothing"
        _refuse(what, f"labels of type {values.dtype} ({shown:.40}, ...)", images)
    return values


def _refuse(what: str, found: str, images: int) -> NoReturn:
    raise DataError(
        f"{what} has {found}, for {images:,} images; wanted ({images},) integers from 0 "
        "(or one-hot rows)"
    )
