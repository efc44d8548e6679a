"""`kd-baselines born-again RECIPE`: generations of nets, each taught by the one before, and their
ensembles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from datadistill.cli.options import Hidden, as_flags, open_output, parse
from datadistill.cli.study_command import carry_out
from kd_baselines.cli.compare import say_comparison
from kd_baselines.cli.configs import (
    ImageFlagsWithoutSeed,
    StudyFlags,
    TextFlags,
    find_changes,
    take_recipe,
)
from kd_baselines.config import KdConfig
from kd_baselines.recipes import recipe

PROG = "kd-baselines born-again"


@dataclass(frozen=True)
class BornAgain(StudyFlags):
    """Train a teacher and, from fresh draws, generations of nets each taught by the one before, for
    every seed.

    Finished nets are loaded, interrupted ones are resumed: typed again it continues, and with more
    generations or seeds it adds to what is there. Writes table.md, table.csv and generations.png:
    every generation and ensemble (BANE) against the teacher, paired by seed with a 95% interval.
    """

    generations: int = 3
    """Generations after the teacher."""
    arms: tuple[str, ...] = ()
    """Only these; kd-baselines recipes RECIPE lists them, "own" is the recipe itself."""
    average: Literal["arithmetic", "geometric"] = "arithmetic"
    """Mean of an ensemble of generations: of the probabilities, or of the logits."""
    config: Any = None


@dataclass(frozen=True)
class ImageConfig(ImageFlagsWithoutSeed):
    __doc__ = ImageFlagsWithoutSeed.__doc__

    average: Hidden[Any] = "arithmetic"  # --average is the command's
    teachers: Hidden[int] = 1
    weights: Hidden[str | None] = None
    teacher_weights: Hidden[str | None] = None


@dataclass(frozen=True)
class TextConfig(TextFlags):
    """What to train, in every arm. All of it changes the numbers; the defaults shown are the
    recipe's own."""

    seed: Hidden[int] = 0


@dataclass(frozen=True)
class OfImages(BornAgain):
    __doc__ = BornAgain.__doc__
    config: ImageConfig = field(default_factory=ImageConfig)


@dataclass(frozen=True)
class OfText(BornAgain):
    __doc__ = BornAgain.__doc__
    config: TextConfig = field(default_factory=TextConfig)


def run(argv: Sequence[str]) -> int:
    """Parse, train, print."""
    name, words = take_recipe(argv, PROG)
    args, changes = parse_arguments(name, words)
    assert name is not None  # --help has left
    output = open_output(args.options)
    from kd_baselines.studies.generations import born_again_generations

    out = args.out or Path("runs") / "born-again" / name
    study = partial(
        born_again_generations,
        name,
        generations=args.generations,
        seeds=args.count_or_seeds(),
        arms=args.arms or None,
        average=args.average,
        changes=changes,
    )
    found, seconds = carry_out(study, output, args.options, out, [*PROG.split(), *argv])
    result = say_comparison(output, found, out, seconds)
    output.say(
        f"next: the same with --generations {args.generations + 1} adds a generation "
        "to what is there"
    )
    output.result({**result, "generations": args.generations, "average": args.average})
    return 0


def parse_arguments(name: str | None, words: Sequence[str]) -> tuple[BornAgain, dict[str, Any]]:
    """The options for a recipe of images or of text, and the fields of its config that were
    changed."""
    base: Any = recipe(name) if name is not None else KdConfig()
    shown = f"{PROG} {name or 'RECIPE'}"
    flags: type[BornAgain] = OfImages if isinstance(base, KdConfig) else OfText
    args = parse(flags, words, shown, flags(config=as_flags(type(flags().config), base)))
    changes = find_changes(args.config, base, words)
    changes.pop("average", None)
    return args, changes
