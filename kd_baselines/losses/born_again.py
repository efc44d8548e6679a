"""Born-Again Networks: the student learns the teacher's probabilities as they are, at T = 1.

Notation: logits z of the student and v of the teacher, (B,K); q = softmax(z), p = softmax(v); y the
labels, (B,); H(p, q) = -sum_i p_i log q_i. The gradient q - p falls into two parts: the label's
entry, and "dark knowledge", the others. CWTM (confidence weighted by teacher max) keeps of the
teacher one number a sample, how sure it is; DKPP, in `kd_baselines.losses.dark_knowledge`, spoils
the dark knowledge and keeps the rest.

Reference: Furlanello et al., Born-Again Neural Networks, ICML 2018,
https://arxiv.org/abs/1805.04770
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from kd_baselines.losses.checks import (
    at_least_float32,
    check_softmax,
    check_teacher_softmax,
    class_labels,
)
from kd_baselines.losses.schedules import check_weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = [
    "CWTM",
    "BornAgain",
    "GradientParts",
    "born_again_loss",
    "cwtm_loss",
    "cwtm_weights",
    "gradient_parts",
]


def born_again_loss(
    student_logits: Float[Tensor, "b k"],
    teacher_logits: Float[Tensor, "b k"],
    labels: Int[Tensor, " b"] | None = None,
    label_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """H(p, q), mean over the batch; with labels, + label_weight * H(y, q) (Furlanello et al. 2018,
    eq. 3).

    Without labels it is BAN, with them BAN+L, whose weight the paper does not tell. There is no
    temperature.

    Args:
        student_logits: z, (B,K), finite.
        teacher_logits: v, (B,K); -inf is probability 0. No gradient flows to it.
        labels: y, (B,), 0 to K-1; None leaves the label term out.
        label_weight: 0 or more; of no effect without labels.

    Example:
        >>> z, v = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, -2.0]])
        >>> born_again_loss(z, v), born_again_loss(z, v, torch.tensor([0]))
        (tensor(0.6931), tensor(1.3863))
    """
    check_weight(label_weight)
    check_softmax(student_logits, teacher_logits)
    z, v = at_least_float32(student_logits), at_least_float32(teacher_logits.detach())
    log_q = F.log_softmax(z, dim=1)  # once: of a language model's logits it takes most of the time
    soft = -(F.softmax(v, dim=1) * log_q).sum(1).mean()
    if labels is None:
        return soft
    return soft + label_weight * F.nll_loss(log_q, class_labels(labels, z))


class GradientParts(NamedTuple):
    """The two parts, (B,K) each: the first is 0 but at the label of each row, the second is 0
    there."""

    dark_knowledge: Float[Tensor, "b k"]
    ground_truth: Float[Tensor, "b k"]


def gradient_parts(
    student_logits: Float[Tensor, "b k"],
    teacher_logits: Float[Tensor, "b k"],
    labels: Int[Tensor, " b"],
) -> GradientParts:
    """d/dz of `born_again_loss` without labels, (q - p) / B, split at the label * of each sample.

        ground_truth     (q_* - p_*) / B at the label: with a label alone it would be (q_* - 1) / B
        dark_knowledge   (q_i - p_i) / B at the other classes i

    Furlanello et al. 2018, eqs. 5 to 8. Both are vectors, one row a sample, without gradient. The
    paper's eq. 7 adds up numbers, sum_i (q_i - p_i); that sum is 0 for every z and v (derived: q
    and p both sum to 1), so as numbers the parts only cancel.

    Example:
        >>> z, v = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -torch.inf]])
        >>> parts = gradient_parts(z, v, torch.tensor([0]))
        >>> parts.ground_truth
        tensor([[-0.1667,  0.0000,  0.0000]])
        >>> parts.dark_knowledge
        tensor([[ 0.0000, -0.1667,  0.3333]])
    """
    check_softmax(student_logits, teacher_logits)
    z, v = at_least_float32(student_logits.detach()), at_least_float32(teacher_logits.detach())
    labels = class_labels(labels, z)
    q, p = F.softmax(z, dim=1), F.softmax(v, dim=1)
    gradient = (q - p) / len(labels)
    classes = torch.arange(gradient.shape[1], device=gradient.device)
    at_label = classes == labels.unsqueeze(1)
    zero = torch.zeros_like(gradient)
    return GradientParts(
        torch.where(at_label, zero, gradient), torch.where(at_label, gradient, zero)
    )


def cwtm_weights(teacher_logits: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
    """w_s = max p_s / sum_u max p_u over the batch, (B,), without gradient (Furlanello et al. 2018,
    eq. 10).

    Example:
        >>> cwtm_weights(torch.tensor([[0.0, 0.0], [0.0, -torch.inf]]))  # 1/2 and 1
        tensor([0.3333, 0.6667])
    """
    check_teacher_softmax(teacher_logits)
    confidence = F.softmax(at_least_float32(teacher_logits.detach()), dim=1).amax(1)
    return confidence / confidence.sum()


def cwtm_loss(
    student_logits: Float[Tensor, "b k"],
    teacher_logits: Float[Tensor, "b k"],
    labels: Int[Tensor, " b"],
) -> Float[Tensor, ""]:
    """sum_s w_s H(y_s, q_s) with `cwtm_weights`: labels weighted by the teacher's confidence.

    The weights sum to 1, so there is no further 1/B: equal confidences give the mean cross-entropy.
    y are the true labels even where the teacher is wrong, and its confidence counts there too. The
    gradient in z_s is w_s (q_s - y_s).

    Args:
        student_logits: z, (B,K).
        teacher_logits: v, (B,K); no gradient flows to it.
        labels: y, (B,), 0 to K-1.

    Example:
        >>> z, v = torch.zeros(3, 2), torch.tensor([[5.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
        >>> cwtm_loss(z, v, torch.tensor([0, 0, 1]))
        tensor(0.6931)
    """
    check_softmax(student_logits, teacher_logits)
    z = at_least_float32(student_logits)
    each = F.cross_entropy(z, class_labels(labels, z), reduction="none")
    return (cwtm_weights(teacher_logits) * each).sum()


class BornAgain(Term):
    """`born_again_loss` without labels, BAN; an ensemble teaches by its mean. BAN+L is
    `BornAgain() + CE()`."""

    needs = Needs.both_logits()

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        return born_again_loss(seen.require("student_logits"), seen.soften_teacher(1.0))


class CWTM(Term):
    """`cwtm_loss`; of an ensemble, the confidence is that of its mean."""

    needs = Needs.both_logits()

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        return cwtm_loss(seen.require("student_logits"), seen.soften_teacher(1.0), seen.labels)
