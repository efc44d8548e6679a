"""Transfer to other classes with two heads: Li and Hoiem, Learning without Forgetting, 2016,
https://arxiv.org/abs/1606.09282; Srinivas and Fleuret, Knowledge Transfer with Jacobian Matching, 2018,
https://arxiv.org/abs/1803.00443, section 5.
"""

from __future__ import annotations

from typing import Literal

from datadistill.errors import UsageError
from datadistill.training.fit_plan import FitPlan
from kd_baselines.heads import lwf_objective
from kd_baselines.methods.combining import layer_pairs
from kd_baselines.stages import Stage

__all__ = ["lwf"]


def lwf(
    plan: FitPlan,
    *,
    activation_weight: float = 1.0,
    jacobian_weight: float = 0.0,
    attention_weight: float = 0.0,
    attention_jacobian_weight: float = 0.0,
    layers: str = "",
    output: Literal["full", "top", "label", "projected"] = "top",
) -> tuple[Stage, ...]:
    """CE on the target head, and on the same images any of four terms that follow the teacher: its logits on
    the source head, their Jacobian, attention maps, the Jacobian of these.

    Args:
        plan: of the only stage.
        activation_weight: 0 or more, here and below; 0 leaves a term out.
        jacobian_weight: of the source head's Jacobian.
        attention_weight: of the attention maps.
        attention_jacobian_weight: of the Jacobian of the attention maps.
        layers: pairs student:teacher with commas between, for the last two; the student's names are those that
            the net has without a second head.
        output: which rows of the Jacobian; the labels are no source classes, so "label" is of no use here.

    Raises:
        UsageError: a weight below 0, output "label", or an attention term without layers.

    Example:
        >>> (stage,) = lwf(FitPlan(epochs=5), attention_weight=10.0, layers="convs.3:features.3")
        >>> sorted(stage.objective.needs.student_features)
        ['source', 'trunk.convs.3']
    """
    if jacobian_weight and output == "label":
        raise UsageError(
            "output is 'label', but the labels are no classes of the teacher; give output 'top', 'full' or "
            "'projected'"
        )
    wanted = attention_weight or attention_jacobian_weight
    objective = lwf_objective(
        activations=activation_weight,
        jacobian=jacobian_weight,
        attention=attention_weight,
        attention_jacobian=attention_jacobian_weight,
        layers={f"trunk.{mine}": theirs for mine, theirs in layer_pairs(layers).items()} if wanted else None,
        output=output,
    )
    return (Stage("student", objective, plan),)
