"""DIST: the student learns how the teacher's probabilities go up and down together, not their
values.

Notation: logits z of the student and v of the teacher, (B,K); Q = softmax(z/T) and P =
softmax(v/T), (B,K); r(a, b) the Pearson correlation of two vectors.

Reference: Huang et al., Knowledge Distillation from A Stronger Teacher, NeurIPS 2022,
https://arxiv.org/abs/2205.10536
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from datadistill.errors import UsageError
from kd_baselines.losses.checks import at_least_float32, check_softmax, check_temperature
from kd_baselines.losses.divergence import to_double
from kd_baselines.losses.schedules import Weight, check_weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["DIST", "dist_loss"]

# of a vector's length: a smaller deviation from its mean is taken for rounding
FLAT = 1e-7


def dist_loss(
    student_logits: Float[Tensor, "b k"],
    teacher_logits: Float[Tensor, "b k"],
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """T^2 (beta L_inter + gamma L_intra) (Huang et al. 2022).

        L_inter = 1/B sum_b (1 - r(Q[b, :], P[b, :]))     the classes of a sample
        L_intra = 1/K sum_k (1 - r(Q[:, k], P[:, k]))     the samples of a batch, class by class

    Both are between 0 and 2. The factor T^2 is that of the authors' code, which also adds 1e-8 to
    the denominator of r; here vectors of equal numbers, whose r is not defined, have r = 0 and no
    other vector is changed. L_intra depends on which samples share a batch. Of two classes r(Q[b,
    :], P[b, :]) is 1 or -1, and so is r of two samples: nothing is learned from it.

    Args:
        student_logits: z, (B,K), K at least 2; B at least 2 unless gamma is 0.
        teacher_logits: v, (B,K); no gradient flows to it.
        beta: weight of L_inter, 0 or more.
        gamma: weight of L_intra, 0 or more.
        temperature: T, above 0.

    Example:
        >>> z = torch.tensor([[3.0, 0.0, -3.0], [0.0, 1.0, 0.0], [-2.0, 1.0, 5.0]])
        >>> dist_loss(z, z + torch.tensor([[5.0], [0.0], [-1.0]])).item() < 1e-6
        True
        >>> dist_loss(z, -z) > 2
        tensor(True)
    """
    check_softmax(student_logits, teacher_logits)
    check_temperature(temperature)
    for weight in (beta, gamma):
        check_weight(weight)
    if gamma > 0 and len(student_logits) < 2:
        raise UsageError(
            "one sample has no correlation with others; give batches of 2 or more, or gamma 0"
        )
    T = float(temperature)
    q = (to_double(student_logits) / T).softmax(1)
    p = (to_double(teacher_logits.detach()) / T).softmax(1)
    found = q.new_zeros(())
    if beta > 0:
        found = found + beta * (1 - _correlate(q, p)).mean()
    if gamma > 0:
        found = found + gamma * (1 - _correlate(q.T, p.T)).mean()
    return (T**2 * found).to(at_least_float32(student_logits).dtype)


class DIST(Term):
    """`dist_loss`; an ensemble is softened net by net."""

    needs = Needs.both_logits()

    def __init__(
        self,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 1.0,
        weight: Weight = 1.0,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, name)
        check_temperature(temperature)
        for part in (beta, gamma):
            check_weight(part)
        self.beta, self.gamma, self.T = beta, gamma, temperature

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        z, v = seen.require("student_logits"), seen.soften_teacher(self.T)
        return dist_loss(z, v, self.beta, self.gamma, self.T)


def _correlate(a: Float[Tensor, "n m"], b: Float[Tensor, "n m"]) -> Float[Tensor, " n"]:
    """The Pearson correlation of each row of a with the same row of b."""
    return (_standardize(a) * _standardize(b)).sum(1)


def _standardize(rows: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Rows minus their mean, as unit vectors; a row of equal numbers is only centred."""
    centred = rows - rows.mean(1, keepdim=True)
    squared = centred.square().sum(1, keepdim=True)
    flat = squared <= FLAT**2 * rows.detach().square().sum(1, keepdim=True)
    return centred / torch.where(flat, torch.ones_like(squared), squared).sqrt()
