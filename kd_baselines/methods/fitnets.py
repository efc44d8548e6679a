"""FitNets: Romero et al., FitNets: Hints for Thin Deep Nets, 2015, https://arxiv.org/abs/1412.6550.

stage "hints":   (1/2) ||u_h - r(v_g)||^2, over the student's layers up to the guided one and the regressor r
stage "student": H(y, P_S) + lambda H(P_T at tau, P_S at tau), over the whole student, r discarded
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from datadistill.training.fit_plan import FitPlan
from kd_baselines.losses.cross_entropy import CE
from kd_baselines.losses.hints import Hint
from kd_baselines.losses.schedules import Linear
from kd_baselines.losses.soft_targets import KD, FitNetsKD
from kd_baselines.losses.term import Objective
from kd_baselines.methods.combining import one_layer, weighted
from kd_baselines.stages import Stage

__all__ = ["fitnets", "fitnets_kd", "fitnets_one_stage"]

Activation = Literal["none", "relu", "maxout"]


def _distillation(
    plan: FitPlan, temperature: float, lam_start: float, lam_end: float, student_temperature: float | None
) -> Objective:
    """H(y, P_S) + lambda H(P_T, P_S), lambda from lam_start to lam_end over the plan's epochs (eq. 2)."""
    lam = Linear(lam_start, lam_end, epochs=plan.epochs)
    if not (lam_start or lam_end):
        return Objective(CE())
    return CE() + FitNetsKD(T=temperature, lam=lam, student_T=student_temperature)


def fitnets_kd(
    plan: FitPlan,
    *,
    temperature: float = 3.0,
    lam_start: float = 4.0,
    lam_end: float = 1.0,
    student_temperature: float | None = None,
) -> tuple[Stage, ...]:
    """The paper's distillation alone: H(y, P_S) + lambda H(P_T, P_S), without the factor T^2.

    Args:
        plan: of the only stage.
        temperature: tau, above 0.
        lam_start: lambda in the first epoch, 0 or more.
        lam_end: lambda in the last epoch; equal steps between.
        student_temperature: None: the teacher's; 1: the student is not softened.

    Raises:
        UsageError: a value out of range.

    Example:
        >>> (stage,) = fitnets_kd(FitPlan(epochs=2))
        >>> len(stage.objective.terms)
        2

    References:
        Eq. 2. The gradient is that of `soft_targets` with soft_weight lambda / tau^2.
    """
    objective = _distillation(plan, temperature, lam_start, lam_end, student_temperature)
    return (Stage("student", objective, plan),)


def fitnets(
    plan: FitPlan,
    *,
    guided: str = "",
    hint: str = "",
    activation: Activation = "none",
    hint_epochs: int | None = None,
    hint_lr: float | None = None,
    temperature: float = 3.0,
    lam_start: float = 4.0,
    lam_end: float = 1.0,
    student_temperature: float | None = None,
    guided_multiplier: float = 1.0,
) -> tuple[Stage, ...]:
    """Hints first, then distillation: two stages, the paper's.

    Which layers are "up to the guided one" goes by the order in which the student registers its modules.

    Args:
        plan: of the second stage; of the first too, with what `hint_epochs` and `hint_lr` change.
        guided: the student's layer; the paper takes a middle one.
        hint: the teacher's layer; its map must not be larger than the guided one's.
        activation: of the regressor; the paper gives it that of the hint.
        hint_epochs: passes of the first stage; None: as many as of the second.
        hint_lr: learning rate of the first stage; None: the plan's.
        temperature: see `fitnets_kd`.
        lam_start: see `fitnets_kd`.
        lam_end: see `fitnets_kd`.
        student_temperature: see `fitnets_kd`.
        guided_multiplier: factor on the second stage's learning rate of the layers up to the guided one, 0 or
            more; 0 freezes their parameters.

    Raises:
        UsageError: no layer named, or a value out of range.

    Example:
        >>> first, second = fitnets(FitPlan(epochs=5), guided="convs.3", hint="convs.1", hint_epochs=2)
        >>> first.name, first.until, first.plan.epochs, second.name
        ('hints', 'convs.3', 2, 'student')

    References:
        Algorithm 1, eqs. 2 and 3.
    """
    guided, hint = one_layer("guided", guided, "student"), one_layer("hint", hint, "teacher")
    first = replace(
        plan,
        epochs=plan.epochs if hint_epochs is None else hint_epochs,
        lr=plan.lr if hint_lr is None else hint_lr,
    )
    objective = _distillation(plan, temperature, lam_start, lam_end, student_temperature)
    slower = {} if guided_multiplier == 1 else {guided: guided_multiplier}
    return (
        Stage("hints", Hint({guided: hint}, activation=activation), first, until=guided),
        Stage("student", objective, plan, multipliers_until=slower),
    )


def fitnets_one_stage(
    plan: FitPlan,
    *,
    guided: str = "",
    hint: str = "",
    activation: Activation = "none",
    hint_weight: float = 1.0,
    soft_weight: float = 0.0,
    temperature: float = 4.0,
    label_weight: float = 1.0,
) -> tuple[Stage, ...]:
    """Labels and hint at once: what other libraries call FitNets. The paper tried it and rejected it.

    label_weight * CE + soft_weight * T^2 KL + hint_weight * (1/2) ||u_h - r(v_g)||^2. Other libraries weigh a
    mean of squares over a map of C x H x W: their weight w is hint_weight 2 w / (C H W) here.

    Args:
        plan: of the only stage.
        guided: the student's layer.
        hint: the teacher's layer.
        activation: of the regressor.
        hint_weight: 0 or more.
        soft_weight: 0 or more.
        temperature: of the soft targets, above 0.
        label_weight: 0 or more.

    Raises:
        UsageError: no layer named, a value out of range, or every weight 0.

    Example:
        >>> (stage,) = fitnets_one_stage(FitPlan(epochs=5), guided="convs.3", hint="convs.1")
        >>> len(stage.objective.terms)
        2

    References:
        Section 3.1 reports that joint training found no setting in which the deep net learned.
    """
    guided, hint = one_layer("guided", guided, "student"), one_layer("hint", hint, "teacher")
    objective = weighted(
        CE(weight=label_weight),
        KD(T=temperature, weight=soft_weight),
        Hint({guided: hint}, activation=activation, weight=hint_weight),
    )
    return (Stage("student", objective, plan),)
