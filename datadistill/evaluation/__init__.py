"""Evaluation of a distilled set: accuracy over held-out nets, beside the baselines of the
literature."""

from datadistill.evaluation.attack import AttackScores, attack_scores
from datadistill.evaluation.compare import Comparison, compare
from datadistill.evaluation.held_out import Evaluation, evaluate

__all__ = ["AttackScores", "Comparison", "Evaluation", "attack_scores", "compare", "evaluate"]
