"""`kd-baselines train RECIPE` for a recipe of text: train a language model, and test it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from datadistill.cli.options import NAMES_AND_VALUES, parse, set_threads
from datadistill.cli.printing import Output, size_of
from datadistill.config import Value
from datadistill.runs.folder import RunFolder
from kd_baselines.cli.configs import Options, config_of
from kd_baselines.cli.train import base_of, default_out, published, say_published, title
from kd_baselines.language.config import LANGUAGE_KIND, LanguageConfig
from kd_baselines.recipes import OWN

if TYPE_CHECKING:
    from kd_baselines.language.netfile import SavedLanguageModel


@dataclass(frozen=True)
class TextFlags(LanguageConfig):
    """What to train. All of it changes the numbers; the defaults are the recipe's."""

    recipe: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = "custom"
    arm: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = "own"
    net_args: Annotated[dict[str, Value], NAMES_AND_VALUES] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainLanguage:
    """Train a language model, on words alone or on words and a teacher; test it on the test text."""

    arm: str = OWN
    """Which of the recipe's nets; kd-baselines recipes RECIPE lists them."""
    teacher: Path | None = None
    """A language model that is trained: its file or run folder. The method born-again wants one."""
    out: Path | None = None
    """Run folder to write; default: runs/RECIPE-sSEED, or runs/RECIPE-ARM-sSEED."""
    resume: Path | None = None
    """Run folder to go on with, in place of a recipe; pass its teacher again."""
    threads: int | None = None
    """CPU threads of torch."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""
    config: TextFlags = field(default_factory=TextFlags)
    options: Options = field(default_factory=Options)


def run(argv: Sequence[str]) -> int:
    """Parse, train, print."""
    args, config, changed = read_arguments(argv)
    out = args.resume or args.out or default_out(config)
    if args.resume is None:
        RunFolder.refuse_occupied(out)
    output = Output(args.json)
    set_threads(args.threads)
    from datadistill.device import resolve
    from datadistill.runs.timing import spent
    from kd_baselines.language.netfile import SavedLanguageModel
    from kd_baselines.language.training import train_language

    with output.working(not args.options.quiet):
        if not args.options.quiet:
            on = resolve(config.device).type
            output.say(f"{title(config)}, seed {config.seed}: {config.net}, {config.method}, on {on} -> {out}")
        before = spent(out) or 0.0  # a resumed run has sessions behind it
        began = time.monotonic()
        train_language(
            config if changed else None, teacher=args.teacher, out=out, resume=args.resume is not None,
            options=args.options,
        )  # fmt: skip
        seconds = before + time.monotonic() - began
        saved = SavedLanguageModel.load(out)  # from disk: what is told of is what is kept
    tell(output, saved, config, out, seconds, False)  # the method asks for a teacher from elsewhere
    return 0


def read_arguments(argv: Sequence[str]) -> tuple[TrainLanguage, LanguageConfig, bool]:
    """What was typed, the config it makes, and whether that must be handed on."""
    base, words, shown = base_of(argv, LANGUAGE_KIND, LanguageConfig)
    args = parse(TrainLanguage, words, shown, TrainLanguage(arm=base.arm, config=TextFlags(**vars(base))))
    config = config_of(args.config, base, words)
    return args, config, args.resume is None or config != base


def perplexities(output: Output, found: dict[str, float]) -> None:
    """A table: text -> perplexity."""
    output.table(("text", "perplexity"), [(name, f"{v:.2f}") for name, v in found.items()], right=(1,))


def tell(
    output: Output, saved: SavedLanguageModel, config: LanguageConfig, out: Path, seconds: float,
    given_teacher: bool,
) -> None:  # fmt: skip
    """What came out, where it is, what to type next."""
    scores = saved.scores or {}
    test, validation = scores["perplexity"], scores["validation perplexity"]
    perplexities(output, {"validation": validation, "test": test})
    say_published(output, config, given_teacher)
    number, changed = published(config, given_teacher)
    output.say(
        f"trained in {seconds:.1f} s; wrote {out}: student.safetensors ({size_of(saved.bytes)}), "
        "metrics.jsonl, checkpoints/",
        f"next: kd-baselines evaluate {out}",
    )
    output.result({
        "run": str(out), "recipe": config.recipe, "arm": config.arm, "run_seed": config.seed,
        "method": config.method, "dataset": saved.dataset, "net": saved.name, "words": len(saved.words),
        "bytes": saved.bytes, "fingerprint": saved.fingerprint, "seconds": seconds,
        "published": number, "changed": changed, "perplexity": test, "validation_perplexity": validation,
    })  # fmt: skip
