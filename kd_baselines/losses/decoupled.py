"""Decoupled knowledge distillation (DKD): soft targets of the true class and of the other classes,
each with a weight of its own.

Notation: logits z of the student and v of the teacher, (B,K); y the label; p = softmax(v/T) and q =
softmax(z/T); b(p) = (p_y, 1 - p_y) the probabilities of the true class and of all others; o(p) =
(p_k / (1 - p_y)) over k != y, the others among themselves.

    KL(p || q) = KL(b(p) || b(q)) + (1 - p_y) KL(o(p) || o(q))
                 TCKD                          NCKD

In soft targets a confident teacher, p_y near 1, takes the second part away; DKD gives it a weight
that does not depend on p.

Reference: Zhao et al., Decoupled Knowledge Distillation, CVPR 2022,
https://arxiv.org/abs/2203.08679
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kd_baselines.losses.checks import (
    at_least_float32,
    check_softmax,
    check_temperature,
    class_labels,
)
from kd_baselines.losses.divergence import scaled_divergence, to_double
from kd_baselines.losses.logit_standardization import standardize_logits
from kd_baselines.losses.schedules import Weight, check_weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["DKD", "dkd_loss"]


def dkd_loss(
    student_logits: Float[Tensor, "b k"],
    teacher_logits: Float[Tensor, "b k"],
    labels: Int[Tensor, " b"],
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Float[Tensor, ""]:
    """T^2 (alpha TCKD + beta NCKD), mean over the batch (Zhao et al. 2022).

    The factor T^2 is that of the authors' code, as in `soft_target_loss`. With alpha 1 and beta
    replaced by 1 - p_y of each sample it would be that loss. Of two classes NCKD is 0.

    Args:
        student_logits: z, (B,K), K at least 2.
        teacher_logits: v, (B,K), finite; no gradient flows to it.
        labels: y, (B,), 0 to K-1.
        alpha: weight of the true class against all others, 0 or more.
        beta: weight of the others among themselves, 0 or more.
        temperature: T, above 0.

    Example:
        >>> z, v, y = torch.zeros(1, 3), torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([0])
        >>> dkd_loss(z, v, y, alpha=1.0, beta=0.0, temperature=1.0)
        tensor(0.6139)
        >>> dkd_loss(z, v, y, alpha=0.0, beta=1.0, temperature=1.0)
        tensor(0.3278)
    """
    check_softmax(student_logits, teacher_logits)
    check_temperature(temperature)
    for weight in (alpha, beta):
        check_weight(weight)
    y, T = class_labels(labels, student_logits), float(temperature)
    single = at_least_float32(student_logits).dtype
    z, v = to_double(student_logits), to_double(teacher_logits.detach())
    (z_y, z_others), (v_y, v_others) = _split(z, y), _split(v, y)
    both = (_true_and_rest(z_y, z_others, T), _true_and_rest(v_y, v_others, T))
    found = alpha * scaled_divergence(*both, T) + beta * scaled_divergence(z_others, v_others, T)
    return found.mean().to(single)


class DKD(Term):
    """`dkd_loss`; with `z_score`, of logits that `standardize_logits` has standardized. The logits
    of an ensemble are those of its mean."""

    needs = Needs.both_logits()

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        weight: Weight = 1.0,
        name: str | None = None,
        *,
        z_score: bool = False,
    ) -> None:
        super().__init__(weight, name)
        check_temperature(temperature)
        for part in (alpha, beta):
            check_weight(part)
        self.alpha, self.beta, self.T, self.z_score = alpha, beta, temperature, z_score

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        z, v = seen.require("student_logits"), seen.soften_teacher(self.T)
        if self.z_score:
            z, v = standardize_logits(z), standardize_logits(seen.require("teacher_logits"))
        return dkd_loss(z, v, seen.labels, self.alpha, self.beta, self.T)


def _split(
    logits: Float[Tensor, "b k"], y: Int[Tensor, " b"]
) -> tuple[Float[Tensor, "b 1"], Float[Tensor, "b others"]]:
    """The logit of each sample's class y, and those of the other classes in order."""
    classes = torch.arange(logits.shape[1], device=logits.device)
    others = (classes != y.unsqueeze(1)).nonzero()[:, 1].view(len(logits), -1)
    return logits.gather(1, y.unsqueeze(1)), logits.gather(1, others)


def _true_and_rest(
    true: Float[Tensor, "b 1"], others: Float[Tensor, "b others"], T: float
) -> Float[Tensor, "b 2"]:
    """Two logits whose softmax at T is b(p)."""
    return torch.cat([true, T * (others / T).logsumexp(1, keepdim=True)], 1)
