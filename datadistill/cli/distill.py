"""`datadistill distill RECIPE`: learn a distilled set, measure it, draw it.

`datadistill distill --resume DIR` resumes a run; the options then start from the run's own config.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datadistill.cli.launch import count_processes, launch
from datadistill.cli.options import Hidden, RecipeArguments, is_given, wants_help
from datadistill.cli.printing import Output, shape_of
from datadistill.cli.run_command import RunCommand, RunFlags
from datadistill.config import DistillConfig
from datadistill.config.values import check_range
from datadistill.errors import DatadistillError, UsageError
from datadistill.recipes import RECIPES, recipe
from datadistill.recipes.own_images import PLACEHOLDER
from datadistill.recipes.poisoning import PURPOSE
from datadistill.runs.folder import SET_FILE
from datadistill.runs.inside import refuse_inside
from datadistill.studies.published import compare_published

if TYPE_CHECKING:
    from datadistill.distilled import DistilledDataset


@dataclass(frozen=True)
class Config(DistillConfig):
    """What to learn. All of it changes the numbers; the defaults are the recipe's."""

    recipe: Hidden[str] = "custom"
    net_args: RecipeArguments = field(default_factory=dict)
    update_args: RecipeArguments = field(default_factory=dict)
    decoder_args: RecipeArguments = field(default_factory=dict)
    method_args: RecipeArguments = field(default_factory=dict)


@dataclass(frozen=True)
class Distill(RunFlags):
    """Learn a distilled set, measure it on the test split, and draw it."""

    dry_run: bool = False
    """Load, build and check everything, make the first iteration in memory, say sizes, steps and
    memory, and write nothing."""
    nets_tested: int | None = None
    """Held-out initializations of the final measurement (random theta_0); default 200, and 5 for a
    set that is trained on in random minibatches."""
    plain_nets: int = 5
    """Nets of the plain loop in it; 0 leaves it out."""
    evaluate: bool = True
    """Measure the result on the test split; --no-evaluate leaves that out."""
    figures: bool = True
    """Draw the figures; --no-figures leaves that out."""
    processes: str = "1"
    """Processes that share out the nets of an iteration and of the tests; auto: one a core, where
    there are so many nets. Numbers are those of one process to rounding."""
    config: Config = field(default_factory=Config)


class DistillCommand(RunCommand[Distill, DistillConfig]):
    """`datadistill distill`."""

    prog, kind = "datadistill distill", "distill"
    recipes, config_class, flags = RECIPES, DistillConfig, Distill

    def make(self, name: str, words: Sequence[str]) -> DistillConfig:
        config = recipe(name)
        if config.data == PLACEHOLDER and not (is_given(words, "--data") or wants_help(words)):
            raise UsageError(
                f"{name} learns from your own images, and no folder was given; pass --data FOLDER, "
                "which holds one sub-folder of images for each class"
            )
        experts = RECIPES[name].experts
        given = any(is_given(words, option) for option in ("--experts", "--method"))
        if experts is not None and not given and not wants_help(words):
            raise UsageError(
                f"{name} follows experts, and none were given; type datadistill pretrain "
                f"{experts} first, and pass --experts runs/{experts}-s0"
            )
        return config


