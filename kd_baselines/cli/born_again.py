"""`kd-baselines born-again RECIPE`: generations of nets, each taught by the one before, and their ensembles."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from datadistill.cli.options import parse, set_threads, wants_help
from datadistill.cli.printing import Output
from kd_baselines.cli.compare import tell
from kd_baselines.cli.configs import ConfigOfAllSeeds, Options, changes_of, flags_of, recipe_missing, seeds_of
from kd_baselines.cli.train_language import TextFlags
from kd_baselines.config import KdConfig
from kd_baselines.recipes import recipe

PROG = "kd-baselines born-again"


@dataclass(frozen=True)
class BornAgain:
    """Train a teacher and, from fresh draws, generations of nets each taught by the one before, for every seed.

    Finished nets are read, stopped ones go on: typed again after a stop it goes on, and with more generations
    or seeds it adds to what is there. Writes table.md, table.csv and generations.png: every generation and
    ensemble (BANE) against the teacher, paired by seed with a 95% interval.
    """

    generations: int = 3
    """Generations after the teacher."""
    seeds: tuple[int, ...] = (5,)
    """One number: how many seeds, from 0. Several numbers: which."""
    arms: tuple[str, ...] = ()
    """Only these; kd-baselines recipes RECIPE lists them, "own" is the recipe itself."""
    average: Literal["arithmetic", "geometric"] = "arithmetic"
    """Mean of an ensemble of generations: of the probabilities, or of the logits."""
    out: Path | None = None
    """Folder for everything; default: runs/born-again/RECIPE."""
    threads: int | None = None
    """CPU threads of torch."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class ImageConfig(ConfigOfAllSeeds):
    """What to train, in every arm. All of it changes the numbers; the defaults shown are the recipe's own."""

    average: Annotated[Any, tyro.conf.Fixed, tyro.conf.Suppress] = "arithmetic"  # --average is the command's
    teachers: Annotated[int, tyro.conf.Fixed, tyro.conf.Suppress] = 1
    weights: Annotated[str | None, tyro.conf.Fixed, tyro.conf.Suppress] = None
    teacher_weights: Annotated[str | None, tyro.conf.Fixed, tyro.conf.Suppress] = None


@dataclass(frozen=True)
class TextConfig(TextFlags):
    """What to train, in every arm. All of it changes the numbers; the defaults shown are the recipe's own."""

    seed: Annotated[int, tyro.conf.Fixed, tyro.conf.Suppress] = 0


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
    words = list(argv)
    name = words.pop(0) if words and not words[0].startswith("-") else None
    if name is None and not wants_help(words):
        raise recipe_missing(f"{PROG} RECIPE")
    args, changes = parse_arguments(name, words)
    assert name is not None  # --help has left
    output = Output(args.json)
    set_threads(args.threads)
    from kd_baselines.studies.generations import born_again_generations

    out = args.out or Path("runs") / "born-again" / name
    began = time.monotonic()
    with output.working(not args.options.quiet):
        found = born_again_generations(
            name, generations=args.generations, seeds=seeds_of(args.seeds),
            arms=args.arms or None, average=args.average, out=out, options=args.options, changes=changes,
            say=(lambda line: None) if args.options.quiet else output.say, again=f"{PROG} {shlex.join(argv)}",
        )  # fmt: skip
    seconds = time.monotonic() - began
    tell(output, found)
    output.say(f"wrote {out}: {', '.join(path.name for path in found.files)} ({seconds:.0f} s)")
    output.say(f"next: the same with --generations {args.generations + 1} adds a generation to what is there")
    output.result({
        "recipe": found.recipe, "base": found.base, "seeds": list(found.seeds), "generations": args.generations,
        "average": args.average, "run": str(out), "seconds": seconds, "changes": dict(found.changes),
        "rows": list(found.records()), "files": [str(path) for path in found.files],
    })  # fmt: skip
    return 0


def parse_arguments(name: str | None, words: Sequence[str]) -> tuple[BornAgain, dict[str, Any]]:
    """What was typed for a recipe of images or of text, and the fields of its config that were changed."""
    base: Any = recipe(name) if name is not None else KdConfig()
    shown = f"{PROG} {name or 'RECIPE'}"
    if isinstance(base, KdConfig):
        images = parse(OfImages, words, shown, OfImages(config=flags_of(ImageConfig, base)))
        changes = changes_of(images.config, base, words)
        changes.pop("average", None)
        return images, changes
    text = parse(OfText, words, shown, OfText(config=TextConfig(**vars(base))))
    return text, changes_of(text.config, base, words)
