"""Labels as users hand them over: class numbers of any type, one-hot rows, or probabilities."""

from __future__ import annotations

from jaxtyping import Float, Int, Shaped
from torch import Tensor

from datadistill.data.given import to_labels
from datadistill.errors import UsageError

__all__ = ["class_labels", "refuse_classes", "to_labels"]


def class_labels(labels: Shaped[Tensor, "b ..."], logits: Float[Tensor, "b k"]) -> Int[Tensor, " b"]:
    """One class of 0..K-1 a sample, int64.

    Args:
        labels: see `to_labels`; whole numbers, no floats.
        logits: (B,K).

    Raises:
        UsageError: another shape or type, probabilities, or a class that the logits do not have.

    Example:
        >>> import torch
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
