"""`datadistill reproduce TABLE`: a table or figure of the paper, made again beside the published
numbers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from datadistill.cli.options import Options, open_output, parse
from datadistill.cli.printing import Output
from datadistill.cli.study_command import carry_out, say_files
from datadistill.errors import UsageError
from datadistill.reproduce import TABLES, plan_of
from datadistill.reproduce.plan import Scale

if TYPE_CHECKING:
    from datadistill.reproduce.reproduction import Reproduced

PROG = "datadistill reproduce"


@dataclass(frozen=True)
class Reproduce:
    """Make a table or figure of Wang et al. 2018 again: table1, table2, table3, attack, figure4,
    figure5; or compare the methods of the field: methods.

    Runs what is missing, uses what is there, and writes table.md, table.csv and figure.png with the
    published numbers beside ours. Typed again it continues.
    """

    table: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TABLE")]
    """table1, table2, table3, attack, figure4, figure5 or methods."""
    scale: Scale = "smoke"
    """smoke: two minutes, offline; cpu: two cores, at most 90 minutes, hours for methods; full: the
    paper's size."""
    out: Path | None = None
    """Folder for everything; default: runs/reproduce/TABLE-SCALE."""
    only: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Part of the table to run, such as mnist or u-to-m; may be given again."""
    seed: int = 0
    """Seed of all runs and measurements; 0: the recipes' own."""
    reuse: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Folder where finished runs with the same config are looked for; may be given again."""
    weights: str | None = None
    """Table 3: the weights file that nets start from, or imagenet for torchvision's."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto, cpu or cuda."""
    options: Options = field(default_factory=Options)


def run(argv: Sequence[str]) -> int:
    """Parse, reproduce, print."""
    args = parse(Reproduce, argv, PROG)
    plan = plan_of(args.table, args.scale)
    if args.weights is not None and not any(part.needs_weights for part in plan.parts):
        raise UsageError(f"{args.table} starts from no given weights; leave --weights out")
    output = open_output(args.options)
    from datadistill.reproduce.reproduction import default_out, reproduce

    out = args.out or default_out(args.table, args.scale, args.seed)
    output.say(
        f"{plan.title}, scale {args.scale} -> {out}", *([plan.purpose] if plan.purpose else [])
    )
    study = partial(
        reproduce,
        args.table,
        args.scale,
        seed=args.seed,
        only=args.only,
        reuse=args.reuse,
        weights=args.weights,
        device=args.device,
    )
    made, seconds = carry_out(study, output, args.options, out, [*PROG.split(), *argv])
    print_result(output, made)
    say_files(output, made.files, out, seconds)
    output.say(f"next: {_next(args, made)}")
    output.result(summary(made, out, seconds))
    return 0


def print_result(output: Output, made: Reproduced) -> None:
    """Print the rows, part by part, and the remarks."""
    from datadistill.reproduce.table_files import measured_cell, published_cell

    for part, rows in made.result.parts:
        output.say("", part.title)
        several = len(part.columns) > 1  # scores: one below the other
        lines = []
        for row, m in zip(part.rows, rows, strict=True):
            for n, column in enumerate(part.columns):
                front = [f"{row.x:g}"] if part.x is not None and row.x is not None else []
                front.append(row.label if n == 0 else "")
                front += [part.headings[column]] if several else []
                measured, known = measured_cell(column, (row, m)), published_cell(column, (row, m))
                lines.append([*front, measured, known, m.over if m is not None and n == 0 else ""])
        heads = [*([part.x] if part.x is not None else []), "", *([""] if several else [])]
        words = "percent" if several else f"{part.headings[part.columns[0]]} (%)"
        output.table(
            [*heads, words, "published", "over"], lines, right=(len(heads), len(heads) + 1)
        )
        output.say(*part.remarks)
    output.say("", *made.plan.remarks)
    if made.result.missing:
        output.say(f"not run: {', '.join(made.result.missing)}")


def summary(made: Reproduced, out: Path, seconds: float) -> dict[str, object]:
    """The object that --json prints."""
    from datadistill.reproduce.table_files import table_of

    return {
        "table": made.plan.table,
        "scale": made.plan.scale,
        "run": str(out),
        "seconds": seconds,
        "rows": list(table_of(made.plan, made.result).records()),
        "missing": list(made.result.missing),
        "files": [str(path) for path in made.files],
    }


def _next(args: Reproduce, made: Reproduced) -> str:
    if made.result.missing:
        given = {"out": args.out, "seed": args.seed or None, "weights": args.weights}
        same = "".join(f" --{k} {shlex.quote(str(v))}" for k, v in given.items() if v is not None)
        return f"{PROG} {args.table} --scale {args.scale} --only {made.result.missing[0]}{same}"
    if args.scale == "smoke":
        return f"{PROG} {args.table} --scale cpu"
    others = [name for name in TABLES if name != args.table]
    return f"{PROG} {others[0]} --scale {args.scale} --reuse {args.out or 'runs'}"
