"""The options of a recipe's config, and the fields that were changed by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from datadistill.cli.options import Hidden, Options, RecipeArguments, config_of, is_given, take_name
from datadistill.cli.recipes import flag
from datadistill.config.choices import Arguments
from datadistill.errors import suggest
from kd_baselines.config import KdConfig
from kd_baselines.language.config import LANGUAGE_KIND, LanguageConfig
from kd_baselines.ledger.config import LedgerConfig
from kd_baselines.recipes import RECIPES

C = TypeVar("C", KdConfig, LanguageConfig, LedgerConfig)


@dataclass(frozen=True)
class ImageFlags(KdConfig):
    """What to train. All of it changes the numbers; the defaults are the recipe's."""

    recipe: Hidden[str] = "custom"
    arm: Hidden[str] = "own"
    teacher_number: Hidden[int | None] = None
    method_args: RecipeArguments = field(default_factory=dict)
    net_args: RecipeArguments = field(default_factory=dict)
    teacher_args: RecipeArguments = field(default_factory=dict)


@dataclass(frozen=True)
class ImageFlagsWithoutSeed(ImageFlags):
    """What to train, in every arm. All of it changes the numbers; the defaults shown are the
    recipe's own. Arguments reach the arms that have the recipe's method (or net) and do not set
    them themselves."""

    seed: Hidden[int] = 0


@dataclass(frozen=True)
class TextFlags(LanguageConfig):
    """What to train. All of it changes the numbers; the defaults are the recipe's."""

    recipe: Hidden[str] = "custom"
    arm: Hidden[str] = "own"
    net_args: RecipeArguments = field(default_factory=dict)


@dataclass(frozen=True)
class StudyFlags:
    """The options of a command that trains with several seeds; a command adds its own, and its
    config."""

    seeds: tuple[int, ...] = (5,)
    """One number: how many seeds, from 0. Several numbers: which."""
    out: Path | None = None
    """Folder for everything; default: runs/COMMAND/NAME."""
    options: Options = field(default_factory=Options)

    def count_or_seeds(self) -> int | tuple[int, ...]:
        """The number of seeds, or the seeds."""
        return self.seeds[0] if len(self.seeds) == 1 else self.seeds


def find_changes(typed: C, base: C, words: Sequence[str]) -> dict[str, Any]:
    """The fields that were typed, with their values as typed, for configs other than `base` too."""
    config = config_of(typed, base, words)
    found = {}
    for f in fields(base):
        value = getattr(typed, f.name)
        if isinstance(value, Arguments) and is_given(words, flag(f.name)):
            found[f.name] = value
        elif getattr(config, f.name) != getattr(base, f.name) or is_given(words, flag(f.name)):
            found[f.name] = getattr(config, f.name)
    return found


def is_net_of_text(path: str) -> bool:
    """Whether a path is a run folder or a file of a language model."""
    if not Path(path).exists():
        return False
    from datadistill.runs.file_kinds import read_kind

    return read_kind(path) in (LANGUAGE_KIND, "kd-language-net")


def take_recipe(argv: Sequence[str], prog: str) -> tuple[str | None, list[str]]:
    """The recipe's name, which only --help can do without, and the words after it."""
    known = suggest("", RECIPES, "kd-baselines recipes")
    return take_name(argv, f"no recipe was given; type {prog} RECIPE ({known})")
