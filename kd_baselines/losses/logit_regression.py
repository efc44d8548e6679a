"""Logit regression: the student's logits are fitted to the teacher's by least squares, without any
softmax.

Reference: Ba, Caruana, Do Deep Nets Really Need to be Deep?, 2014, https://arxiv.org/abs/1312.6184,
section 2 (their "mimic" nets).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from datadistill.errors import UsageError
from kd_baselines.losses.checks import at_least_float32, check_logits
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["LogitRegression", "logit_regression_loss"]

Statistic = float | Sequence[float] | Float[Tensor, " k"]
"""One number for all classes, or one a class."""


def logit_regression_loss(
    student_logits: Float[Tensor, "b k"],
    teacher_logits: Float[Tensor, "b k"],
    standardize: bool = False,
    *,
    mean: Statistic | None = None,
    std: Statistic | None = None,
    relative: bool = False,
) -> Float[Tensor, ""]:
    """1/(2B) sum_b || z_b - v_b ||^2: half the squared distance of the logits (Ba and Caruana 2014,
    section 2).

    The gradient in z is (z - v) / B. It is K/2 times the mean squared error over all numbers, and,
    up to each sample's mean logit, K times the limit of `soft_target_loss` at high temperature.

    With `standardize` the student is fitted to (v_k - m_k) / s_k. By default m_k and s_k are each
    class's mean and standard deviation (divisor B) over this batch's teacher logits, so that
    targets change a little with the batch; a class with constant logits is only centred. Pass
    `mean` and `std` to use those of the whole training set. The student then speaks on the
    standardized scale: logits are s_k z_k + m_k, and the largest z_k is the teacher's choice for
    sure only where m and s are one number for all classes.

    With `relative` the result is the share of the teacher's logits that the student leaves
    unexplained, whatever their number and size:

        sum_b || z_b - v_b ||^2 / sum_b || v_b - mean_k v_bk ||^2

    It is 0 where the logits are equal, and 1 for a student that gives each sample the mean of its
    teacher's logits, and so tells no class from another.

    Args:
        student_logits: z, (B,K).
        teacher_logits: v, (B,K); no gradient flows to it.
        standardize: fit the standardized logits; by the batch's own statistics it wants two samples
            or more.
        mean: m, a number or (K,); together with `std`, and only with `standardize`.
        std: s, above 0, a number or (K,).
        relative: divide as above; not with `standardize`. Teacher's logits that are all equal
            divide by 1.

    Example:
        >>> z, v = torch.zeros(2, 2), torch.tensor([[1.0, 6.0], [3.0, 2.0]])
        >>> logit_regression_loss(z, v)
        tensor(12.5000)
        >>> logit_regression_loss(z, v, standardize=True)  # every standardized logit is 1 or -1
        tensor(1.)
        >>> logit_regression_loss(z, v, standardize=True, mean=3.0, std=2.0)
        tensor(0.8750)
        >>> logit_regression_loss(torch.tensor([[3.5, 3.5], [2.5, 2.5]]), v, relative=True)
        tensor(1.)
    """
    check_logits(student_logits, teacher_logits)
    _check_statistics(standardize, mean, std)
    _check_relative(relative, standardize)
    z, v = at_least_float32(student_logits), at_least_float32(teacher_logits.detach())
    if standardize:
        v = _standardize(v, mean, std)
    squared = (z - v).square().sum(1).mean()
    if not relative:
        return squared / 2
    scatter = (v - v.mean(1, keepdim=True)).square().sum(1).mean()
    # exact, as a mean is not: equal logits may differ from theirs
    constant = (v.amax(1) == v.amin(1)).all()
    return squared / torch.where(constant, torch.ones_like(scatter), scatter)


class LogitRegression(Term):
    """`logit_regression_loss` of the student's logits, or of the layer `output` that stands for
    them, such as the second head of a student with two."""

    def __init__(
        self,
        standardize: bool = False,
        weight: Weight = 1.0,
        output: str | None = None,
        mean: Statistic | None = None,
        std: Statistic | None = None,
        name: str | None = None,
        relative: bool = False,
    ) -> None:
        super().__init__(weight, name)
        _check_statistics(standardize, mean, std)
        _check_relative(relative, standardize)
        self.standardize, self.output, self.relative = standardize, output, relative
        self.mean, self.std = mean, std
        self.needs = Needs.both_logits(output)

    def prepare(self, seen: Seen) -> None:
        if self.standardize and seen.student_output(self.output).shape[1] == 1:
            raise UsageError(
                "the student makes one logit an image, and standardize=True takes its mean out, so "
                "the sign of a sigmoid logit would no longer decide; fit it as it is "
                "(standardize=False), or give two"
            )

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        z, v = seen.student_output(self.output), seen.require("teacher_logits")
        return logit_regression_loss(
            z, v, self.standardize, mean=self.mean, std=self.std, relative=self.relative
        )


def _standardize(
    v: Float[Tensor, "b k"], mean: Statistic | None, std: Statistic | None
) -> Float[Tensor, "b k"]:
    if mean is None or std is None:
        if len(v) < 2:
            raise UsageError(
                "one sample has no standard deviation; give batches of 2 or more, or the mean and "
                "std of the teacher's logits over the training set"
            )
        mean, std = v.mean(0), v.std(0, correction=0)
        # exact, as std is not: a rounded mean leaves 1e-8 of a constant 0.1
        constant = v.amax(0) == v.amin(0)
        std = torch.where(constant, torch.ones_like(std), std)
    m, s = (torch.as_tensor(x, dtype=v.dtype, device=v.device).detach() for x in (mean, std))
    for what, x in (("mean", m), ("std", s)):
        if x.shape not in ((), v.shape[1:]):
            raise UsageError(
                f"{what} is {tuple(x.shape)} for {v.shape[1]} classes; pass one "
                "number, or one a class"
            )
    return (v - m) / s


def _check_relative(relative: bool, standardize: bool) -> None:
    if relative and standardize:
        raise UsageError(
            "relative and standardize are both on, and each brings the logits to a scale of its "
            "own; turn one off"
        )


def _check_statistics(standardize: bool, mean: Statistic | None, std: Statistic | None) -> None:
    if (mean is None) != (std is None):
        raise UsageError(
            "only one of mean and std is given; give both, or none to take the batch's"
        )
    if std is None:
        return
    if not standardize:
        raise UsageError(
            "mean and std are given, but standardize is off; turn it on or leave them out"
        )
    if not bool((torch.as_tensor(std) > 0).all()):
        raise UsageError(
            "std has a value that is not above 0; leave out what is constant, or give it the std 1"
        )
