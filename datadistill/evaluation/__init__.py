"""How good a distilled set is: accuracy over held-out nets."""

from datadistill.evaluation.accuracy import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
