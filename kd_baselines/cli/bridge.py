"""`kd-baselines bridge NAME`: few images, real or distilled, crossed with kinds of knowledge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datadistill.cli.options import Hidden, RecipeArguments, as_flags, open_output, parse, take_name
from datadistill.cli.printing import Output
from datadistill.cli.study_command import carry_out, say_files
from datadistill.errors import suggest
from kd_baselines.cli.configs import ImageFlagsWithoutSeed, StudyFlags, find_changes
from kd_baselines.config import KdConfig
from kd_baselines.recipes import page
from kd_baselines.studies.bridge_plans import BRIDGES, bridge_plan

if TYPE_CHECKING:
    from kd_baselines.studies.bridge_table import Bridge

PROG = "kd-baselines bridge"


@dataclass(frozen=True)
class StudentFlags(ImageFlagsWithoutSeed):
    """What to train, in every cell but for the images and the length. All of it changes the
    numbers; the defaults shown are the recipe's own."""

    epochs: Hidden[int] = 10
    data_from: Hidden[str | None] = None


@dataclass(frozen=True)
class MakeBridge(StudyFlags):
    """Train students on random, herded and distilled images, with labels alone and with each kind
    of a teacher's knowledge, and tell accuracy and bytes of each.

    Finished runs are loaded, interrupted ones are resumed: typed again it continues. Writes
    table.md and table.csv, differences to labels alone paired by seed with a 95% interval.
    """

    ipc: tuple[int, ...] = ()
    """Images of each class; default: those of the plan."""
    images: tuple[str, ...] = ()
    """Only these; random, herding, unrolled, dm and frepo in the plans that are here."""
    knowledge: tuple[str, ...] = ()
    """Only these, of labels and the recipe's arms: soft, jacobian and attention."""
    steps: int | None = None
    """Gradient steps of every student; default: those of the plan."""
    distill_changes: RecipeArguments = field(default_factory=dict)
    """Fields that are changed in the config of every distilled set."""
    config: StudentFlags = field(default_factory=StudentFlags)


def run(argv: Sequence[str]) -> int:
    """Parse, make, print."""
    name, words = take_name(argv, f"no bridge was given; type {PROG} NAME ({suggest('', BRIDGES)})")
    base = page(bridge_plan(name).name).images() if name is not None else KdConfig()
    default = MakeBridge(config=as_flags(StudentFlags, base))
    args = parse(MakeBridge, words, f"{PROG} {name or 'NAME'}", default)
    assert name is not None  # --help has left
    output = open_output(args.options)
    from kd_baselines.studies.bridge import make_bridge

    out = args.out or Path("runs") / "bridge" / name
    study = partial(
        make_bridge,
        name,
        seeds=args.count_or_seeds(),
        ipc=args.ipc or None,
        images=args.images or None,
        knowledge=args.knowledge or None,
        steps=args.steps,
        distill_changes=dict(args.distill_changes),
        changes=find_changes(args.config, base, words),
    )
    found, seconds = carry_out(study, output, args.options, out, [*PROG.split(), *argv])
    output.result(say_bridge(output, found, out, seconds))
    return 0


def say_bridge(output: Output, found: Bridge, out: Path, seconds: float) -> dict[str, Any]:
    """The tables, what they say, and what was written; returns what --json prints."""
    from kd_baselines.studies.bridge_table import blocks_of, remarks

    for heading, columns, rows in blocks_of(found):
        heads = [heading, *(column.heading for column in columns[1:])]
        cells = [[column.cell(row) for column in columns] for row in rows]
        output.table(heads, cells, right=range(1, len(columns)))
        output.say("")
    output.say(*remarks(found))
    say_files(output, found.files, out, seconds)
    last = found.cells[-1]
    student = f"{last.images}-{last.ipc}-{last.knowledge}-s{found.seeds[-1]}"
    output.say(f"next: kd-baselines evaluate {out / student} --noise 0.3")
    return {
        "bridge": found.name,
        "seeds": list(found.seeds),
        "run": str(out),
        "seconds": seconds,
        "rows": list(found.records()),
        "files": [str(path) for path in found.files],
    }
