"""What is decided before a run: frozen dataclasses, no torch."""

from datadistill.config.choices import Value, refuse_unknown_choices
from datadistill.config.distill import DistillConfig
from datadistill.config.pool import PoolConfig
from datadistill.config.run import HARMLESS, RESUMABLE_CHANGES, RunOptions

__all__ = [
    "HARMLESS",
    "RESUMABLE_CHANGES",
    "DistillConfig",
    "PoolConfig",
    "RunOptions",
    "Value",
    "refuse_unknown_choices",
]