def run(argv: Sequence[str]) -> int:
    """Parse, learn, measure, draw, print."""
    command = DistillCommand(argv)
    args, config, out = command.args, command.config, command.out
    check_range(args, ("nets_tested",), least=1)
    check_range(args, ("plain_nets",), least=0)
    if config.dataset == "folder":
        refuse_inside(out, config.data)
        refuse_inside(args.options.rescue_dir, config.data, "--rescue-dir")
    nets = config.nets if config.theta_0 == "random" else 1
    processes = count_processes(args.processes, nets)
    output = command.open_output()
    if args.dry_run:
        from datadistill.cli.dry_run import try_out

        if args.resume is not None:
            raise UsageError(
                f"--dry-run is of a run that is to begin, and {args.resume} has begun; leave "
                "--dry-run out to resume it"
            )
        try_out(output, config, args.options, argv)
        return 0
    if (code := launch("datadistill", ["distill", *argv], processes)) is not None:
        return code
    from datadistill.cli.pretrained_line import pretrained_line
    from datadistill.distilled import DistilledDataset
    from datadistill.runs.ranks import current
    from datadistill.runs.signals import StopFlag, interruptible
    from datadistill.training import distill

    stopped = f"the set is saved in {out}, and was not measured to the end; go on with: "
    stopped += f"datadistill evaluate {out} --save"
    with (
        output.redirect_prints(not args.options.quiet),
        StopFlag(deferred=current().size > 1) as stop,
    ):  # no gap between learning and measuring
        if config.objective == "attack":
            output.say(PURPOSE)
        seconds = command.carry_out(distill, output, f"{config.iterations} iterations")
        d = DistilledDataset.load(out)  # from disk: what is measured is what is kept
        if config.weights is not None:
            d = d.with_weights(config.weights, download=args.options.download)
        output.say(
            f"learned {len(d.images)} images {shape_of(d.images.shape[1:])} for {d.schedule.steps} "
            f"step{'s' if d.schedule.steps != 1 else ''} in {seconds:.1f} s"
        )
        if (said := pretrained_line(d)) is not None:
            output.say(said)
        found, unsaved = None, None
        if args.evaluate:
            with interruptible(stopped):
                found = measure(d, config, args)
        current().heed_signals()
        if not current().writes:
            return 0
        if found is not None:
            unsaved = store_accuracies(found, d, out)
        figures = draw(out) if args.figures else []
    if args.evaluate or args.figures:
        stop.raise_if_requested(
            f"all is saved in {out}; look at it with: datadistill inspect {out}"
        )
    print_result(output, d, found, out, figures)
    number, changed = compare_published(RECIPES, config)
    output.result(
        {
            "run": str(out),
            "recipe": config.recipe,
            "run_seed": config.seed,
            "iterations": config.iterations,
            "seconds": seconds,
            "published": number,
            "changed": changed,
            "figures": [str(path) for path in figures],
            **(found or {}),
        }
    )
    if unsaved is not None:
        raise unsaved
    return 0


def measure(d: DistilledDataset, config: DistillConfig, args: Distill) -> dict[str, Any]:
    """Test the set."""
    from datadistill.evaluation import evaluate
    from datadistill.evaluation.own_data import load_own_data

    folder = Path(config.data) if config.dataset == "folder" and config.data else None
    data = load_own_data(
        d, data_root=args.options.data_root, folder=folder, download=args.options.download
    )
    pool = config.pool if config.theta_0 == "random" else None  # a fixed one is in the file
    return evaluate(
        d,
        nets=args.nets_tested,
        data=data,
        device=config.device,
        pool=pool,
        plain_nets=args.plain_nets,
    ).as_dict()


def store_accuracies(
    found: dict[str, Any], d: DistilledDataset, out: Path
) -> DatadistillError | None:
    """Write the accuracies into the set's file. Returns what kept them out of it, to be said after
    the rest."""
    from datadistill.evaluation.saving import save_accuracies

    try:
        save_accuracies(out, d, found)
    except DatadistillError as error:
        return error
    return None


def draw(out: Path) -> list[Path]:
    """Draw the figures; one that fails is a warning, for the result is saved."""
    try:
        from datadistill.visualize.run_figures import write_figures

        return write_figures(out)
    except Exception as error:
        warnings.warn(
            f"the figures could not be drawn ({type(error).__name__}: {error})", stacklevel=2
        )
        return []


def print_result(
    output: Output,
    d: DistilledDataset,
    found: dict[str, Any] | None,
    out: Path,
    figures: Sequence[Path],
) -> None:
    """Print what was made, where it is, and the next command."""
    if found is not None:
        from datadistill.cli.accuracy_table import accuracy_table

        accuracy_table(output, found, d)
    drawn = f", figures/ ({len(figures)})" if figures else ""
    output.say(f"wrote {out}: {SET_FILE}{drawn}, metrics.jsonl, checkpoints/")
    command = "show" if not figures else "inspect" if found is not None else "evaluate"
    output.say(f"next: datadistill {command} {out}{' --save' if command == 'evaluate' else ''}")
