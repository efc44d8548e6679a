"""`kd-baselines compare RECIPE`: the arms of a recipe over several seeds, held against one of them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from datadistill.cli.options import parse, set_threads, wants_help
from datadistill.cli.printing import Output
from kd_baselines.cli.configs import ConfigOfAllSeeds, Options, changes_of, flags_of, recipe_missing, seeds_of
from kd_baselines.config import KdConfig
from kd_baselines.recipes import page

if TYPE_CHECKING:
    from kd_baselines.studies.comparison_table import Comparison

PROG = "kd-baselines compare"


@dataclass(frozen=True)
class Compare:
    """Train the arms of a recipe with several seeds on one teacher, and hold them against one arm.

    Finished students are read, stopped ones go on: typed again after a stop it goes on. Writes table.md and
    table.csv, differences paired by seed with a 95% interval.
    """

    seeds: tuple[int, ...] = (3,)
    """One number: how many seeds, from 0. Several numbers: which."""
    arms: tuple[str, ...] = ()
    """Only these; kd-baselines recipes RECIPE lists them, "own" is the recipe itself."""
    base: str | None = None
    """The arm that the others are held against; default: the first without a teacher, else the first."""
    out: Path | None = None
    """Folder for everything; default: runs/compare/RECIPE."""
    threads: int | None = None
    """CPU threads of torch."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""
    config: ConfigOfAllSeeds = field(default_factory=ConfigOfAllSeeds)
    options: Options = field(default_factory=Options)


def run(argv: Sequence[str]) -> int:
    """Parse, compare, print."""
    words = list(argv)
    name = words.pop(0) if words and not words[0].startswith("-") else None
    if name is None and not wants_help(words):
        raise recipe_missing(f"{PROG} RECIPE")
    base = page(name).images() if name is not None else KdConfig()
    shown = f"{PROG} {name or 'RECIPE'}"
    args = parse(Compare, words, shown, Compare(config=flags_of(ConfigOfAllSeeds, base)))
    assert name is not None  # --help has left
    output = Output(args.json)
    set_threads(args.threads)
    from kd_baselines.studies.compare import compare

    out = args.out or Path("runs") / "compare" / name
    began = time.monotonic()
    with output.working(not args.options.quiet):
        found = compare(
            name, seeds=seeds_of(args.seeds), arms=args.arms or None,
            base=args.base, out=out, options=args.options, changes=changes_of(args.config, base, words),
            say=(lambda line: None) if args.options.quiet else output.say, again=f"{PROG} {shlex.join(argv)}",
        )  # fmt: skip
    seconds = time.monotonic() - began
    tell(output, found)
    output.say(f"wrote {out}: {', '.join(path.name for path in found.files)} ({seconds:.0f} s)")
    last = found.rows[-1].arm
    output.say(f"next: kd-baselines evaluate {out / f'{last}-s{found.seeds[-1]}'} --noise 0.3")
    output.result({
        "recipe": found.recipe, "base": found.base, "seeds": list(found.seeds), "run": str(out),
        "seconds": seconds, "changes": dict(found.changes), "rows": list(found.records()),
        "files": [str(path) for path in found.files],
    })  # fmt: skip
    return 0


def tell(output: Output, found: Comparison) -> None:
    """A table for each score, and what it is over."""
    from datadistill.studies.table import format_difference
    from kd_baselines.studies.comparison_table import remarks

    for column in found.columns:
        known = any(row.published != "-" for row in found.rows) and column == found.measure
        rows = []
        for row in found.rows:
            score = row.score(column)
            cells = [row.arm, row.method, str(score), format_difference(score)]
            rows.append([*cells, row.published] if known else cells)
        heads = [found.title(column), "method", "ours", f"minus {found.base}"]
        heads += ["published"] if known else []
        output.table(heads, rows, right=(2, 3))
        output.say("")
    output.say(*remarks(found))
