"""Noisy teacher logits: logit regression to targets that are multiplied by random numbers near 1.

Notation: logits z of the student and v of the teacher, (B,K).

    v' = v (1 + xi), xi ~ N(0, sigma^2), for each sample with probability alpha; else v' = v
    L  = 1/(2B) sum_b || z_b - v'_b ||^2

Over the noise, E L = L(without noise) + alpha sigma^2 / (2B) sum_b || v_b ||^2. What is added does not depend
on z: the minimum stays where it is, and the method is noise on the gradient, (z - v)/B on average with the
variance alpha sigma^2 v^2 / B^2. (Noise on the input, by contrast, changes what is minimized.)

References:
    Sau, Balasubramanian, Deep Model Compression: Distilling Knowledge from Noisy Teachers, 2016.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from datadistill.errors import UsageError
from kd_baselines.losses.checks import at_least_float32, check_logits
from kd_baselines.losses.logit_regression import logit_needs, logit_regression_loss, student_logits_of
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.term import Seen, Term

__all__ = ["NoisyLogits", "noisy_logit_loss", "noisy_logits"]


def noisy_logits(
    teacher_logits: Float[Tensor, "b k"],
    sigma: float,
    alpha: float,
    generator: torch.Generator | None = None,
    *,
    shared: bool = False,
) -> Float[Tensor, "b k"]:
    """v (1 + xi) with xi ~ N(0, sigma^2) for each sample with probability alpha, v for the others.

    Args:
        teacher_logits: v, (B,K).
        sigma: standard deviation of xi, 0 or more.
        alpha: probability that a sample gets noise, 0 to 1.
        generator: draws, on the logits' device; None: torch's global one.
        shared: one xi a class for all samples (covariances between samples differ, each sample's distribution
            does not); by default one a sample and class. Which samples get it is drawn for each.

    Returns:
        (B,K), without gradient.

    Raises:
        UsageError: a value out of range, or a generator on another device.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> noisy_logits(torch.zeros(1, 3), sigma=0.5, alpha=1.0, generator=draw)  # the noise multiplies
        tensor([[0., 0., 0.]])

    References:
        Sau & Balasubramanian 2016.
    """
    _check_noise(sigma, alpha)
    v = at_least_float32(teacher_logits.detach())
    if generator is not None and generator.device.type != v.device.type:
        raise UsageError(
            f"the generator draws on {generator.device}, the logits are on {v.device}; "
            f"make it with torch.Generator({v.device.type!r})"
        )
    b, k = v.shape
    chosen = torch.rand(b, 1, generator=generator, device=v.device) < alpha
    xi = sigma * torch.randn(1 if shared else b, k, generator=generator, device=v.device, dtype=v.dtype)
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
    """Half the squared distance a sample to `noisy_logits` of the teacher, mean over the batch.

    Args:
        student_logits: z, (B,K).
        teacher_logits: v, (B,K); no gradient flows to it.
        sigma: see `noisy_logits`.
        alpha: see `noisy_logits`.
        generator: see `noisy_logits`.
        shared: see `noisy_logits`.

    Returns:
        A number, 0 or more; with sigma 0 or alpha 0 that of `logit_regression_loss`.

    Raises:
        UsageError: shapes or classes that do not fit, a value out of range, or a generator on another device.

    Example:
        >>> noisy_logit_loss(torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]), sigma=0.0, alpha=1.0)
        tensor(5.)

    References:
        Sau & Balasubramanian 2016.
    """
    check_logits(student_logits, teacher_logits)
    targets = noisy_logits(teacher_logits, sigma, alpha, generator, shared=shared)
    return logit_regression_loss(student_logits, targets)


class NoisyLogits(Term):
    """`noisy_logit_loss`, with noise from the step's stream "noisy_logits".

    Args:
        sigma: standard deviation of the noise, 0 or more.
        alpha: probability that a sample gets noise, 0 to 1.
        shared: see `noisy_logits`.
        weight: see `Term`.
        output: name of the student's layer whose output (B,K) is fitted; None: the student's logits.
        name: see `Term`.

    Raises:
        UsageError: a value out of range.

    Example:
        >>> NoisyLogits(sigma=0.3, alpha=0.5).needs.teacher_logits
        True
    """

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
        self.needs = logit_needs(output)

    def prepare(self, seen: Seen) -> None:
        check_logits(student_logits_of(seen, self.output), seen.got("teacher_logits"))

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        assert seen.noise is not None, "a term draws noise where none is given"
        z, v = student_logits_of(seen, self.output), seen.got("teacher_logits")
        draw = seen.noise("noisy_logits")
        return noisy_logit_loss(z, v, self.sigma, self.alpha, draw, shared=self.shared)


def _check_noise(sigma: float, alpha: float) -> None:
    if not (math.isfinite(sigma) and sigma >= 0):
        raise UsageError(f"sigma is {sigma}; give the noise's standard deviation, 0 or more")
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha is {alpha}; give the probability that a sample gets noise, 0 to 1")
