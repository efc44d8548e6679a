"""`datadistill distill RECIPE`: learn a distilled set, measure it, draw it.

`datadistill distill --resume DIR` goes on with a run; the options then start from the run's own config.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from datadistill.cli.options import (
    NAMES_AND_VALUES,
    given,
    parse,
    set_threads,
    value_of,
    wants_help,
    with_arguments,
)
from datadistill.cli.printing import Output, shape_of
from datadistill.cli.published import published_number
from datadistill.config import DistillConfig, RunOptions, Value
from datadistill.config.values import check_range
from datadistill.errors import DatadistillError, UsageError, nearest
from datadistill.recipes import RECIPES, recipe
from datadistill.recipes.own_images import PLACEHOLDER
from datadistill.recipes.poisoning import PURPOSE
from datadistill.runs.folder import RunFolder
from datadistill.runs.inside import refuse_inside
from datadistill.runs.jsonconfig import build_config

if TYPE_CHECKING:
    from datadistill.distilled import DistilledDataset

PROG = "datadistill distill"


@dataclass(frozen=True)
class Config(DistillConfig):
    """What to learn. All of it changes the numbers; the defaults are the recipe's."""

    recipe: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = "custom"
    net_args: Annotated[dict[str, Value], NAMES_AND_VALUES] = field(default_factory=dict)
    update_args: Annotated[dict[str, Value], NAMES_AND_VALUES] = field(default_factory=dict)
    decoder_args: Annotated[dict[str, Value], NAMES_AND_VALUES] = field(default_factory=dict)
    method_args: Annotated[dict[str, Value], NAMES_AND_VALUES] = field(default_factory=dict)


@dataclass(frozen=True)
class Options(RunOptions):
    """How the run is carried out; none of it changes the numbers."""


