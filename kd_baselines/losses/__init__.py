"""The losses, one paper a file: functions of tensors, and the terms that objectives are made of.

    soft_target_loss(student_logits, teacher_logits, temperature=4.0)   a number
    CE() + KD(T=4.0, weight=0.9)                                        an objective for `Distiller`

The function has the formula, the arguments and the source; its term takes the same arguments, reads
what they need of the nets, and adds a `weight` and a `name` (see `Term`). What does not fit raises
a UsageError that says what was found and what to pass. To add a loss, write its file, and a line
here that names it.
"""

from __future__ import annotations

from kd_baselines.losses.attention import AttentionTransfer, attention_map, attention_transfer_loss
from kd_baselines.losses.attention_jacobian import AttentionJacobian, attention_jacobian_loss
from kd_baselines.losses.born_again import (
    CWTM,
    BornAgain,
    GradientParts,
    born_again_loss,
    cwtm_loss,
    cwtm_weights,
    gradient_parts,
)
from kd_baselines.losses.contrastive import CRD, crd_loss
from kd_baselines.losses.correlation import DIST, dist_loss
from kd_baselines.losses.cross_entropy import CE
from kd_baselines.losses.dark_knowledge import DKPP, dkpp_targets
from kd_baselines.losses.decoupled import DKD, dkd_loss
from kd_baselines.losses.gradient_attention import GradientAttention, gradient_attention_loss
from kd_baselines.losses.gradient_log import GradientLog, log_gradient
from kd_baselines.losses.hints import Hint, Regressor, hint_loss
from kd_baselines.losses.input_noise import InputNoise, input_noise_loss
from kd_baselines.losses.jacobian import JacobianMatching, jacobian_matching_loss
from kd_baselines.losses.jacobian_norm import JacobianNorm, jacobian_norm_penalty
from kd_baselines.losses.logit_regression import LogitRegression, logit_regression_loss
from kd_baselines.losses.logit_standardization import standardize_logits
from kd_baselines.losses.mutual import DeepMutual, mutual_loss
from kd_baselines.losses.noisy_logits import NoisyLogits, noisy_logit_loss
from kd_baselines.losses.relational import (
    RKDAngle,
    RKDDistance,
    rkd_angle_loss,
    rkd_distance_loss,
)
from kd_baselines.losses.review import Fusion, ReviewKD, hierarchical_context_loss
from kd_baselines.losses.schedules import Linear
from kd_baselines.losses.similarity import SimilarityPreserving, similarity_loss
from kd_baselines.losses.soft_targets import KD, FitNetsKD, fitnets_kd_loss, soft_target_loss
from kd_baselines.losses.term import Needs, Objective, Seen, Term

__all__ = [
    "CE",
    "CRD",
    "CWTM",
    "DIST",
    "DKD",
    "DKPP",
    "KD",
    "AttentionJacobian",
    "AttentionTransfer",
    "BornAgain",
    "DeepMutual",
    "FitNetsKD",
    "Fusion",
    "GradientAttention",
    "GradientLog",
    "GradientParts",
    "Hint",
    "InputNoise",
    "JacobianMatching",
    "JacobianNorm",
    "Linear",
    "LogitRegression",
    "Needs",
    "NoisyLogits",
    "Objective",
    "RKDAngle",
    "RKDDistance",
    "Regressor",
    "ReviewKD",
    "Seen",
    "SimilarityPreserving",
    "Term",
    "attention_jacobian_loss",
    "attention_map",
    "attention_transfer_loss",
    "born_again_loss",
    "crd_loss",
    "cwtm_loss",
    "cwtm_weights",
    "dist_loss",
    "dkd_loss",
    "dkpp_targets",
    "fitnets_kd_loss",
    "gradient_attention_loss",
    "gradient_parts",
    "hierarchical_context_loss",
    "hint_loss",
    "input_noise_loss",
    "jacobian_matching_loss",
    "jacobian_norm_penalty",
    "log_gradient",
    "logit_regression_loss",
    "mutual_loss",
    "noisy_logit_loss",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "similarity_loss",
    "soft_target_loss",
    "standardize_logits",
]
