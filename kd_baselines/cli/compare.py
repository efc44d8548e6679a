"""`kd-baselines compare RECIPE`: the arms of a recipe over several seeds, compared with one of
them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datadistill.cli.launch import count_processes, launch
from datadistill.cli.options import as_flags, open_output, parse
from datadistill.cli.printing import Output
from datadistill.cli.study_command import carry_out, say_files
from kd_baselines.cli.configs import ImageFlagsWithoutSeed, StudyFlags, find_changes, take_recipe
from kd_baselines.config import KdConfig
from kd_baselines.recipes import page

if TYPE_CHECKING:
    from kd_baselines.studies.comparison_table import Comparison

PROG = "kd-baselines compare"


@dataclass(frozen=True)
class Compare(StudyFlags):
    """Train the arms of a recipe with several seeds on one teacher, and compare them with one arm.

    Finished students are loaded, interrupted ones are resumed: typed again it continues. Writes
    table.md and table.csv, differences paired by seed with a 95% interval.
    """

    seeds: tuple[int, ...] = (3,)
    """One number: how many seeds, from 0. Several numbers: which."""
    arms: tuple[str, ...] = ()
    """Only these; kd-baselines recipes RECIPE lists them, "own" is the recipe itself."""
    base: str | None = None
    """The arm that the others are compared with; default: of a recipe that is a grid one in each
    row, else the first without a teacher, else the first."""
    processes: str = "1"
    """Processes that share out the students, whose numbers stay the same; auto: one a core."""
    config: ImageFlagsWithoutSeed = field(default_factory=ImageFlagsWithoutSeed)


def run(argv: Sequence[str]) -> int:
    """Parse, compare, print."""
    name, words = take_recipe(argv, PROG)
    base = page(name).images() if name is not None else KdConfig()
    default = Compare(config=as_flags(ImageFlagsWithoutSeed, base))
    args = parse(Compare, words, f"{PROG} {name or 'RECIPE'}", default)
    assert name is not None  # --help has left
    processes = count_processes(args.processes)
    output = open_output(args.options)
    if (code := launch("kd_baselines", ["compare", *argv], processes)) is not None:
        return code
    from datadistill.runs.ranks import current
    from kd_baselines.studies.compare import compare

    out = args.out or Path("runs") / "compare" / name
    study = partial(
        compare,
        name,
        seeds=args.count_or_seeds(),
        arms=args.arms or None,
        base=args.base,
        changes=find_changes(args.config, base, words),
    )
    found, seconds = carry_out(study, output, args.options, out, [*PROG.split(), *argv])
    if not current().writes:
        return 0
    result = say_comparison(output, found, out, seconds)
    last = found.rows[-1].arm
    output.say(f"next: kd-baselines evaluate {out / f'{last}-s{found.seeds[-1]}'} --noise 0.3")
    output.result(result)
    return 0


def say_comparison(output: Output, found: Comparison, out: Path, seconds: float) -> dict[str, Any]:
    """A table for each score, what it is over, and what was written; returns what --json prints."""
    from datadistill.studies.table import format_difference
    from kd_baselines.studies.comparison_grid import grid_tables
    from kd_baselines.studies.comparison_table import remarks

    for column in found.columns:
        known = any(row.published != "-" for row in found.rows) and column == found.measure
        rows = []
        for row in found.listed:
            score = row.score(column)
            cells = [row.arm, row.method, str(score), format_difference(score)]
            rows.append([*cells, row.published] if known else cells)
        heads = [found.title(column), "method", "ours", f"minus {found.base}"]
        heads += ["published"] if known else []
        if rows:
            output.table(heads, rows, right=(2, 3))
            output.say("")
        for heads, texts in grid_tables(found, column):
            output.table(heads, texts, right=range(1, len(heads)))
            output.say("")
    output.say(*remarks(found))
    say_files(output, found.files, out, seconds)
    return {
        "recipe": found.recipe,
        "base": found.base,
        "seeds": list(found.seeds),
        "run": str(out),
        "seconds": seconds,
        "changes": dict(found.changes),
        "rows": list(found.records()),
        "files": [str(path) for path in found.files],
    }
