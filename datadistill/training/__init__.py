"""Learning a distilled set."""

from datadistill.training.run import distill

__all__ = ["distill"]
