"""Attention transfer: Zagoruyko and Komodakis, Paying More Attention to Attention, 2017,
https://arxiv.org/abs/1612.03928.
"""

from __future__ import annotations

from typing import Literal

from datadistill.training.fit_plan import FitPlan
from kd_baselines.losses.attention import AttentionTransfer
from kd_baselines.losses.cross_entropy import CE
from kd_baselines.losses.soft_targets import KD
from kd_baselines.methods.combining import layer_pairs, weighted
from kd_baselines.stages import Stage

__all__ = ["attention"]


def attention(
    plan: FitPlan,
    *,
    layers: str = "",
    form: Literal["at_paper", "at_code", "jm"] = "at_code",
    beta: float = 1e3,
    p: float = 2,
    pool: Literal["map", "features"] = "map",
    label_weight: float = 1.0,
    soft_weight: float = 0.0,
    temperature: float = 4.0,
) -> tuple[Stage, ...]:
    """label_weight * CE + soft_weight * T^2 KL + attention transfer, weighed by beta.

    Args:
        plan: of the only stage.
        layers: pairs student:teacher with commas between, such as "group1:group1,group2:group2".
        form: see `AttentionTransfer`. The weight is beta / 2 for the paper's form, as its equation has it, and
            beta for the two others.
        beta: 0 or more. The default is that of the authors' code, for its form; on H x W maps the other forms
            want about 1 / (H W) of it.
        p: exponent of the map, 1 or more.
        pool: what is pooled where the two maps differ in size.
        label_weight: 0 or more.
        soft_weight: 0 or more; above 0 for attention and soft targets together.
        temperature: of the soft targets, above 0.

    Raises:
        UsageError: layers that are no pairs, a value out of range, or every weight 0.

    Example:
        >>> (stage,) = attention(FitPlan(epochs=5), layers="group3:group3", form="at_paper", beta=2.0)
        >>> [term.weight for term in stage.objective.terms]
        [1.0, 1.0]

    References:
        Eq. 2 of the paper.
    """
    weight = beta / 2 if form == "at_paper" else beta
    objective = weighted(
        CE(weight=label_weight),
        KD(T=temperature, weight=soft_weight),
        AttentionTransfer(layer_pairs(layers), form=form, p=p, pool=pool, weight=weight),
    )
    return (Stage("student", objective, plan),)
