"""What losses on logits refuse."""

from __future__ import annotations

import sys
from numbers import Real
from typing import Any

from jaxtyping import Float
from torch import Tensor

from datadistill.errors import UsageError
from datadistill.nets.logits import refuse_one_logit

__all__ = [
    "NOT_GIVEN",
    "at_least_float32",
    "check_logits",
    "check_softmax",
    "check_teacher_softmax",
    "check_temperature",
]


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
        _check_table(logits, whose)
    if len(student) != len(teacher):
        found = f"the student has logits of {len(student)} samples, the teacher of {len(teacher)}"
        raise UsageError(f"{found}; pass both the same samples, in the same order")
    if student.shape[1] != teacher.shape[1]:
        found = f"the student has {student.shape[1]} classes, the teacher {teacher.shape[1]}"
        raise UsageError(f"{found}; give both the same classes")


def check_softmax(student: Float[Tensor, "b k"], teacher: Float[Tensor, "b k"]) -> None:
    """`check_logits` for a loss of probabilities: K is at least 2.

    Args:
        student: (B,K).
        teacher: (B,K).

    Raises:
        UsageError: see `check_logits`; or one logit a sample, whose softmax is 1 whatever it is.

    Example:
        >>> import torch
        >>> check_softmax(torch.zeros(4, 2), torch.zeros(4, 2))
    """
    check_logits(student, teacher)
    refuse_one_logit(student, "the student")


def check_teacher_softmax(teacher: Float[Tensor, "b k"]) -> None:
    """Refuse a teacher's logits that are no table (B,K) of floats, K at least 2.

    Raises:
        UsageError: no floats, not two-dimensional, empty, or one logit a sample.
    """
    _check_table(teacher, "teacher")
    refuse_one_logit(teacher, "the teacher")


def at_least_float32(x: Tensor) -> Tensor:
    """The same numbers in float32 where they are in half precision, whose squares and sums overflow.

    Example:
        >>> import torch
        >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return x.float() if x.is_floating_point() and x.dtype.itemsize < 4 else x


def _check_table(logits: Tensor, whose: str) -> None:
    if logits.dim() != 2 or not logits.is_floating_point() or not logits.numel():
        found = f"{tuple(logits.shape)} {logits.dtype}"
        raise UsageError(f"the {whose}'s logits are {found}; pass floats (samples, classes), 1 or more of each")


NOT_GIVEN: Any = type("NotGiven", (), {"__repr__": lambda self: "not given"})()
"""The default of a second name of an argument."""


def one_name(name: str, value: Any, default: Any, **other: Any) -> Any:
    """The value of an argument that has a second name, by which it was given or not.

    Args:
        name: of the argument.
        value: as given.
        default: of the argument.
        other: second name -> value, NOT_GIVEN where it is.

    Raises:
        UsageError: both are given, and differ.

    Example:
        >>> one_name("temperature", 4.0, 4.0, T=2.0)
        2.0
    """
    for second, again in other.items():
        if again is NOT_GIVEN:
            continue
        if value != default and value != again:
            raise UsageError(
                f"{name} is {value} and {second} is {again}, two names of one number; give one of them"
            )
        value = again
    return value


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
    # as a float: a whole number of 400 digits has none, and a fraction may be rounded to 0
    if not (isinstance(T, Real) and 0 < T <= sys.float_info.max and float(T) > 0):
        raise UsageError(f"the temperature is {T}; give a finite number above 0 (1 changes nothing)")
