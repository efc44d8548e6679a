"""What a comparison found, arm by arm, and how it is written: paired differences, Markdown, CSV.

The files hold no date, duration, host or path: what was measured once gives the same bytes again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datadistill.errors import UsageError
from datadistill.reproduce.write import machine
from datadistill.runs.atomic import write_text
from datadistill.stats import Interval, deviation, format_mean, mean, paired_difference
from datadistill.studies.table import to_csv

__all__ = ["FILES", "Comparison", "Row", "against", "write"]

FILES = ("table.md", "table.csv")
COLUMNS = (
    "recipe", "arm", "method", "column", "seeds", "mean", "deviation", "base", "difference", "low", "high",
    "published", "values",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One arm, or a teacher.

    Args:
        arm: its name; of a teacher "teacher", and the arm's name behind it where arms have several.
        method: how it learned.
        values: column -> the score of each seed, in the comparison's unit; a teacher that all seeds share has
            one.
        differences: column -> paired difference to the base arm; empty for that arm and teachers.
        published: the paper's number with its source, or a dash.
    """

    arm: str
    method: str
    values: Mapping[str, tuple[float, ...]]
    differences: Mapping[str, Interval] = field(default_factory=dict)
    published: str = "-"

    def mean(self, column: str) -> float:
        """Over the seeds."""
        return mean(self.values[column])

    def deviation(self, column: str) -> float:
        """Over the seeds, of the population.

        >>> Row("own", "plain", {"accuracy": (90.0, 94.0)}).deviation("accuracy")
        2.0
        """
        return deviation(self.values[column])

    def told(self, column: str) -> str:
        """Mean and deviation as they are printed; a dash for what was not measured.

        >>> Row("own", "plain", {"accuracy": (90.0, 94.0)}).told("accuracy")
        '92.00 ± 2.00'
        """
        if column not in self.values:
            return "-"
        several = len(self.values[column]) > 1
        return format_mean(self.mean(column), self.deviation(column) if several else None)


def against(row: Row, base: Row) -> Row:
    """A row with its differences to another, in the columns that both have; that one itself has none."""
    if row is base:
        return row
    shared = [column for column in row.values if column in base.values]
    found = {column: paired_difference(row.values[column], base.values[column]) for column in shared}
    return replace(row, differences=found)


SHARED_TEACHER = (
    "Test images; students with the seeds {seeds}, the same teacher for every seed; population deviations."
)


@dataclass(frozen=True)
class Comparison:
    """What `compare` or `born_again_generations` found.

    Args:
        recipe: its name.
        base: the arm that the others are held against.
        seeds: of the students.
        rows: teachers first, then the arms.
        changes: fields of every config that were changed, and their values.
        environments: what the numbers depend on besides, as `environment` describes it.
        files: table.md and table.csv, and a figure where there is one.
        unit: of the scores: "%", or nothing (a perplexity).
        measure: the column that published numbers are of.
        about: what the numbers are over, the first remark; {seeds} stands for the seeds.
    """

    recipe: str
    base: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    environments: tuple[Mapping[str, Any], ...] = ()
    files: tuple[Path, ...] = ()
    unit: str = "%"
    measure: str = "accuracy"
    about: str = SHARED_TEACHER

    @property
    def columns(self) -> tuple[str, ...]:
        """The scores that some row has, in order."""
        return tuple(dict.fromkeys(column for row in self.rows for column in row.values))

    def title(self, column: str) -> str:
        """A column with its unit.

        >>> Comparison("r", "own", (0,), ()).title("accuracy")
        'accuracy (%)'
        """
        return f"{column} ({self.unit})" if self.unit else column

    def row(self, arm: str) -> Row:
        """The row of an arm; UsageError where it was not compared."""
        for row in self.rows:
            if row.arm == arm:
                return row
        raise UsageError(f"{arm!r} was not compared; there are {', '.join(row.arm for row in self.rows)}")

    def records(self) -> Iterator[dict[str, Any]]:
        """One dict for each row and column, JSON-able: what --json prints and table.csv holds."""
        for row in self.rows:
            for column, values in row.values.items():
                found = row.differences.get(column)
                yield {
                    "recipe": self.recipe, "arm": row.arm, "method": row.method, "column": column,
                    "seeds": len(values), "mean": row.mean(column), "deviation": row.deviation(column),
                    "base": None if found is None else self.base,
                    "difference": None if found is None else found.mean,
                    "low": None if found is None else found.low,
                    "high": None if found is None else found.high,
                    "published": row.published if row.published != "-" and column == self.measure else None,
                    "values": list(values),
                }  # fmt: skip


def write(found: Comparison, folder: Path, command: str) -> tuple[Path, ...]:
    """Write table.md and table.csv.

    Args:
        found: what was measured.
        folder: where to.
        command: what makes this table, for the page.

    Returns:
        The files.
    """
    write_text(folder / FILES[0], markdown(found, command))
    write_text(folder / FILES[1], comma_separated(found))
    return tuple(folder / name for name in FILES)


def markdown(found: Comparison, command: str) -> str:
    """The page: a table for each score, remarks, hardware."""
    lines = [f"# {found.recipe}", "", f"`{command}`", ""]
    for column in found.columns:
        lines += [f"## {found.title(column)}", "", f"| arm | method | ours | published | minus {found.base} |"]
        lines += ["| --- | --- | ---: | --- | ---: |"]
        for row in found.rows:
            known = row.published if column == found.measure else "-"
            against = str(row.differences.get(column, "-"))
            lines.append(f"| {row.arm} | {row.method} | {row.told(column)} | {known} | {against} |")
        lines.append("")
    lines += ["## Remarks", "", *(f"- {remark}" for remark in remarks(found))]
    lines += ["", "## Machine", "", *(f"- {line}" for line in machine(found.environments)), ""]
    return "\n".join(lines)


def remarks(found: Comparison) -> list[str]:
    """What the numbers are over."""
    seeds = ", ".join(map(str, found.seeds))
    lines = [found.about.format(seeds=seeds)]
    if len(found.seeds) > 1:
        points = "in points and " if found.unit == "%" else ""
        free = f"{len(found.seeds) - 1} degree{'' if len(found.seeds) == 2 else 's'} of freedom"
        lines.append(f"Differences are {points}paired by seed, with the 95% interval of Student's t ({free}).")
    else:
        lines.append("One seed: nothing follows from a difference.")
    if found.changes:
        changed = ", ".join(f"{name} {value}" for name, value in found.changes.items())
        lines.append(f"Not the recipe as it is, but with {changed}.")
    return lines


def comma_separated(found: Comparison) -> str:
    """One line for each row and column; numbers with four decimals."""
    return to_csv(COLUMNS, found.records())
