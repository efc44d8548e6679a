"""The result of a comparison, arm by arm, and its table.md and table.csv."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from datadistill.errors import UsageError
from datadistill.runs.atomic import write_text
from datadistill.stats import Interval, mean_interval, paired_difference
from datadistill.studies.table import (
    Column,
    Score,
    Table,
    describe_machines,
    format_difference,
    join_page,
    to_markdown,
)
from kd_baselines.recipes import Grid
from kd_baselines.studies.comparison_grid import grid_tables

__all__ = ["FILES", "ArmRow", "Comparison", "add_differences", "write_comparison"]

FILES = ("table.md", "table.csv")
FIELDS = (
    "recipe",
    "arm",
    "method",
    "column",
    "seeds",
    "mean",
    "deviation",
    "base",
    "difference",
    "low",
    "high",
    "published",
    "values",
)


@dataclass(frozen=True)
class ArmRow:
    """One arm, or a teacher.

    Args:
        arm: its name; of a teacher "teacher", and the arm's name behind it where arms have several.
        method: how it learned.
        values: column -> the score of each seed, in the comparison's unit; a teacher that all seeds
            share has one.
        differences: column -> paired difference to the base arm; empty for that arm and teachers.
        published: the paper's number with its source, or a dash.
        changed: what is not the recipe's, where that is why there is a dash.
        base: the arm that the differences are to; None: the comparison's.
    """

    arm: str
    method: str
    values: Mapping[str, tuple[float, ...]]
    differences: Mapping[str, Interval] = field(default_factory=dict)
    published: str = "-"
    changed: tuple[str, ...] = ()
    base: str | None = None

    def mean(self, column: str) -> float:
        return mean_interval(self.values[column]).mean

    def score(self, column: str) -> Score:
        """Mean, deviation and difference; no mean where it was not measured."""
        if column not in self.values:
            return Score()
        return Score.of(self.values[column], difference=self.differences.get(column))


def add_differences(row: ArmRow, base: ArmRow) -> ArmRow:
    """A row with its differences to another, in the columns that both have; that one itself has
    none."""
    if row is base:
        return row
    shared = [column for column in row.values if column in base.values]
    found = {
        column: paired_difference(row.values[column], base.values[column]) for column in shared
    }
    return replace(row, differences=found, base=base.arm)


SHARED_TEACHER = (
    "Test images; students with the seeds {seeds}, the same teacher for every seed; "
    "population deviations."
)


@dataclass(frozen=True)
class Comparison:
    """The result of `compare` or `born_again_generations`.

    Args:
        recipe: its name.
        base: the arm that the others are compared with, or with a grid the column.
        seeds: of the students.
        rows: teachers first, then the arms.
        changes: fields of every config that were changed, and their values.
        environments: what the numbers depend on besides, as `environment` describes it.
        files: table.md and table.csv, and a figure where there is one.
        unit: of the scores: "%", or nothing (a perplexity).
        measure: the column that published numbers are of.
        about: what the numbers are over, the first remark; {seeds} stands for the seeds.
        grid: the arms as the cells of a table; None: a list.
    """

    recipe: str
    base: str
    seeds: tuple[int, ...]
    rows: tuple[ArmRow, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    environments: tuple[Mapping[str, Any], ...] = ()
    files: tuple[Path, ...] = ()
    unit: str = "%"
    measure: str = "accuracy"
    about: str = SHARED_TEACHER
    grid: Grid | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The scores that some row has, in order, the measure of published numbers first."""
        found = dict.fromkeys(column for row in self.rows for column in row.values)
        return tuple(sorted(found, key=lambda column: column != self.measure))

    @property
    def listed(self) -> tuple[ArmRow, ...]:
        """The rows that are no cells of a grid: the teachers where there is one, else all."""
        return tuple(r for r in self.rows if self.grid is None or r.arm not in self.grid.cells)

    def title(self, column: str) -> str:
        """A column with its unit."""
        return f"{column} ({self.unit})" if self.unit else column

    def row(self, arm: str) -> ArmRow:
        """The row of an arm; UsageError where it was not compared."""
        for row in self.rows:
            if row.arm == arm:
                return row
        raise UsageError(
            f"{arm!r} was not compared; there are {', '.join(row.arm for row in self.rows)}"
        )

    def score(self, row: ArmRow, column: str) -> Score:
        """The score of a row, with the published number; without a mean where it was not
        measured."""
        known = row.published if column == self.measure and row.published != "-" else None
        return replace(row.score(column), published=known)

    def table(self) -> Table:
        """One record for each row and column: what table.csv holds and --json prints."""
        rows = []
        for row in self.rows:
            for column in row.values:
                score = self.score(row, column)
                base = None if score.difference is None else row.base or self.base
                labels = {
                    "recipe": self.recipe,
                    "arm": row.arm,
                    "method": row.method,
                    "column": column,
                }
                rows.append(({**labels, "seeds": len(score.values), "base": base}, score))
        return Table(FIELDS, rows, {"low": "difference_low", "high": "difference_high"})

    def records(self) -> Iterator[dict[str, Any]]:
        """The records of `table`."""
        return self.table().records()


