"""Noisy teacher logits: logit regression to targets that are multiplied by random numbers near 1.

Reference: Sau, Balasubramanian, Deep Model Compression: Distilling Knowledge from Noisy Teachers,
2016, https://arxiv.org/abs/1610.09650
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from datadistill.errors import UsageError
from kd_baselines.losses.checks import at_least_float32, check_generator, check_logits, check_sigma
from kd_baselines.losses.logit_regression import logit_regression_loss
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["NoisyLogits", "noisy_logit_loss", "noisy_logits"]


def noisy_logits(
    teacher_logits: Float[Tensor, "b k"],
    sigma: float,
    alpha: float,
    generator: torch.Generator | None = None,
    *,
    shared: bool = False,
) -> Float[Tensor, "b k"]:
    """v (1 + xi), xi ~ N(0, sigma^2), for each sample with probability alpha, v for the others; no
    gradient.

    Args:
        teacher_logits: v, (B,K).
        sigma: standard deviation of xi, 0 or more.
        alpha: probability that a sample gets noise, 0 to 1.
        generator: draws, on the logits' device; None: torch's global one.
        shared: one xi a class for all samples (covariances between samples differ, each sample's
            distribution does not); by default one a sample and class. Which samples get it is drawn
            for each.
    """
    _check_noise(sigma, alpha)
    v = at_least_float32(teacher_logits.detach())
    check_generator(generator, v)
    b, k = v.shape
    chosen = torch.rand(b, 1, generator=generator, device=v.device) < alpha
    xi = sigma * torch.randn(
        1 if shared else b, k, generator=generator, device=v.device, dtype=v.dtype
    )
    return torch.where(chosen, v * (1 + xi), v)


def noisy_logit_loss(
    student_logits: Float[Tensor, "b k"],
    teacher_logits: Float[Tensor, "b k"],
    sigma: float,
    alpha: float,
    generator: torch.Generator | None = None,
    *,
    shared: bool = False,
) -> Float[Tensor, ""]:
    """`logit_regression_loss` to `noisy_logits` of the teacher (Sau and Balasubramanian 2016).

    Its mean over the noise is the loss without noise plus alpha sigma^2 / (2B) sum_b || v_b ||^2,
    which does not depend on z: the minimum stays where it is, and the method is noise on the
    gradient, (z - v) / B on average with the variance alpha sigma^2 v^2 / B^2. (Noise on the input,
    by contrast, changes what is minimized.)

    Args:
        student_logits: z, (B,K).
        teacher_logits: v, (B,K); no gradient flows to it.
        sigma, alpha, generator, shared: see `noisy_logits`.
    """
    check_logits(student_logits, teacher_logits)
    targets = noisy_logits(teacher_logits, sigma, alpha, generator, shared=shared)
    return logit_regression_loss(student_logits, targets)


class NoisyLogits(Term):
    """`noisy_logit_loss`, with noise from the step's stream "noisy_logits", of the student's logits
    or of the layer `output` that stands for them."""

    def __init__(
        self,
        sigma: float,
        alpha: float = 1.0,
        shared: bool = False,
        weight: Weight = 1.0,
        output: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, name)
        _check_noise(sigma, alpha)
        self.sigma, self.alpha, self.shared, self.output = sigma, alpha, shared, output
        self.needs = Needs.both_logits(output)

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        z, v, draw = (
            seen.student_output(self.output),
            seen.require("teacher_logits"),
            seen.generator("noisy_logits"),
        )
        return noisy_logit_loss(z, v, self.sigma, self.alpha, draw, shared=self.shared)


def _check_noise(sigma: float, alpha: float) -> None:
    check_sigma(sigma)
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha is {alpha}; give the probability that a sample gets noise, 0 to 1")
