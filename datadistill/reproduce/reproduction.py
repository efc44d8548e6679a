"""`reproduce`: one table, from its plan to its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from datadistill.config import RunOptions
from datadistill.errors import UsageError, suggest
from datadistill.progress import Report, show_progress
from datadistill.reproduce import plan_of
from datadistill.reproduce import reuse as elsewhere
from datadistill.reproduce.engine import Engine
from datadistill.reproduce.measured_rows import Result
from datadistill.reproduce.plan import Plan
from datadistill.reproduce.table_files import write_files
from datadistill.studies.study import Study

QUIET = RunOptions(quiet=True)


@dataclass(frozen=True)
class Reproduced:
    """A table that was made: its plan, its result, and table.md, table.csv, figure.png."""

    plan: Plan
    result: Result
    files: Sequence[Path]


@show_progress
def reproduce(
    table: str | Plan,
    scale: str = "smoke",
    *,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    only: Sequence[str] = (),
    reuse: Sequence[str | os.PathLike[str]] = (),
    weights: str | None = None,
    device: str = "auto",
    options: RunOptions = QUIET,
    say: Callable[[str], None] = lambda line: None,
    again: str | None = None,
    progress: bool | Report = False,
) -> Reproduced:
    """Reproduce a table of the paper: run what is missing, load what is finished, write the table.

    Args:
        table: a key of `TABLES`, or a plan of your own (its scale then counts).
        scale: smoke, cpu or full.
        out: the folder for everything; default runs/reproduce/TABLE-SCALE. An interrupted table is
            resumed.
        seed: of all runs and measurements; 0 are the recipes' own seeds.
        only: names of parts; others are shown where they are already measured.
        reuse: folders where finished runs with the same config may be taken from.
        weights: for tables that start from given weights: a file, or "imagenet".
        device: auto, cpu or cuda.
        options: of the runs.
        say: takes a line for every step.
        again: the command that resumes the table, named after a signal.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it
            goes on.

    Example:
        `reproduce("table1", "cpu", reuse=["runs"]).files[0]` is runs/reproduce/table1-cpu/table.md
    """
    plan = plan_of(table, scale) if isinstance(table, str) else table
    known = [part.name for part in plan.parts]
    for name in only:
        if name not in known:
            raise UsageError(
                f"{plan.table} has no part {name!r} at scale {plan.scale}; {suggest(name, known)}"
            )
    folders = [Path(folder) for folder in reuse]
    elsewhere.refuse_missing(folders)
    path = Path(out) if out is not None else default_out(plan.table, plan.scale, seed)
    command = f"datadistill reproduce {plan.table} --scale {plan.scale}"
    command += f" --seed {seed}" if seed else ""
    if weights is not None and any(part.needs_weights for part in plan.parts):
        command += f" --weights {weights if weights == 'imagenet' else Path(weights).name}"
    asked = {"table": plan.table, "scale": plan.scale, "seed": seed}
    with Study(path, "reproduce", asked, again=again or command, say=say, timed=True) as study:
        study.open()
        engine = Engine(
            plan.with_seed(seed),
            study,
            reuse=folders,
            weights=weights,
            options=options,
            device=device,
        )
        result = engine.run(only)
        files = write_files(plan, result, path, command)
    return Reproduced(plan, result, files)


def default_out(table: str, scale: str, seed: int) -> Path:
    """The default folder of a table."""
    return Path("runs") / "reproduce" / (f"{table}-{scale}" + (f"-s{seed}" if seed else ""))
