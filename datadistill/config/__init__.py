"""What is decided before a run: frozen dataclasses, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from datadistill.config.choices import Value, refuse_unknown_choices
from datadistill.config.distill import DistillConfig
from datadistill.config.pool import PoolConfig
from datadistill.config.run import HARMLESS, RESUMABLE_CHANGES, RunOptions

__all__ = [
    "HARMLESS",
    "KINDS",
    "RESUMABLE_CHANGES",
    "DistillConfig",
    "PoolConfig",
    "RunOptions",
    "Value",
    "completed",
    "refuse_unknown_choices",
]

KINDS: dict[str, Any] = {"distill": DistillConfig(), "pool": PoolConfig()}
"""Kind of run -> its default config. Whoever makes another kind of run puts a line here."""


def completed(kind: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config with the fields that came later, at their defaults.

    Args:
        kind: of the run: "distill" or "pool"; of any other the config is returned as it is.
        stored: the config of a run folder.

    Example:
        >>> completed("distill", {"ipc": 3})["objective"]
        'classification'
    """
    defaults = asdict(KINDS[kind]) if kind in KINDS else {}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
    return {**plain, **stored}
