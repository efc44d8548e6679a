"""Refusals of the losses, each rule once."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from datadistill.data.user_split import to_labels
from datadistill.errors import UsageError
from datadistill.nets.logits import refuse_labels_beyond, refuse_one_logit

NOT_GIVEN: Any = type("NotGiven", (), {"__repr__": lambda self: "not given"})()
"""The default of a second name of an argument."""


def check_logits(student: Float[Tensor, "b k"], teacher: Float[Tensor, "b k"]) -> None:
    """Refuse logits that are not two tables (B,K) of the same samples and classes, B and K at least
    1."""
    _check_table(student, "student")
    _check_table(teacher, "teacher")
    if len(student) != len(teacher):
        found = f"the student has logits of {len(student)} samples, the teacher of {len(teacher)}"
        raise UsageError(f"{found}; pass both the same samples, in the same order")
    if student.shape[1] != teacher.shape[1]:
        found = f"the student has {student.shape[1]} classes, the teacher {teacher.shape[1]}"
        raise UsageError(f"{found}; give both the same classes")


def check_softmax(student: Float[Tensor, "b k"], teacher: Float[Tensor, "b k"]) -> None:
    """`check_logits` for a loss of probabilities: K is at least 2."""
    check_logits(student, teacher)
    refuse_one_logit(student, "the student")


def check_teacher_softmax(teacher: Float[Tensor, "b k"]) -> None:
    """Refuse a teacher's logits that are no table (B,K) of floats, K at least 2."""
    _check_table(teacher, "teacher")
    refuse_one_logit(teacher, "the teacher")


def _check_table(logits: Tensor, whose: str) -> None:
    if logits.dim() != 2 or not logits.is_floating_point() or not logits.numel():
        found = f"{tuple(logits.shape)} {logits.dtype}"
        raise UsageError(
            f"the {whose}'s logits are {found}; pass floats (samples, classes), 1 or more of each"
        )


def class_labels(
    labels: Shaped[Tensor, "b ..."], logits: Float[Tensor, "b k"]
) -> Int[Tensor, " b"]:
    """One class of 0..K-1 a sample, int64, from class numbers of any integer type or one-hot
    rows."""
    if isinstance(labels, Tensor) and labels.is_floating_point():
        what = f"labels are {tuple(labels.shape)} {labels.dtype} for {len(logits)} samples"
        if labels.dim() == 2 and labels.shape[1] > 1:
            raise UsageError(
                f"{what}, probabilities, and this loss reads one true class a sample; pass class "
                "numbers (labels.argmax(1) takes the likeliest, and of a distilled set "
                "--data-labels hard), or leave its term out: CE() takes probabilities"
            )
        raise UsageError(f"{what}; pass one int64 a sample, ({len(logits)},)")
    found = to_labels(labels, len(logits))
    refuse_labels_beyond(found, logits.shape[1])
    return found


def at_least_float32(x: Tensor) -> Tensor:
    """The same numbers in float32 where they are in half precision, whose squares and sums
    overflow."""
    return x.float() if x.is_floating_point() and x.dtype.itemsize < 4 else x


def one_name(name: str, value: Any, default: Any, **other: Any) -> Any:
    """The value of an argument that has a second name; two different values are refused.

    >>> one_name("temperature", 4.0, 4.0, T=2.0)
    2.0
    """
    for second, again in other.items():
        if again is NOT_GIVEN:
            continue
        if value != default and value != again:
            raise UsageError(
                f"{name} is {value} and {second} is {again}, two names of one number; "
                "give one of them"
            )
        value = again
    return value


def check_temperature(T: float) -> None:
    """Refuse a temperature that is not a finite number above 0."""
    # as a float: a whole number of 400 digits has none, and a fraction may be rounded to 0
    if not (isinstance(T, Real) and 0 < T <= sys.float_info.max and float(T) > 0):
        raise UsageError(
            f"the temperature is {T}; give a finite number above 0 (1 changes nothing)"
        )


def check_sigma(sigma: float) -> None:
    """Refuse a standard deviation of noise that is not finite or below 0."""
    if not (math.isfinite(sigma) and sigma >= 0):
        raise UsageError(
            f"sigma is {sigma}; give the noise's standard deviation, a finite number, 0 or more"
        )


def check_draws(what: str, number: int) -> None:
    """Refuse fewer than one draw."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise UsageError(f"{what} is {number!r}; give a whole number of draws, at least 1")


def check_generator(generator: torch.Generator | None, logits: Tensor) -> None:
    """Refuse a generator of another device than the logits'."""
    if generator is not None and generator.device.type != logits.device.type:
        raise UsageError(
            f"the generator draws on {generator.device}, the logits are on {logits.device}; "
            f"make it with torch.Generator({logits.device.type!r})"
        )


def check_layers(layers: Mapping[str, str]) -> dict[str, str]:
    """A copy of the pairs of layers, the student's -> the teacher's; no pair is refused."""
    if not isinstance(layers, Mapping) or not layers:
        raise UsageError(
            f"the layers are {layers!r}; name pairs of layers, the student's first: "
            '{"layer3": "layer3"}'
        )
    return dict(layers)


def pair_layers(
    what: str, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """The outputs of one layer, or of a list of layers, of both nets pair by pair, without gradient
    to the teacher's; another number of them is refused. `what` names the loss."""
    ours = [student] if isinstance(student, Tensor) else list(student)
    theirs = [teacher] if isinstance(teacher, Tensor) else list(teacher)
    if len(ours) != len(theirs) or not ours:
        raise UsageError(
            f"{what} got {len(ours)} layers of the student and {len(theirs)} of "
            "the teacher; give the same number, at least 1"
        )
    return [(s, t.detach()) for s, t in zip(ours, theirs, strict=True)]


def flat_rows(
    student: Float[Tensor, "b ..."], teacher: Float[Tensor, "b ..."]
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b m"]]:
    """The outputs of a layer of both nets, one flat row a sample; other samples, and fewer than two
    of them, are refused."""
    for whose, rows in (("student", student), ("teacher", teacher)):
        if rows.dim() < 2 or not rows.is_floating_point() or not rows.numel():
            raise UsageError(
                f"the {whose}'s layer gives {tuple(rows.shape)} {rows.dtype}; name a layer that "
                "gives floats (samples, features...), 1 or more of each"
            )
    if len(student) != len(teacher):
        raise UsageError(
            f"the student's layer has {len(student)} samples and the teacher's {len(teacher)}; "
            "pass one batch to both"
        )
    if len(student) < 2:
        raise UsageError("one sample has no relation to others; give batches of 2 or more")
    return student.flatten(1), teacher.flatten(1)
