"""Tables of studies: rows of scores, written as Markdown, CSV and JSON.

A `Score` is one measured number with what is known about it. A `Table` holds one row for each score
and gives the records of a CSV file and of JSON; `to_markdown` prints any rows by a list of
`Column`, and `join_page` joins such tables with headings and remarks. Nothing here adds a date, a
duration, a host or a path: the same measurements give the same bytes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from datadistill.stats import Interval, deviation, format_mean, mean_interval

__all__ = [
    "Column",
    "Published",
    "Score",
    "Table",
    "describe_machines",
    "format_difference",
    "join_page",
    "to_csv",
    "to_markdown",
]

R = TypeVar("R")


@dataclass(frozen=True)
class Published:
    """A number of a paper, in percent.

    Args:
        value: the number.
        deviation: what stands behind its ±, if anything.
        where: "table 1", "fig. 4a", "project page".
        read_off: read by eye off a plot, ± 2.
    """

    value: float
    deviation: float | None = None
    where: str = ""
    read_off: bool = False

    def __str__(self) -> str:
        return f"{'~' if self.read_off else ''}{format_mean(self.value, self.deviation, 'g')}"


@dataclass(frozen=True)
class Score:
    """One score of one row.

    Args:
        mean: None where nothing was measured.
        deviation: of the population; None for a single number.
        low, high: bounds of the mean's 95% interval.
        values: the numbers themselves, where they are kept.
        difference: to the row that others are compared with, paired.
        published: the paper's number, or words about it.
    """

    mean: float | None = None
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    values: tuple[float, ...] = ()
    difference: Interval | None = None
    published: Published | str | None = None

    @classmethod
    def of(cls, values: Sequence[float], **known: Any) -> Score:
        """The score of several numbers."""
        found = mean_interval(values)
        return cls(found.mean, deviation(values), found.low, found.high, tuple(values), **known)

    def __str__(self) -> str:
        return self.format(".2f")

    def format(self, spec: str) -> str:
        """Mean and deviation; a dash for what was not measured.

        >>> Score(93.456, 1.0).format(".1f"), Score.of([96.6]).format(".1f"), Score().format(".1f")
        ('93.5 ± 1.0', '96.6', '-')
        """
        if self.mean is None:
            return "-"
        return format_mean(self.mean, None if len(self.values) == 1 else self.deviation, spec)

    def record(self) -> dict[str, Any]:
        """The score under the names that the fields of a `Table` choose from; None for what is not
        known."""
        difference, paper = self.difference, self.published
        known = paper if isinstance(paper, Published) else None
        return {
            "mean": self.mean,
            "deviation": self.deviation,
            "low": self.low,
            "high": self.high,
            "values": list(self.values),
            "difference": None if difference is None else difference.mean,
            "difference_low": None if difference is None else difference.low,
            "difference_high": None if difference is None else difference.high,
            "published": paper if known is None else known.value,
            "published_deviation": None if known is None else known.deviation,
            "published_in": None if known is None else known.where,
            "read_off_plot": None if known is None else known.read_off,
        }


def format_difference(score: Score) -> str:
    """The paired difference of a score with its interval; a dash where there is none."""
    return "-" if score.difference is None else str(score.difference)


@dataclass(frozen=True)
class Table:
    """The results of a study, one row for each score.

    Args:
        fields: columns of the CSV file and keys of the JSON records, in order; each is a label of
            the rows or a name of `Score.record`.
        rows: the scores, each with its labels.
        renamed: field -> name in `Score.record`, where they differ.

    Example:
        >>> table = Table(("arm", "mean", "values"), [({"arm": "own"}, Score.of((1.0, 2.5)))])
        >>> list(table.records())
        [{'arm': 'own', 'mean': 1.75, 'values': [1.0, 2.5]}]
        >>> table.to_csv()
        'arm,mean,values\\nown,1.7500,1.0000 2.5000\\n'
    """

    fields: tuple[str, ...]
    rows: Sequence[tuple[Mapping[str, Any], Score]]
    renamed: Mapping[str, str] = field(default_factory=dict)

    def records(self) -> Iterator[dict[str, Any]]:
        """One JSON-able dict for each row."""
        for labels, score in self.rows:
            known = {**score.record(), **labels}
            yield {name: known[self.renamed.get(name, name)] for name in self.fields}

    def to_csv(self) -> str:
        return to_csv(self.fields, self.records())


def to_csv(fields: Sequence[str], records: Iterable[Mapping[str, Any]], spec: str = ".4f") -> str:
    """Records as CSV, one line each, floats in the format `spec`; numbers of a list have a space
    between, texts of a list and members of a dict a semicolon.

    >>> to_csv(("arm", "parts"), [{"arm": 0.5, "parts": {"images": 8, "range": 1}}])
    'arm,parts\\n0.5000,images 8; range 1\\n'
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({name: _csv_cell(value, spec) for name, value in record.items()})
    return text.getvalue()


def _csv_cell(value: Any, spec: str) -> Any:
    if isinstance(value, list):
        between = "; " if any(isinstance(one, str) for one in value) else " "
        return between.join(str(_csv_cell(one, spec)) for one in value)
    if isinstance(value, dict):
        return "; ".join(f"{key} {_csv_cell(one, spec)}" for key, one in value.items())
    return format(value, spec) if isinstance(value, float) else value


@dataclass(frozen=True)
class Column(Generic[R]):
    """A printed column: its heading, the text of a row's cell, and whether it holds numbers."""

    heading: str
    cell: Callable[[R], str]
    number: bool = False


def to_markdown(columns: Sequence[Column[R]], rows: Iterable[R]) -> str:
    """Rows as a table of Markdown, numbers at the right.

    >>> columns = [Column("", str), Column("twice", lambda n: f"{2 * n}", number=True)]
    >>> print(to_markdown(columns, [1, 2]))
    | | twice |
    | --- | ---: |
    | 1 | 2 |
    | 2 | 4 |
    """
    heads = (f" {column.heading} |" if column.heading else " |" for column in columns)
    marks = (" ---: |" if column.number else " --- |" for column in columns)
    cells = (" | ".join(column.cell(row) for column in columns) for row in rows)
    return "\n".join(
        ["|" + "".join(heads), "|" + "".join(marks), *(f"| {line} |" for line in cells)]
    )


def join_page(*blocks: str | Sequence[str]) -> str:
    """A page of Markdown: blocks with an empty line between; a sequence of sentences is a list.

    >>> join_page("# A", "", ["One.", "Two."])
    '# A\\n\\n- One.\\n- Two.\\n'
    """
    texts = [
        one if isinstance(one, str) else "\n".join(f"- {line}" for line in one) for one in blocks
    ]
    return "\n\n".join(text for text in texts if text) + "\n"


def describe_machines(environments: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each environment that numbers came from."""
    lines = []
    for env in environments:
        versions = env.get("versions", {})
        count = env.get("threads", "?")
        on = f"{count} thread{'s' if count != 1 else ''} of {env.get('device_name', 'a CPU')}"
        if env.get("device") != "cpu":
            on = str(env.get("device_name", env.get("device")))
        lines.append(
            f"{on}, torch {versions.get('torch')}, datadistill {versions.get('datadistill')}"
        )
    return list(dict.fromkeys(lines))
