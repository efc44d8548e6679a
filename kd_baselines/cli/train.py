"""`kd-baselines train RECIPE`: train a teacher and its student, and test the student.

`kd-baselines train --resume DIR` goes on with a run; the options then start from the run's own config.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from datadistill.cli.options import given, parse, set_threads, value_of, wants_help
from datadistill.cli.printing import Output, size_of
from datadistill.cli.published import published_number
from datadistill.errors import UsageError
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonconfig import build_config
from kd_baselines.cli.configs import Config, Options, config_of, flags_of, recipe_missing
from kd_baselines.config import KdConfig
from kd_baselines.language.config import LANGUAGE_KIND, LanguageConfig
from kd_baselines.recipes import OWN, RECIPES, recipe

if TYPE_CHECKING:
    from kd_baselines.netfile import SavedNet

PROG = "kd-baselines train"
C = TypeVar("C", KdConfig, LanguageConfig)


@dataclass(frozen=True)
class Train:
    """Train a student and, where its method needs one, its teacher; test the student on the test part."""

    arm: str = OWN
    """Which of the recipe's students; kd-baselines recipes RECIPE lists them."""
    teacher: Path | None = None
    """A teacher that is trained: its file, or a run folder with a teacher; default: trained here."""
    out: Path | None = None
    """Run folder to write; default: runs/RECIPE-sSEED, or runs/RECIPE-ARM-sSEED."""
    resume: Path | None = None
    """Run folder to go on with, in place of a recipe."""
    threads: int | None = None
    """CPU threads of torch."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""
    config: Config = field(default_factory=Config)
    options: Options = field(default_factory=Options)


def run(argv: Sequence[str]) -> int:
    """Parse, train, print; of text, `train_language` does."""
    if of_text(argv):
        from kd_baselines.cli import train_language

        return train_language.run(argv)
    args, config, changed = read_arguments(argv)
    out = args.resume or args.out or default_out(config)
    if args.resume is None:
        RunFolder.refuse_occupied(out)
    output = Output(args.json)
    set_threads(args.threads)
    from datadistill.device import resolve
    from datadistill.runs.timing import spent
    from kd_baselines.netfile import SavedNet
    from kd_baselines.training import train

    with output.working(not args.options.quiet):
        if not args.options.quiet:
            on = resolve(config.device).type
            output.say(f"{title(config)}, seed {config.seed}: {config.net} by {config.method} on {on} -> {out}")
        before = spent(out) or 0.0  # a resumed run has sessions behind it
        began = time.monotonic()
        train(
            config if changed else None, teacher=args.teacher, out=out, resume=args.resume is not None,
            options=args.options,
        )  # fmt: skip
        seconds = before + time.monotonic() - began
        saved = SavedNet.load(out)  # from disk: what is told of is what is kept
    tell(
        output, saved, config, out, seconds, bool(args.teacher) or "teacher" in RunFolder.open(out).environment
    )
    return 0


def of_text(argv: Sequence[str]) -> bool:
    """Whether the recipe, or the run to go on with, trains a language model."""
    resumed = value_of(argv, "--resume")
    if resumed is not None and not wants_help(argv):
        return RunFolder.open(Path(resumed)).kind == LANGUAGE_KIND
    return bool(argv) and argv[0] in RECIPES and isinstance(RECIPES[argv[0]].make(), LanguageConfig)


def read_arguments(argv: Sequence[str]) -> tuple[Train, KdConfig, bool]:
    """What was typed, the config it makes, and whether that must be handed on (a resume without changes has
    its config in the folder)."""
    base, words, shown = base_of(argv, "kd", KdConfig)
    args = parse(Train, words, shown, Train(arm=base.arm, config=flags_of(Config, base)))
    config = config_of(args.config, base, words)
    return args, config, args.resume is None or config != base


def base_of(argv: Sequence[str], kind: str, cls: type[C]) -> tuple[C, list[str], str]:
    """Where the options start from: a recipe's config or that of the run to go on with.

    Args:
        argv: as typed.
        kind: of the run.
        cls: of the config.

    Returns:
        The config, the words after the recipe, and how the command is typed, for the help.

    Raises:
        UsageError: no recipe, an unknown one, or a run of another.
    """
    words = list(argv)
    name = words.pop(0) if words and not words[0].startswith("-") else None
    resumed, arm = value_of(words, "--resume"), value_of(words, "--arm")
    if resumed is not None and not wants_help(words):
        stored = RunFolder.open(Path(resumed), kind=kind).config
        base = build_config(cls, stored, str(Path(resumed) / "config.json"))
        if name not in (None, base.recipe) or arm not in (None, base.arm):
            asked = " ".join(filter(None, (name, arm and f"--arm {arm}")))
            raise UsageError(f"{resumed} is a run of {title(base)}, not of {asked}; leave the recipe out")
        if given(words, "--out"):
            raise UsageError("--resume goes on in its own folder; leave --out out")
    elif name is not None:
        made = recipe(name, arm or OWN)
        assert isinstance(made, cls)  # of_text has said which
        base = made
    elif wants_help(words):
        base = cls()
    else:
        raise recipe_missing(f"{PROG} RECIPE, or {PROG} --resume DIR")
    return base, words, f"{PROG} {name}" if name else f"{PROG} {'--resume DIR' if resumed else 'RECIPE'}"


def default_out(config: KdConfig | LanguageConfig) -> Path:
    """Where a run goes unless told.

    >>> default_out(KdConfig(recipe="fitnets-mnist", arm="kd", seed=2)).as_posix()
    'runs/fitnets-mnist-kd-s2'
    """
    arm = "" if config.arm == OWN else f"-{config.arm}"
    return Path("runs") / f"{config.recipe}{arm}-s{config.seed}"


def title(config: KdConfig | LanguageConfig) -> str:
    """A recipe and its arm, for a line."""
    return config.recipe if config.arm == OWN else f"{config.recipe} ({config.arm})"


SAME_NUMBER = ("seed", "teacher_seed", "images_seed", "device", "cache", "noise")
"""Fields that a published number does not depend on: seeds, and how a run is carried out and tested besides."""


def published(config: KdConfig | LanguageConfig, given_teacher: bool = False) -> tuple[str, list[str]]:
    """The published number of a config's arm, or a dash where there is none or the config is another one.

    Args:
        config: as it was run.
        given_teacher: whether the teacher was trained elsewhere.

    Returns:
        The number, and what is not the recipe's, as `field recipe -> run`.

    >>> published(KdConfig(recipe="hinton-missing-digit", arm="x"))
    ('-', [])
    """
    known = RECIPES.get(config.recipe)
    if known is None or config.arm not in (OWN, *known.arms) or known.published_of(config.arm) == "-":
        return "-", []
    number, changed = published_number(
        known.published_of(config.arm), known.config(config.arm), config, SAME_NUMBER
    )
    if given_teacher:
        number, changed = "-", [*changed, "teacher the recipe's -> given"]
    return number, changed


def say_published(output: Output, config: KdConfig | LanguageConfig, given_teacher: bool) -> None:
    """The published number beside a run of its recipe; beside another one a dash, and what is other."""
    number, changed = published(config, given_teacher)
    if number != "-":
        output.say(f"published: {number}")
    elif changed:
        more = f" and {len(changed) - 6} more" if len(changed) > 6 else ""
        output.say(f"published: - (not the recipe as it is: {', '.join(changed[:6])}{more})")


def tell(
    output: Output, saved: SavedNet, config: KdConfig, out: Path, seconds: float, given_teacher: bool
) -> None:
    """What came out, where it is, what to type next."""
    from kd_baselines.cli.results import score_table
    from kd_baselines.evaluation import Scores

    scores = Scores.from_dict(saved.scores or {})
    score_table(output, scores, saved.classes)
    say_published(output, config, given_teacher)
    number, changed = published(config, given_teacher)
    own_teacher = "teacher.safetensors, " if (out / "teacher.safetensors").exists() else ""
    output.say(
        f"trained in {seconds:.1f} s; wrote {out}: student.safetensors ({size_of(saved.bytes)}), {own_teacher}"
        "metrics.jsonl, checkpoints/",
        f"next: kd-baselines evaluate {out} --noise 0.3",
    )
    output.result({
        "run": str(out), "recipe": config.recipe, "arm": config.arm, "run_seed": config.seed,
        "method": config.method, "dataset": saved.dataset, "net": saved.spec.name, "bytes": saved.bytes,
        "fingerprint": saved.fingerprint, "seconds": seconds, "published": number,
        "changed": changed, **scores.as_dict(),
    })  # fmt: skip
