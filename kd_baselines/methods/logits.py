"""Squared error of logits: Ba and Caruana, Do Deep Nets Really Need to be Deep?, 2014,
https://arxiv.org/abs/1312.6184; with noise on the teacher's: Sau and Balasubramanian, Deep Model Compression:
Distilling Knowledge from Noisy Teachers, 2016, https://arxiv.org/abs/1610.09650.
"""

from __future__ import annotations

from datadistill.training.fit_plan import FitPlan
from kd_baselines.losses.cross_entropy import CE
from kd_baselines.losses.logit_regression import LogitRegression
from kd_baselines.losses.noisy_logits import NoisyLogits
from kd_baselines.methods.combining import weighted
from kd_baselines.stages import Stage

__all__ = ["logits", "noisy_logits"]


def logits(
    plan: FitPlan, *, standardize: bool = False, weight: float = 1.0, label_weight: float = 0.0
) -> tuple[Stage, ...]:
    """weight * half the squared distance of the logits, a sample, + label_weight * CE.

    Args:
        plan: of the only stage.
        standardize: standardize the teacher's logits first.
        weight: 0 or more.
        label_weight: 0 or more; 0, the paper's, leaves the labels out.

    Raises:
        UsageError: a weight below 0, or both 0.

    Example:
        >>> (stage,) = logits(FitPlan(epochs=2))
        >>> len(stage.objective.terms)
        1
    """
    objective = weighted(CE(weight=label_weight), LogitRegression(standardize=standardize, weight=weight))
    return (Stage("student", objective, plan),)


def noisy_logits(
    plan: FitPlan,
    *,
    sigma: float = 0.1,
    alpha: float = 1.0,
    shared: bool = False,
    weight: float = 1.0,
    label_weight: float = 0.0,
) -> tuple[Stage, ...]:
    """As `logits`, with the teacher's multiplied by 1 + xi, xi ~ N(0, sigma^2).

    Args:
        plan: of the only stage.
        sigma: deviation of the noise, 0 or more.
        alpha: probability with which a sample is perturbed, 0 to 1.
        shared: one xi a class for the whole batch, not one a sample and class.
        weight: 0 or more.
        label_weight: 0 or more.

    Raises:
        UsageError: a value out of range, or both weights 0.

    Example:
        >>> (stage,) = noisy_logits(FitPlan(epochs=2), sigma=0.5, label_weight=1.0)
        >>> len(stage.objective.terms)
        2
    """
    noisy = NoisyLogits(sigma, alpha=alpha, shared=shared, weight=weight)
    return (Stage("student", weighted(CE(weight=label_weight), noisy), plan),)