def write_comparison(found: Comparison, folder: Path, command: str) -> tuple[Path, ...]:
    """Write table.md and table.csv; returns the files. `command` makes this table, for the page."""
    write_text(folder / FILES[0], markdown(found, command))
    write_text(folder / FILES[1], found.table().to_csv())
    return tuple(folder / name for name in FILES)


def markdown(found: Comparison, command: str) -> str:
    """The page: a table for each score, remarks, hardware."""
    blocks: list[str | Sequence[str]] = [f"# {found.recipe}", f"`{command}`"]
    for column in found.columns:
        blocks.append(f"## {found.title(column)}")
        if listed := found.listed:
            entries = [(row, found.score(row, column)) for row in listed]
            blocks.append(to_markdown(_columns(found.base), entries))
        for heads, rows in grid_tables(found, column):
            texts = [Column(head, itemgetter(n), number=n > 0) for n, head in enumerate(heads)]
            blocks.append(to_markdown(texts, rows))
    blocks += ["## Remarks", remarks(found)]
    return join_page(*blocks, "## Machine", describe_machines(found.environments))


def _columns(base: str) -> list[Column[tuple[ArmRow, Score]]]:
    return [
        Column("arm", lambda entry: entry[0].arm),
        Column("method", lambda entry: entry[0].method),
        Column("ours", lambda entry: str(entry[1]), number=True),
        Column("published", lambda entry: str(entry[1].published or "-")),
        Column(f"minus {base}", lambda entry: format_difference(entry[1]), number=True),
    ]


def remarks(found: Comparison) -> list[str]:
    """Sentences about the numbers."""
    seeds = ", ".join(map(str, found.seeds))
    lines = [found.about.format(seeds=seeds)]
    if len(found.seeds) > 1:
        points = "in points and " if found.unit == "%" else ""
        free = f"{len(found.seeds) - 1} degree{'' if len(found.seeds) == 2 else 's'} of freedom"
        lines.append(
            f"Differences are {points}paired by seed, with the 95% interval of "
            f"Student's t ({free})."
        )
    else:
        lines.append("One seed: nothing follows from a difference.")
    if found.changes:
        changed = ", ".join(f"{name} {value}" for name, value in found.changes.items())
        lines.append(f"Not the recipe as it is, but with {changed}.")
    others = [row for row in found.rows if row.changed]
    if others:
        names = ", ".join(row.arm for row in others)
        different = list(dict.fromkeys(text for row in others for text in row.changed))
        more = f" and {len(different) - 6} more" if len(different) > 6 else ""
        lines.append(
            f"Published numbers are of the recipe as it is, and not given beside {names}: "
            f"{', '.join(different[:6])}{more}."
        )
    return lines