@dataclass(frozen=True)
class Distill:
    """Learn a distilled set, measure it on the test split, and draw it."""

    out: Path | None = None
    """Run folder to write; default: runs/RECIPE-sSEED."""
    resume: Path | None = None
    """Run folder to go on with, in place of a recipe."""
    nets_tested: int = 200
    """Held-out initializations of the final measurement (random theta_0)."""
    plain_nets: int = 5
    """Nets of the plain loop in it; 0 leaves it out."""
    evaluate: bool = True
    """Measure the result on the test split; --no-evaluate leaves that out."""
    figures: bool = True
    """Draw the figures; --no-figures leaves that out."""
    threads: int | None = None
    """CPU threads of torch."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""
    config: Config = field(default_factory=Config)
    options: Options = field(default_factory=Options)


def run(argv: Sequence[str]) -> int:
    """Parse, learn, measure, draw, print."""
    args, config, changed = read_arguments(argv)
    check_range(args, ("nets_tested",), least=1)
    check_range(args, ("plain_nets",), least=0)
    out = args.resume or args.out or Path("runs") / f"{config.recipe}-s{config.seed}"
    if config.dataset == "folder":
        refuse_inside(out, config.data)
        refuse_inside(args.options.rescue_dir, config.data, "--rescue-dir")
    if args.resume is None:
        RunFolder.refuse_occupied(out)
    output = Output(args.json)
    set_threads(args.threads)
    from datadistill.device import resolve
    from datadistill.distilled import DistilledDataset
    from datadistill.runs.signals import StopFlag, interruptible
    from datadistill.runs.timing import spent
    from datadistill.training import distill

    stopped = f"the set is saved in {out}, and was not measured to the end; go on with: "
    stopped += f"datadistill evaluate {out} --save"
    with output.working(not args.options.quiet), StopFlag() as stop:  # no gap between learning and measuring
        if not args.options.quiet:
            on = resolve(config.device).type
            output.say(f"{config.recipe}, seed {config.seed}: {config.iterations} iterations on {on} -> {out}")
        if config.objective == "attack":
            output.say(PURPOSE)
        before = spent(out) or 0.0  # a resumed run has sessions behind it
        began = time.monotonic()
        distill(config if changed else None, out=out, resume=args.resume is not None, options=args.options)
        seconds = before + time.monotonic() - began
        d = DistilledDataset.load(out)  # from disk: what is measured is what is kept
        output.say(
            f"learned {len(d.images)} images {shape_of(d.images.shape[1:])} for {len(d.order)} "
            f"step{'s' if len(d.order) != 1 else ''} in {seconds:.1f} s"
        )
        found, unsaved = None, None
        if args.evaluate:
            with interruptible(stopped):
                found = measure(d, config, args)
            unsaved = keep(found, d, out)
        figures = draw(out) if args.figures else []
    if args.evaluate or args.figures:
        stop.raise_if_requested(f"all is saved in {out}; look at it with: datadistill inspect {out}")
    tell(output, d, found, out, figures)
    page = RECIPES.get(config.recipe)
    number, other = ("-", []) if page is None else published_number(page.published, page.make(), config)
    summary = {
        "run": str(out),
        "recipe": config.recipe,
        "run_seed": config.seed,
        "iterations": config.iterations,
        "seconds": seconds,
        "published": number,
        "changed": other,
        "figures": [str(path) for path in figures],
    }
    output.result({**summary, **(found or {})})
    if unsaved is not None:
        raise unsaved
    return 0


def read_arguments(argv: Sequence[str]) -> tuple[Distill, DistillConfig, bool]:
    """What was typed, the config it makes, and whether that must be handed on (a resume without changes has
    its config in the folder)."""
    words = list(argv)
    name = words.pop(0) if words and not words[0].startswith("-") else None
    resumed = value_of(words, "--resume")
    if resumed is not None and not wants_help(words):
        base = stored_config(Path(resumed))
        if name not in (None, base.recipe):
            raise UsageError(f"{resumed} is a run of {base.recipe}, not of {name}; leave the recipe out")
        if given(words, "--out"):
            raise UsageError("--resume goes on in its own folder; leave --out out")
    elif name is not None:
        base = recipe(name)
    elif wants_help(words):
        base = DistillConfig()
    else:
        raise UsageError(
            f"no recipe was given; type {PROG} RECIPE, or {PROG} --resume DIR "
            f"({nearest('', RECIPES, 'datadistill recipes')})"
        )
    default = Config(**{f.name: getattr(base, f.name) for f in fields(base)})
    if resumed is None and base.data == PLACEHOLDER and not (given(words, "--data") or wants_help(words)):
        raise UsageError(
            f"{name} learns from your own images, and no folder was given; pass --data FOLDER, which holds "
            "one sub-folder of images for each class"
        )
    shown = f"{PROG} {name}" if name else f"{PROG} {'--resume DIR' if resumed else 'RECIPE'}"
    args = parse(Distill, words, shown, Distill(config=default))
    config = DistillConfig(**{f.name: getattr(args.config, f.name) for f in fields(DistillConfig)})
    if config.data is not None and config.dataset != "folder":
        if given(words, "--dataset"):
            raise UsageError(f"both --dataset {config.dataset} and --data {config.data} were given; drop one")
        config = replace(config, dataset="folder")
    config = with_arguments(config, base, words)
    return args, config, resumed is None or config != base


def stored_config(path: Path) -> DistillConfig:
    """The config of a run folder, checked."""
    stored = RunFolder.open(path, kind="distill").config
    return build_config(DistillConfig, stored, str(path / "config.json"))


def measure(d: DistilledDataset, config: DistillConfig, args: Distill) -> dict[str, Any]:
    """Test the set."""
    from datadistill.evaluation import evaluate
    from datadistill.evaluation.own_data import data_of

    folder = Path(config.data) if config.dataset == "folder" and config.data else None
    data = data_of(d, data_root=args.options.data_root, folder=folder, download=args.options.download)
    pool = config.pool if config.theta_0 == "random" else None  # a fixed one is in the file
    return evaluate(
        d, nets=args.nets_tested, data=data, device=config.device, pool=pool, plain_nets=args.plain_nets
    ).as_dict()


def keep(found: dict[str, Any], d: DistilledDataset, out: Path) -> DatadistillError | None:
    """Write the accuracies into the set's file. Returns what kept them out of it, to be said after the rest."""
    from datadistill.evaluation.saving import save_accuracies

    try:
        save_accuracies(out, d, found)
    except DatadistillError as error:
        return error
    return None


def draw(out: Path) -> list[Path]:
    """The figures; one that fails is a warning, for the result is saved."""
    try:
        from datadistill.visualize.run_figures import write_figures

        return write_figures(out)
    except Exception as error:
        warnings.warn(f"the figures could not be drawn ({type(error).__name__}: {error})", stacklevel=2)
        return []


def tell(
    output: Output, d: DistilledDataset, found: dict[str, Any] | None, out: Path, figures: Sequence[Path]
) -> None:
    """What came out, where it is, what to type next."""
    if found is not None:
        from datadistill.cli.results import accuracy_table

        accuracy_table(output, found, d)
    drawn = f", figures/ ({len(figures)})" if figures else ""
    output.say(f"wrote {out}: distilled.safetensors{drawn}, metrics.jsonl, checkpoints/")
    command = "show" if not figures else "inspect" if found is not None else "evaluate"
    output.say(f"next: datadistill {command} {out}{' --save' if command == 'evaluate' else ''}")
