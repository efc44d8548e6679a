"""The result of a bridge, cell by cell, and its table.md and table.csv."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datadistill.errors import UsageError
from datadistill.runs.atomic import write_text
from datadistill.stats import Interval, mean_interval
from datadistill.studies.table import (
    Column,
    Score,
    Table,
    describe_machines,
    format_difference,
    join_page,
    to_markdown,
)
from kd_baselines.studies.bridge_bytes import Bytes

__all__ = ["FILES", "LABELS", "Bridge", "Cell", "blocks_of", "remarks", "write_bridge"]

FILES = ("table.md", "table.csv")
LABELS = "labels"
"""The knowledge that the others are compared with."""
FIELDS = (
    "bridge",
    "ipc",
    "images",
    "knowledge",
    "seeds",
    "mean",
    "deviation",
    "low",
    "high",
    "base",
    "difference",
    "difference_low",
    "difference_high",
    "bytes",
    "carrier",
    "parts",
    "outputs_bytes",
    "teacher_bytes",
    "values",
)


@dataclass(frozen=True)
class Cell:
    """The students of one kind of images and one kind of knowledge.

    Args:
        images: "random", or another row.
        ipc: images of each class.
        knowledge: `LABELS`, or an arm of the recipe.
        values: accuracy of each seed on all test images, in percent.
        bytes: of what the students were given.
        difference: to labels alone on the same images, paired by seed; None for these and where
            they were not asked for.
    """

    images: str
    ipc: int
    knowledge: str
    values: tuple[float, ...]
    bytes: Bytes
    difference: Interval | None = None

    @property
    def name(self) -> str:
        """As remarks call it."""
        return f"{self.knowledge} on {self.images}:{self.ipc}"

    @property
    def score(self) -> Score:
        return Score.of(self.values, difference=self.difference)

    @property
    def accuracy(self) -> str:
        """Mean and 95% interval."""
        found = mean_interval(self.values)
        bounds = "" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]"
        return f"{found.mean:.2f}{bounds}"

    @property
    def size(self) -> str:
        """Bytes, and what carries the knowledge."""
        carrier = "" if self.bytes.carrier == LABELS else f" ({self.bytes.carrier})"
        return f"{self.bytes.total:,}{carrier}"


@dataclass(frozen=True)
class Bridge:
    """The result of `make_bridge`.

    Args:
        name: of the plan.
        seeds: of the students.
        cells: by images a class, then images, then knowledge.
        notes: sentences about how the numbers were made.
        environments: what the numbers depend on besides, as `environment` describes it.
        files: table.md and table.csv.
    """

    name: str
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
    environments: tuple[Mapping[str, Any], ...] = ()
    files: tuple[Path, ...] = field(default=())

    def cell(self, images: str, ipc: int, knowledge: str) -> Cell:
        """One cell; UsageError where it was not measured."""
        for cell in self.cells:
            if (cell.images, cell.ipc, cell.knowledge) == (images, ipc, knowledge):
                return cell
        names = ", ".join(cell.name for cell in self.cells)
        raise UsageError(f"there is no cell {knowledge} on {images}:{ipc}; there are {names}")

    def table(self) -> Table:
        """One record for each cell: what table.csv holds and --json prints."""
        rows = []
        for cell in self.cells:
            labels = {
                "bridge": self.name,
                "ipc": cell.ipc,
                "images": cell.images,
                "knowledge": cell.knowledge,
                "seeds": list(self.seeds),
                "base": None if cell.difference is None else LABELS,
                "bytes": cell.bytes.total,
                "carrier": cell.bytes.carrier,
                "parts": dict(cell.bytes.parts),
                "outputs_bytes": cell.bytes.outputs,
                "teacher_bytes": cell.bytes.teacher,
            }
            rows.append((labels, cell.score))
        return Table(FIELDS, rows)

    def records(self) -> Iterator[dict[str, Any]]:
        """The records of `table`."""
        return self.table().records()


Row = Mapping[str, Cell]
"""The cells of one kind of images, by knowledge."""


def blocks_of(found: Bridge) -> Iterator[tuple[str, list[Column[Row]], list[Row]]]:
    """Three tables for each number of images a class: a heading, columns of knowledge, and rows of
    images."""
    knowledge = list(dict.fromkeys(cell.knowledge for cell in found.cells))
    others = [one for one in knowledge if one != LABELS]
    for ipc in dict.fromkeys(cell.ipc for cell in found.cells):
        cells = [cell for cell in found.cells if cell.ipc == ipc]
        images = dict.fromkeys(cell.images for cell in cells)
        rows: list[Row] = [{c.knowledge: c for c in cells if c.images == name} for name in images]
        a_class = f"{ipc} image{'' if ipc == 1 else 's'} a class"
        yield f"{a_class}: accuracy (%)", _columns(knowledge, lambda c: c.accuracy), rows
        if any(cell.difference for cell in cells):
            heading = f"{a_class}: minus {LABELS}"
            yield heading, _columns(others, lambda c: format_difference(c.score)), rows
        yield f"{a_class}: bytes", _columns(knowledge, lambda c: c.size), rows


def _columns(knowledge: Sequence[str], cell: Any) -> list[Column[Row]]:
    first = Column[Row]("images", lambda row: next(iter(row.values())).images)

    def column(name: str) -> Column[Row]:
        return Column(name, lambda row: cell(row[name]), number=True)

    return [first, *map(column, knowledge)]


def remarks(found: Bridge) -> list[str]:
    """Sentences about the numbers."""
    seeds = ", ".join(map(str, found.seeds))
    lines = [f"All test images, after the last step; students with the seeds {seeds}."]
    if len(found.seeds) > 1:
        free = len(found.seeds) - 1
        lines.append(
            f"Intervals are Student's t at 95% ({free} degree{'' if free == 1 else 's'} of "
            f"freedom); differences to {LABELS} are on the same images, in points and paired by "
            "seed."
        )
        lines += _tell_differences(found.cells)
    else:
        lines.append("One seed: nothing follows from a difference.")
    return [*lines, *found.notes]


def _tell_differences(cells: Sequence[Cell]) -> Iterator[str]:
    """Which cells differ from labels alone, and which intervals hold zero."""
    known = [(cell, cell.difference) for cell in cells if cell.difference is not None]
    better = [cell.name for cell, d in known if d.low is not None and d.low > 0]
    worse = [cell.name for cell, d in known if d.high is not None and d.high < 0]
    rest = [cell.name for cell, _ in known if cell.name not in (*better, *worse)]
    for words, names in (
        (f"Better than {LABELS} (the interval lies above 0)", better),
        (f"Worse than {LABELS} (below 0)", worse),
        (f"Not told apart from {LABELS} (the interval holds 0)", rest),
    ):
        if names:
            yield f"{words}: {', '.join(names)}."


def write_bridge(found: Bridge, folder: Path, command: str) -> tuple[Path, ...]:
    """Write table.md and table.csv; returns the files. `command` makes this table, for the page."""
    blocks: list[str | Sequence[str]] = [f"# {found.name}", f"`{command}`"]
    for heading, columns, rows in blocks_of(found):
        blocks += [f"## {heading}", to_markdown(columns, rows)]
    machines = describe_machines(found.environments)
    page = join_page(*blocks, "## Remarks", remarks(found), "## Machine", machines)
    write_text(folder / FILES[0], page)
    write_text(folder / FILES[1], found.table().to_csv())
    return tuple(folder / name for name in FILES)
