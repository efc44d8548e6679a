"""Labels as users hand them over: class numbers of any type, one-hot rows, or probabilities."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from datadistill.errors import UsageError

__all__ = ["class_labels", "refuse_classes", "to_labels"]


def to_labels(labels: Any, samples: int) -> Int[Tensor, " b"] | Float[Tensor, "b k"]:
    """Class numbers (B,) int64, or probabilities (B,K) as they are.

    Args:
        labels: (B,) or (B,1) whole numbers of any type; (B,K) one-hot rows of integers; or (B,K) floats,
            probabilities.
        samples: B.

    Raises:
        UsageError: another shape, fractions as class numbers, or rows of integers that are not one-hot.

    Example:
        >>> to_labels(torch.tensor([[2.0], [0.0]]), 2)
        tensor([2, 0])
        >>> to_labels(torch.tensor([[0, 0, 1], [1, 0, 0]]), 2)
        tensor([2, 0])
    """
    if not isinstance(labels, Tensor):
        labels = torch.as_tensor(labels)
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


def class_labels(labels: Shaped[Tensor, "b ..."], logits: Float[Tensor, "b k"]) -> Int[Tensor, " b"]:
    """One class of 0..K-1 a sample, int64.

    Args:
        labels: see `to_labels`; whole numbers, no floats.
        logits: (B,K).

    Raises:
        UsageError: another shape or type, probabilities, or a class that the logits do not have.

    Example:
        >>> class_labels(torch.tensor([0, 3]), torch.zeros(2, 3))
        Traceback (most recent call last):
        datadistill.errors.UsageError: labels are 0 to 3, the logits have 3 classes; number the classes 0 to 2
    """
    if isinstance(labels, Tensor) and labels.is_floating_point():
        what = f"labels are {tuple(labels.shape)} {labels.dtype} for {len(logits)} samples"
        if labels.dim() == 2 and labels.shape[1] > 1:
            raise UsageError(
                f"{what}, probabilities, and this loss reads one true class a sample; pass class numbers "
                "(labels.argmax(1) takes the likeliest), or leave its term out: CE() takes probabilities"
            )
        raise UsageError(f"{what}; pass one int64 a sample, ({len(logits)},)")
    found = to_labels(labels, len(logits))
    refuse_classes(found, logits.shape[1])
    return found


def refuse_classes(labels: Int[Tensor, " b"], classes: int) -> None:
    """UsageError for class numbers outside 0..K-1."""
    if not labels.numel():
        return
    low, high = (int(end) for end in labels.aminmax())
    if low < 0 or high >= classes:
        raise UsageError(
            f"labels are {low} to {high}, the logits have {classes} classes; number the classes 0 to "
            f"{classes - 1}"
        )
