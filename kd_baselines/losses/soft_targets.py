"""Soft targets: the student learns the teacher's probabilities, both softened by a temperature.

Notation: logits z of the student and v of the teacher, (B,K); y the labels, (B,); temperature T,
which FitNets calls tau; H(p, q) = -sum_i p_i log q_i.

References:
    Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015,
        https://arxiv.org/abs/1503.02531
    Romero et al., FitNets: Hints for Thin Deep Nets, 2015, https://arxiv.org/abs/1412.6550
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from kd_baselines.losses.checks import (
    NOT_GIVEN,
    at_least_float32,
    check_softmax,
    check_temperature,
    class_labels,
    one_name,
)
from kd_baselines.losses.divergence import scaled_divergence, to_double
from kd_baselines.losses.logit_standardization import standardize_logits
from kd_baselines.losses.schedules import Weight, check_weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["KD", "FitNetsKD", "fitnets_kd_loss", "soft_cross_entropy", "soft_target_loss"]


def soft_target_loss(
    student_logits: Float[Tensor, "b k"], teacher_logits: Float[Tensor, "b k"], temperature: float
) -> Float[Tensor, ""]:
    """T^2 KL(softmax(v/T) || softmax(z/T)), mean over the batch (Hinton et al. 2015, section 2).

    The factor T^2 keeps the gradient T (softmax(z/T) - softmax(v/T)) / B of the same size at every
    T: for T to infinity the loss is the squared distance of the centred logits over 2K. Right to
    rounding at every T, and in float32 for logits of half precision.

    Args:
        student_logits: z, (B,K), K at least 2.
        teacher_logits: v, (B,K); -inf is probability 0. No gradient flows to it.
        temperature: T, above 0.

    Example:
        >>> soft_target_loss(
        ...     torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, -2.0]]), temperature=4.0
        ... )
        tensor(1.7751)
    """
    check_softmax(student_logits, teacher_logits)
    check_temperature(temperature)
    mean = scaled_divergence(student_logits, teacher_logits, temperature).mean()
    return mean.to(at_least_float32(student_logits).dtype)


def soft_cross_entropy(
    student_logits: Float[Tensor, "b k"],
    teacher_logits: Float[Tensor, "b k"],
    temperature: float,
    *,
    student_temperature: float | None = None,
) -> Float[Tensor, ""]:
    """H(softmax(v/tau), softmax(z/tau)), the soft part of `fitnets_kd_loss`, with its arguments."""
    check_softmax(student_logits, teacher_logits)
    student_temperature = temperature if student_temperature is None else student_temperature
    for T in (temperature, student_temperature):
        check_temperature(T)
    T = float(temperature)
    # H(p, q) = H(p) + KL(p || q): what depends on z is not rounded at the size of H, which is near
    # log K
    z, v = to_double(student_logits), to_double(teacher_logits.detach())
    entropy = torch.special.entr(((v - v.amax(1, keepdim=True)) / T).softmax(1)).sum(1)
    found = entropy + scaled_divergence(z * (T / float(student_temperature)), v, T) / T / T
    return found.mean().to(at_least_float32(student_logits).dtype)


def fitnets_kd_loss(
    student_logits: Float[Tensor, "b k"],
    teacher_logits: Float[Tensor, "b k"],
    labels: Int[Tensor, " b"],
    temperature: float,
    lam: float,
    *,
    student_temperature: float | None = None,
) -> Float[Tensor, ""]:
    """H(y, softmax(z)) + lambda H(softmax(v/tau), softmax(z/tau)), mean over the batch.

    Romero et al. 2015, eq. 2. There is no tau^2. The gradient is that of H(y, softmax(z)) + w
    `soft_target_loss` with w = lambda / tau^2: lambda from 4 to 1 at tau = 3 is w from 0.444 to
    0.111. The values differ by lambda times the entropy of the teacher's soft targets, which the
    student cannot change.

    Args:
        student_logits: z, (B,K).
        teacher_logits: v, (B,K); no gradient flows to it.
        labels: y, (B,), 0 to K-1.
        temperature: tau, above 0.
        lam: lambda, 0 or more.
        student_temperature: None: tau, as the paper says. 1 softens the teacher alone, which the
            authors' code seems to do: it sets the student's temperature only while the graph is
            built.

    Example:
        >>> z, v, y = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, -2.0]]), torch.tensor([0])
        >>> fitnets_kd_loss(z, v, y, temperature=3.0, lam=4.0)
        tensor(3.4657)
    """
    check_weight(lam)
    soft = soft_cross_entropy(
        student_logits, teacher_logits, temperature, student_temperature=student_temperature
    )
    z = at_least_float32(student_logits)
    return F.cross_entropy(z, class_labels(labels, z)) + lam * soft


class KD(Term):
    """`soft_target_loss`; an ensemble is softened net by net. T and alpha are other names of
    temperature and weight. With `z_score`, of logits that `standardize_logits` has standardized,
    an ensemble's those of its mean."""

    needs = Needs.both_logits()

    def __init__(
        self,
        temperature: float = 4.0,
        weight: Weight = 1.0,
        name: str | None = None,
        *,
        T: float = NOT_GIVEN,
        alpha: Weight = NOT_GIVEN,
        z_score: bool = False,
    ) -> None:
        super().__init__(one_name("weight", weight, 1.0, alpha=alpha), name)
        self.T = one_name("temperature", temperature, 4.0, T=T)
        check_temperature(self.T)
        self.z_score = z_score

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        z = seen.require("student_logits")
        if self.z_score:
            v = standardize_logits(seen.require("teacher_logits"))
            return soft_target_loss(standardize_logits(z), v, self.T)
        return soft_target_loss(z, seen.soften_teacher(self.T), self.T)


class FitNetsKD(Term):
    """The soft part of `fitnets_kd_loss`, whose lambda is the term's weight: add it to `CE()`. T,
    student_T and weight are other names of temperature, student_temperature and lam. The paper's
    lambda is Linear(4.0, 1.0, epochs=500) (MNIST: 150)."""

    needs = Needs.both_logits()

    def __init__(
        self,
        temperature: float = 3.0,
        lam: Weight = 1.0,
        student_temperature: float | None = None,
        name: str | None = None,
        *,
        T: float = NOT_GIVEN,
        student_T: float | None = NOT_GIVEN,
        weight: Weight = NOT_GIVEN,
    ) -> None:
        super().__init__(one_name("lam", lam, 1.0, weight=weight), name)
        self.T = one_name("temperature", temperature, 3.0, T=T)
        self.student_T = one_name(
            "student_temperature", student_temperature, None, student_T=student_T
        )
        for one in (self.T, self.T if self.student_T is None else self.student_T):
            check_temperature(one)

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        z, v = seen.require("student_logits"), seen.soften_teacher(self.T)
        return soft_cross_entropy(z, v, self.T, student_temperature=self.student_T)
