"""Training without a teacher."""

from __future__ import annotations

from datadistill.training.fit_plan import FitPlan
from kd_baselines.losses.cross_entropy import CE
from kd_baselines.stages import Stage

__all__ = ["plain"]


def plain(plan: FitPlan) -> tuple[Stage, ...]:
    """Cross-entropy with the labels.

    Example:
        >>> [stage.name for stage in plain(FitPlan(epochs=2))]
        ['student']
    """
    return (Stage("student", CE(), plan),)
