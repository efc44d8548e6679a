"""What losses on logits refuse."""

from __future__ import annotations

import math
from numbers import Real

from jaxtyping import Float, Int
from torch import Tensor

from datadistill.errors import UsageError

__all__ = ["check_labels", "check_logits", "check_temperature"]


def check_logits(student: Float[Tensor, "b k"], teacher: Float[Tensor, "b k"]) -> None:
    """Refuse logits that are not two tables (B,K) of the same samples and classes, B and K at least 1.

    Args:
        student: (B,K).
        teacher: (B,K).

    Raises:
        UsageError: no floats, not two-dimensional, empty, another number of samples or of classes.

    Example:
        >>> import torch
        >>> check_logits(torch.zeros(4, 10), torch.zeros(4, 100))
        Traceback (most recent call last):
        datadistill.errors.UsageError: the student has 10 classes, the teacher 100; give both the same classes
    """
    for whose, logits in (("student", student), ("teacher", teacher)):
        if logits.dim() != 2 or not logits.is_floating_point() or not logits.numel():
            found = f"{tuple(logits.shape)} {logits.dtype}"
            raise UsageError(
                f"the {whose}'s logits are {found}; pass floats (samples, classes), 1 or more of each"
            )
    if len(student) != len(teacher):
        found = f"the student has logits of {len(student)} samples, the teacher of {len(teacher)}"
        raise UsageError(f"{found}; pass both the same samples, in the same order")
    if student.shape[1] != teacher.shape[1]:
        found = f"the student has {student.shape[1]} classes, the teacher {teacher.shape[1]}"
        raise UsageError(f"{found}; give both the same classes")


def check_labels(labels: Int[Tensor, " b"], logits: Float[Tensor, "b k"]) -> None:
    """Refuse labels that are not one class of 0..K-1 a sample.

    Args:
        labels: (B,), int64.
        logits: (B,K).

    Raises:
        UsageError: another shape or type, or a class that the logits do not have.

    Example:
        >>> import torch
        >>> check_labels(torch.tensor([0, 3]), torch.zeros(2, 3))
        Traceback (most recent call last):
        datadistill.errors.UsageError: labels are 0 to 3, the logits have 3 classes; number the classes 0 to 2
    """
    b, k = logits.shape
    if labels.dim() != 1 or labels.is_floating_point() or labels.shape[0] != b:
        found = f"{tuple(labels.shape)} {labels.dtype}"
        raise UsageError(f"labels are {found} for {b} samples; pass one int64 a sample, ({b},)")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= k:
        found = f"labels are {low} to {high}, the logits have {k} classes"
        raise UsageError(f"{found}; number the classes 0 to {k - 1}")


def check_temperature(T: float) -> None:
    """Refuse a temperature that is not a finite number above 0.

    Args:
        T: temperature.

    Raises:
        UsageError: 0, negative, infinite, NaN or no number.

    Example:
        >>> check_temperature(0)
        Traceback (most recent call last):
        datadistill.errors.UsageError: the temperature is 0; give a finite number above 0 (1 changes nothing)
    """
    if not (isinstance(T, Real) and 0 < T < math.inf):
        raise UsageError(f"the temperature is {T}; give a finite number above 0 (1 changes nothing)")
