"""A recipe's config and its flags: which one it is, and what was typed over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

import tyro

from datadistill.cli.options import NAMES_AND_VALUES, given
from datadistill.cli.recipes import flag
from datadistill.config import RunOptions, Value
from datadistill.errors import UsageError, nearest
from kd_baselines.config import KdConfig
from kd_baselines.recipes import RECIPES

ARGUMENTS = {"net": "net_args", "teacher_net": "teacher_args", "method": "method_args"}
"""Field -> the field with the arguments of what it names."""


@dataclass(frozen=True)
class Config(KdConfig):
    """What to train. All of it changes the numbers; the defaults are the recipe's."""

    recipe: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = "custom"
    arm: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = "own"
    method_args: Annotated[dict[str, Value], NAMES_AND_VALUES] = field(default_factory=dict)
    net_args: Annotated[dict[str, Value], NAMES_AND_VALUES] = field(default_factory=dict)
    teacher_args: Annotated[dict[str, Value], NAMES_AND_VALUES] = field(default_factory=dict)


@dataclass(frozen=True)
class ConfigOfAllSeeds(Config):
    """What to train, in every arm. All of it changes the numbers; the defaults shown are the recipe's own."""

    seed: Annotated[int, tyro.conf.Fixed, tyro.conf.Suppress] = 0


@dataclass(frozen=True)
class Options(RunOptions):
    """How the run is carried out; none of it changes the numbers."""


def flags_of(cls: type[Config], config: KdConfig) -> Any:
    """A config as the class whose fields are flags."""
    return cls(**vars(config))


def config_of(typed: KdConfig, base: KdConfig, words: Sequence[str]) -> KdConfig:
    """The plain config that flags make of a recipe's.

    The recipe's arguments are those of its own nets and method: they go where another one is typed.
    """
    config = KdConfig(**{f.name: getattr(typed, f.name) for f in fields(KdConfig)})
    for name, arguments in ARGUMENTS.items():
        if getattr(config, name) != getattr(base, name) and not given(words, flag(arguments)):
            config = config.with_changes(**{arguments: {}})
    return config


def changes_of(typed: KdConfig, base: KdConfig, words: Sequence[str]) -> dict[str, Any]:
    """The fields that were typed, with their values: for configs other than `base` too."""
    config = config_of(typed, base, words)
    return {
        f.name: getattr(config, f.name)
        for f in fields(KdConfig)
        if getattr(config, f.name) != getattr(base, f.name) or given(words, flag(f.name))
    }


def recipe_missing(how: str) -> UsageError:
    """For a command without a recipe."""
    return UsageError(f"no recipe was given; type {how} ({nearest('', RECIPES)})")
