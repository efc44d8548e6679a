"""Jacobians: Srinivas and Fleuret, Knowledge Transfer with Jacobian Matching, 2018,
https://arxiv.org/abs/1803.00443.
"""

from __future__ import annotations

from typing import Literal

from datadistill.training.fit_plan import FitPlan
from kd_baselines.losses.cross_entropy import CE
from kd_baselines.losses.input_noise import InputNoise
from kd_baselines.losses.jacobian import JacobianMatching
from kd_baselines.losses.jacobian_norm import JacobianNorm
from kd_baselines.losses.logit_regression import LogitRegression
from kd_baselines.methods.combining import weighted
from kd_baselines.stages import Stage

__all__ = ["input_noise", "jacobian", "jacobian_norm"]

Output = Literal["full", "top", "label", "projected"]
Form = Literal["squared", "cross-entropy"]


def jacobian(
    plan: FitPlan,
    *,
    label_weight: float = 1.0,
    activation_weight: float = 1.0,
    jacobian_weight: float = 1.0,
    output: Output = "label",
    form: Form = "squared",
    normalize: bool = False,
) -> tuple[Stage, ...]:
    """label_weight * CE + activation_weight * (1/2) ||z - v||^2 + jacobian_weight * ||J_S - J_T||^2.

    Any of the three may be left out by weight 0. Distillation by squared error under input noise of deviation
    sigma is, to second order, activation_weight 2 and jacobian_weight sigma^2.

    Args:
        plan: of the only stage.
        label_weight: 0 or more.
        activation_weight: 0 or more, of the squared error of the logits.
        jacobian_weight: 0 or more.
        output: which rows of the Jacobian: see `JacobianMatching`; "label" is the paper's approximation.
        form: see `JacobianMatching`.
        normalize: compare directions only.

    Raises:
        UsageError: a value out of range, or every weight 0.

    Example:
        >>> (stage,) = jacobian(FitPlan(epochs=5), activation_weight=0.0)
        >>> len(stage.objective.terms)
        2

    References:
        Proposition 1 and section 4.1.
    """
    objective = weighted(
        CE(weight=label_weight),
        LogitRegression(weight=activation_weight),
        JacobianMatching(output=output, form=form, normalize=normalize, weight=jacobian_weight),
    )
    return (Stage("student", objective, plan),)


def jacobian_norm(
    plan: FitPlan,
    *,
    weight: float = 1.0,
    output: Output = "label",
    form: Form = "squared",
    label_weight: float = 1.0,
) -> tuple[Stage, ...]:
    """label_weight * CE + weight * ||J_S||^2, without a teacher: for nets that bear noise on their input.

    Args:
        plan: of the only stage.
        weight: 0 or more.
        output: which rows of the Jacobian: see `JacobianNorm`.
        form: see `JacobianNorm`.
        label_weight: 0 or more.

    Raises:
        UsageError: a value out of range, or both weights 0.

    Example:
        >>> (stage,) = jacobian_norm(FitPlan(epochs=5), weight=0.1)
        >>> stage.objective.needs.any_teacher
        False

    References:
        Proposition 2.
    """
    penalty = JacobianNorm(output=output, form=form, weight=weight)
    return (Stage("student", weighted(CE(weight=label_weight), penalty), plan),)


def input_noise(
    plan: FitPlan,
    *,
    sigma: float = 0.1,
    loss: Literal["logits", "kd"] = "logits",
    temperature: float = 1.0,
    weight: float = 1.0,
    label_weight: float = 1.0,
) -> tuple[Stage, ...]:
    """label_weight * CE + weight * distillation on noisy images: Jacobian matching by sampling.

    Args:
        plan: of the only stage.
        sigma: deviation of the noise on the images: see `InputNoise`.
        loss: squared error of the logits, or soft targets.
        temperature: of the soft targets, above 0.
        weight: 0 or more.
        label_weight: 0 or more.

    Raises:
        UsageError: a value out of range, or both weights 0.

    Example:
        >>> (stage,) = input_noise(FitPlan(epochs=5), sigma=0.2)
        >>> len(stage.objective.terms)
        2

    References:
        Proposition 1, left-hand side.
    """
    noisy = InputNoise(sigma, loss=loss, T=temperature, weight=weight)
    return (Stage("student", weighted(CE(weight=label_weight), noisy), plan),)
