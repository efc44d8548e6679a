"""The files of a table: Markdown, CSV, and one figure.

They hold no date, host or path, and no duration but that of learning a set where methods are
compared: what was measured once gives the same bytes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datadistill.reproduce.measured_rows import MeasuredRow, Result
from datadistill.reproduce.paper import SOURCE
from datadistill.reproduce.plan import Part, Plan, TableRow
from datadistill.runs.atomic import write_text
from datadistill.studies.table import (
    Column,
    Score,
    Table,
    describe_machines,
    join_page,
    to_markdown,
)
from datadistill.visualize.canvas import save
from datadistill.visualize.points import PointPanel, points_figure
from datadistill.visualize.tables import (
    Bar,
    BarPanel,
    Curve,
    CurvePanel,
    Number,
    Point,
    bars_figure,
    lines_figure,
)

FILES = ("table.md", "table.csv", "figure.png")
FIELDS = (
    "table",
    "scale",
    "part",
    "row",
    "x",
    "column",
    "mean",
    "deviation",
    "over",
    "nets",
    "sets",
    "runs",
    "bytes",
    "how",
    "seconds",
    "published",
    "published_deviation",
    "published_in",
    "read_off_plot",
)
COUNTED = ("nets", "sets", "runs", "bytes", "how", "seconds")
READ_OFF = "Numbers with ~ were read by eye off a plot of the paper, ± 2."
Entry = tuple[TableRow, MeasuredRow | None]


def write_files(plan: Plan, result: Result, folder: Path, command: str) -> list[Path]:
    """Write table.md, table.csv and figure.png; returns the files. `command` makes this table, for
    the page."""
    write_text(folder / FILES[0], markdown(plan, result, command))
    write_text(folder / FILES[1], table_of(plan, result).to_csv())
    save(figure(plan, result), folder / FILES[2])
    return [folder / name for name in FILES]


def markdown(plan: Plan, result: Result, command: str) -> str:
    """The page: how it was made, a table for each part, remarks, sources, hardware."""
    blocks: list[str | Sequence[str]] = [
        f"# {plan.title}, scale {plan.scale}",
        f"`{command}`",
        plan.purpose,
    ]
    for part, rows in result.parts:
        entries = list(zip(part.rows, rows, strict=True))
        blocks += [f"## {part.title}", to_markdown(_columns(part, entries), entries), part.remarks]
    if result.missing:
        blocks.append(f"Not run here: {', '.join(result.missing)} (`{command} --only NAME`).")
    blocks += ["## Remarks", [*plan.remarks, *_sources(plan, result)]]
    return join_page(*blocks, "## Machine", describe_machines(result.environments))


def _columns(part: Part, entries: Sequence[Entry]) -> list[Column[Entry]]:
    columns: list[Column[Entry]] = []
    if part.x is not None:
        columns.append(Column(part.x, lambda entry: f"{entry[0].x:g}", number=True))
    columns.append(
        Column("", lambda entry: f"**{entry[0].label}**" if entry[0].ours else entry[0].label)
    )
    for name in part.columns:
        columns.append(
            Column(f"{part.headings[name]} (%)", partial(measured_cell, name), number=True)
        )
        if any(name in row.published for row in part.rows):
            columns.append(Column("published (%)", partial(published_cell, name), number=True))
    if any(m is not None for _, m in entries):
        columns += [
            Column("over", lambda entry: "-" if entry[1] is None else entry[1].over),
            Column("how", lambda entry: "" if entry[1] is None else entry[1].how),
            Column("bytes", _bytes_cell, number=True),
        ]
    if any(m is not None and m.seconds is not None for _, m in entries):
        columns.append(Column("CPU s to learn", _seconds_cell, number=True))
    return columns


def score_of(row: TableRow, m: MeasuredRow | None, column: str) -> Score:
    """The measured and the published number of one row in one column."""
    known = row.published.get(column)
    if m is None or column not in m.values:
        return Score(published=known)
    return Score(m.values[column].mean, m.values[column].std, published=known)


def measured_cell(column: str, entry: Entry) -> str:
    return score_of(*entry, column).format(".1f")


def published_cell(column: str, entry: Entry) -> str:
    return str(entry[0].published.get(column, "-"))


def _bytes_cell(entry: Entry) -> str:
    return f"{entry[1].bytes:,}" if entry[1] is not None and entry[1].bytes else "-"


def _seconds_cell(entry: Entry) -> str:
    return "-" if entry[1] is None or entry[1].seconds is None else f"{entry[1].seconds:.0f}"


def _sources(plan: Plan, result: Result) -> list[str]:
    numbers = [p for part, _ in result.parts for row in part.rows for p in row.published.values()]
    lines = [
        "Deviations are population deviations, over what the column says: sets x nets, or runs."
    ]
    if numbers:
        where = "; ".join(dict.fromkeys(p.where for p in numbers))
        lines.append(f"Published: {where}{f' of {SOURCE}' if plan.is_of_paper else ''}.")
    return [*lines, READ_OFF] if any(p.read_off for p in numbers) else lines


def table_of(plan: Plan, result: Result) -> Table:
    """One record for each row and column of each part, in percent: what table.csv holds and --json
    prints."""
    rows = []
    for part, measured in result.parts:
        for row, m in zip(part.rows, measured, strict=True):
            labels = {
                "table": plan.table,
                "scale": plan.scale,
                "part": part.name,
                "row": row.label,
                "x": row.x,
                "over": None if m is None else m.over,
                **{name: None if m is None else getattr(m, name) for name in COUNTED},
            }
            for column in part.columns:
                score = score_of(row, m, column)
                if score.mean is not None or score.published is not None:
                    rows.append(({**labels, "column": column}, score))
    return Table(FIELDS, rows)


# --- figure


def figure(plan: Plan, result: Result) -> Any:
    """Bars for a table, lines for an ablation, points for methods and the seconds they learn."""
    title = f"{plan.title}, scale {plan.scale}"
    if any(m is not None and m.seconds for _, rows in result.parts for m in rows):
        return points_figure(title, [_points(part, rows) for part, rows in result.parts])
    if all(part.x is not None for part, _ in result.parts):
        return lines_figure(title, [_curves(part, rows) for part, rows in result.parts])
    panels = []
    for part, rows in result.parts:
        for column in part.columns:
            named = (
                f"{part.title}: {part.headings[column]}" if len(part.columns) > 1 else part.title
            )
            bars = [
                Bar(row.label, _get_measured(m, column), _get_published(row, column), row.ours)
                for row, m in zip(part.rows, rows, strict=True)
            ]
            panels.append(BarPanel(named, bars))
    return bars_figure(title, panels)


def _points(part: Part, rows: Sequence[MeasuredRow | None]) -> PointPanel:
    """The first column of a part against the seconds of learning; rows without seconds are
    lines."""
    column = part.columns[0]
    points: dict[str, tuple[float, Number]] = {}
    lines: dict[str, Number] = {}
    for row, m in zip(part.rows, rows, strict=True):
        number = _get_measured(m, column)
        if m is None or number is None:
            continue
        if m.seconds:
            points[row.label] = m.seconds, number
        else:
            lines[row.label] = number
    return PointPanel(f"{part.title}: {part.headings[column]}", points, lines)


def _curves(part: Part, rows: Sequence[MeasuredRow | None]) -> CurvePanel:
    curves: dict[str, list[Point]] = {}
    ours: dict[str, bool] = {}
    for row, m in zip(part.rows, rows, strict=True):
        column = part.columns[0]
        point = Point(row.x or 0.0, _get_measured(m, column), _get_published(row, column))
        curves.setdefault(row.label, []).append(point)
        ours[row.label] = row.ours
    return CurvePanel(
        part.title,
        part.x or "",
        [Curve(label, points, ours[label]) for label, points in curves.items()],
    )


def _get_measured(m: MeasuredRow | None, column: str) -> Number | None:
    value = m.values.get(column) if m is not None else None
    return None if value is None else Number(value.mean, value.std)


def _get_published(row: TableRow, column: str) -> Number | None:
    known = row.published.get(column)
    return None if known is None else Number(known.value, known.deviation, known.read_off)
