"""A recipe's config and its flags: which one it is, and what was typed over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, TypeVar

import tyro

from datadistill.cli.options import NAMES_AND_VALUES, given, with_arguments
from datadistill.cli.recipes import flag
from datadistill.config import RunOptions, Value
from datadistill.config.choices import Arguments
from datadistill.errors import UsageError, nearest
from kd_baselines.config import KdConfig
from kd_baselines.language.config import LanguageConfig
from kd_baselines.ledger.config import LedgerConfig
from kd_baselines.recipes import RECIPES

C = TypeVar("C", KdConfig, LanguageConfig, LedgerConfig)


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


def config_of(typed: C, base: C, words: Sequence[str]) -> C:
    """The plain config that flags make of a recipe's or a ledger's; see `with_arguments`."""
    values = {f.name: getattr(typed, f.name) for f in fields(base)}
    if values.get("data") is not None and values["dataset"] != "folder":
        if given(words, "--dataset"):
            raise UsageError(
                f"both --dataset {values['dataset']} and --data {values['data']} were given; drop one"
            )
        values["dataset"] = "folder"
    return with_arguments(type(base)(**values), base, words)


def changes_of(typed: C, base: C, words: Sequence[str]) -> dict[str, Any]:
    """The fields that were typed, with their values: for configs other than `base` too.

    Arguments are as typed, to be put over those of each config.
    """
    config = config_of(typed, base, words)
    found = {}
    for f in fields(base):
        value = getattr(typed, f.name)
        if isinstance(value, Arguments) and given(words, flag(f.name)):
            found[f.name] = value
        elif getattr(config, f.name) != getattr(base, f.name) or given(words, flag(f.name)):
            found[f.name] = getattr(config, f.name)
    return found


def seeds_of(typed: tuple[int, ...]) -> int | tuple[int, ...]:
    """--seeds: one number is how many, several are which.

    >>> seeds_of((3,)), seeds_of((4, 7))
    (3, (4, 7))
    """
    return typed[0] if len(typed) == 1 else typed


def recipe_missing(how: str) -> UsageError:
    """For a command without a recipe."""
    return UsageError(f"no recipe was given; type {how} ({nearest('', RECIPES, 'kd-baselines recipes')})")
