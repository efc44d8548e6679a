"""The methods of after 2018 that papers compare with; see `kd_baselines.methods.definitions`.

Their default weights and temperatures are those of the papers, or of the code of their authors or
of later benchmarks, on CIFAR; those of gradient-attention are ours.
"""

from __future__ import annotations

from datadistill.errors import UsageError
from datadistill.training.fit_plan import FitPlan
from kd_baselines.losses import (
    CE,
    CRD,
    DIST,
    DKD,
    KD,
    DeepMutual,
    GradientAttention,
    Linear,
    ReviewKD,
    RKDAngle,
    RKDDistance,
    SimilarityPreserving,
)
from kd_baselines.losses.schedules import Weight
from kd_baselines.methods.combining import layer_pairs
from kd_baselines.methods.definitions import Stages, one_stage


def dkd(
    plan: FitPlan,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    label_weight: float = 1.0,
    warmup_epochs: int = 20,
    z_score: bool = False,
) -> Stages:
    """label_weight * CE + w * DKD, where w grows by equal steps to 1 in epoch number
    `warmup_epochs`.

    alpha, beta     weights of the true class against all others, and of the others among
                    themselves; the authors' code has beta from 2 to 8, by the pair of nets
    warmup_epochs   20 of the paper's 240; 0: w is 1
    z_score         whether logits are standardized; see `standardize_logits`
    """
    weight = _warm_up(1.0 if alpha or beta else 0.0, warmup_epochs)
    term = DKD(alpha, beta, temperature, weight, z_score=z_score)
    return one_stage(plan, CE(weight=label_weight), term)


def dist(
    plan: FitPlan,
    *,
    beta: float = 2.0,
    gamma: float = 2.0,
    temperature: float = 4.0,
    label_weight: float = 1.0,
) -> Stages:
    """label_weight * CE + DIST. The authors' temperature on ImageNet is 1.

    beta    weight of the correlation over the classes of a sample
    gamma   weight of the correlation over the samples of a batch, class by class
    """
    term = DIST(beta, gamma, temperature, weight=1.0 if beta or gamma else 0.0)
    return one_stage(plan, CE(weight=label_weight), term)


def logit_standardization(
    plan: FitPlan, *, temperature: float = 2.0, soft_weight: float = 9.0, label_weight: float = 0.1
) -> Stages:
    """label_weight * CE + soft_weight * KD of standardized logits; see `standardize_logits`."""
    term = KD(temperature, soft_weight, z_score=True)
    return one_stage(plan, CE(weight=label_weight), term)


def rkd(
    plan: FitPlan,
    *,
    layers: str = "",
    distance_weight: float = 25.0,
    angle_weight: float = 50.0,
    label_weight: float = 1.0,
) -> Stages:
    """label_weight * CE + distance_weight * RKDDistance + angle_weight * RKDAngle.

    layers   pairs student:teacher with commas between; the papers take the input of the last layer,
             such as "fc:in=fc:in"

    The weights are those of benchmarks on CIFAR-100. Small nets on few images may want 1 and 2, the
    proportion of the authors' code.
    """
    pairs = layer_pairs(layers)
    distance, angle = RKDDistance(pairs, distance_weight), RKDAngle(pairs, angle_weight)
    return one_stage(plan, CE(weight=label_weight), distance, angle)


def similarity_preserving(
    plan: FitPlan, *, layers: str = "", weight: float = 3000.0, label_weight: float = 1.0
) -> Stages:
    """label_weight * CE + weight * SimilarityPreserving.

    layers   pairs student:teacher with commas between, such as the last maps of both nets
    """
    term = SimilarityPreserving(layer_pairs(layers), weight)
    return one_stage(plan, CE(weight=label_weight), term)


def crd(
    plan: FitPlan,
    *,
    layers: str = "",
    negatives: int = 16384,
    temperature: float = 0.1,
    momentum: float = 0.5,
    dimension: int = 128,
    weight: float = 0.8,
    label_weight: float = 1.0,
    soft_weight: float = 0.0,
) -> Stages:
    """label_weight * CE + soft_weight * KD at temperature 4 + weight * CRD.

    layers   one pair student:teacher; the paper takes the input of the last layer, such as
             "fc:in=fc:in"
    negatives, temperature, momentum, dimension   see `CRD`
    soft_weight   1 in the paper's CRD + KD
    """
    term = CRD(layer_pairs(layers), negatives, temperature, momentum, dimension, weight)
    return one_stage(plan, CE(weight=label_weight), KD(4.0, soft_weight), term)


def review(
    plan: FitPlan,
    *,
    layers: str = "",
    weight: float = 5.0,
    label_weight: float = 1.0,
    warmup_epochs: int = 20,
) -> Stages:
    """label_weight * CE + w * ReviewKD, where w grows by equal steps to `weight` in epoch number
    `warmup_epochs`.

    layers          pairs student:teacher with commas between, from shallow to deep
    weight          the authors' code has 0.6 to 8, by the pair of nets
    warmup_epochs   20 of the paper's 240; 0: w is the weight
    """
    term = ReviewKD(layer_pairs(layers), weight=_warm_up(weight, warmup_epochs))
    return one_stage(plan, CE(weight=label_weight), term)


def mutual(
    plan: FitPlan,
    *,
    peers: int = 1,
    init: str = "default",
    weight: float = 1.0,
    label_weight: float = 1.0,
) -> Stages:
    """label_weight * CE + weight * DeepMutual: nets like the student are trained with it and teach
    each other; there is no teacher.

    peers   nets beside the student, thrown away at the end
    init    distribution of their first weights
    """
    return one_stage(plan, CE(weight=label_weight), DeepMutual(peers, init, weight))


def gradient_attention(plan: FitPlan, *, beta: float = 1.0, label_weight: float = 1.0) -> Stages:
    """label_weight * CE + beta / 2 * GradientAttention."""
    return one_stage(plan, CE(weight=label_weight), GradientAttention(beta / 2))


def _warm_up(weight: float, epochs: int) -> Weight:
    """From weight / epochs in the first epoch to the weight in the last of so many, by equal
    steps."""
    if epochs < 0:
        raise UsageError(f"warmup_epochs is {epochs}; give a number of epochs, 0 or more")
    return Linear(weight / epochs, weight, epochs) if epochs else weight
