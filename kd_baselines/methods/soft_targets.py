"""Soft targets: Hinton et al., Distilling the Knowledge in a Neural Network, 2015,
https://arxiv.org/abs/1503.02531.
"""

from __future__ import annotations

from datadistill.training.fit_plan import FitPlan
from kd_baselines.losses.cross_entropy import CE
from kd_baselines.losses.soft_targets import KD
from kd_baselines.methods.combining import weighted
from kd_baselines.stages import Stage

__all__ = ["soft_targets"]


def soft_targets(
    plan: FitPlan, *, temperature: float = 4.0, soft_weight: float = 0.9, label_weight: float = 0.1
) -> tuple[Stage, ...]:
    """label_weight * CE + soft_weight * T^2 KL(teacher at T || student at T).

    Args:
        plan: of the only stage.
        temperature: T, above 0.
        soft_weight: 0 or more.
        label_weight: 0 or more; 0 leaves the labels out.

    Raises:
        UsageError: a value out of range, or both weights 0.

    Example:
        >>> (stage,) = soft_targets(FitPlan(epochs=2), temperature=20.0, label_weight=0.0)
        >>> list(stage.objective.named_terms)
        ['kd']
    """
    objective = weighted(CE(weight=label_weight), KD(T=temperature, weight=soft_weight))
    return (Stage("student", objective, plan),)
