"""Born-Again Networks: Furlanello et al., Born-Again Neural Networks, ICML 2018, https://arxiv.org/abs/1805.04770.

One generation each: a student from a fresh draw, taught by the net before it.
"""

from __future__ import annotations

from datadistill.training.fit_plan import FitPlan
from kd_baselines.losses.born_again import CWTM, BornAgain
from kd_baselines.losses.cross_entropy import CE
from kd_baselines.losses.dark_knowledge import DKPP
from kd_baselines.methods.combining import weighted
from kd_baselines.stages import Stage

__all__ = ["born_again", "cwtm", "dkpp"]


def born_again(plan: FitPlan, *, label_weight: float = 0.0) -> tuple[Stage, ...]:
    """H(teacher, student) at T = 1, + label_weight * CE.

    Args:
        plan: of the only stage; the paper's is the teacher's own.
        label_weight: 0 or more; 0 is BAN, 1 is BAN+L (the paper does not tell the weight).

    Raises:
        UsageError: a weight below 0.

    Example:
        >>> (stage,) = born_again(FitPlan(epochs=2), label_weight=1.0)
        >>> list(stage.objective.named_terms)
        ['ce', 'bornagain']
    """
    return (Stage("student", weighted(CE(weight=label_weight), BornAgain()), plan),)


def cwtm(plan: FitPlan) -> tuple[Stage, ...]:
    """CE with the labels, each sample weighted by the teacher's confidence in its batch.

    Args:
        plan: of the only stage.

    Example:
        >>> (stage,) = cwtm(FitPlan(epochs=2))
        >>> list(stage.objective.named_terms)
        ['cwtm']
    """
    return (Stage("student", weighted(CWTM()), plan),)


def dkpp(plan: FitPlan, *, redraw: bool = True, label_weight: float = 0.0) -> tuple[Stage, ...]:
    """H(teacher with all but its largest probability permuted, student) + label_weight * CE.

    Args:
        plan: of the only stage.
        redraw: new permutations in each step; False: one for each image, kept (the paper does not tell which).
        label_weight: 0 or more.

    Raises:
        UsageError: a weight below 0.

    Example:
        >>> (stage,) = dkpp(FitPlan(epochs=2), redraw=False)
        >>> list(stage.objective.named_terms)
        ['dkpp']
    """
    return (Stage("student", weighted(CE(weight=label_weight), DKPP(redraw=redraw)), plan),)
