"""Configs: the choices made before a run, as frozen dataclasses without torch."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from datadistill.config.choices import Value, refuse_unknown_choices
from datadistill.config.distill import DistillConfig
from datadistill.config.pool import PoolConfig
from datadistill.config.run_options import HARMLESS, RESUMABLE_CHANGES, RunOptions

__all__ = [
    "HARMLESS",
    "KINDS",
    "RESUMABLE_CHANGES",
    "DistillConfig",
    "PoolConfig",
    "RunOptions",
    "Value",
    "complete_config",
    "config_class",
    "refuse_unknown_choices",
]

KINDS = {
    "distill": "datadistill.config.distill:DistillConfig",
    "pool": "datadistill.config.pool:PoolConfig",
    "kd": "kd_baselines.config:KdConfig",
    "kd-language": "kd_baselines.language.config:LanguageConfig",
}
"""Kind of run -> the class of its config, imported when it is needed."""


def config_class(kind: str) -> type[Any]:
    """The class of a kind's config."""
    found: type[Any] = pkgutil.resolve_name(KINDS[kind])
    return found


def complete_config(kind: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The stored config of a run folder with the fields that came later, at their defaults; one of
    a kind that is not in `KINDS` is returned as it is.

    >>> complete_config("distill", {"ipc": 3})["objective"]
    'classification'
    """
    defaults = asdict(config_class(kind)()) if kind in KINDS else {}
    plain = {
        name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()
    }
    return {**plain, **stored}
