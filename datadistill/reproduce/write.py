"""A result on paper: Markdown, CSV, and one figure.

The files hold no date, duration, host or path: what was measured once gives the same bytes again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datadistill.reproduce.paper import SOURCE
from datadistill.reproduce.plan import Part, Plan, Published, Row
from datadistill.reproduce.results import Measured, Result, Value
from datadistill.runs.atomic import write_text
from datadistill.stats import format_mean
from datadistill.visualize.canvas import save
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
COLUMNS = (
    "table", "scale", "part", "row", "x", "column", "mean", "deviation", "over", "nets", "sets", "runs",
    "bytes", "how", "published", "published_deviation", "published_in", "read_off_plot",
)  # fmt: skip
COUNTED = ("nets", "sets", "runs", "bytes", "how")
READ_OFF = "Numbers with ~ were read by eye off a plot of the paper, ± 2."
Entry = tuple[Row, Measured | None]


def write(plan: Plan, result: Result, folder: Path, command: str) -> list[Path]:
    """Write table.md, table.csv and figure.png.

    Args:
        plan: what was wanted.
        result: what was found; at least one part.
        folder: where to.
        command: what makes this table, for the page.

    Returns:
        The files.
    """
    write_text(folder / FILES[0], markdown(plan, result, command))
    write_text(folder / FILES[1], comma_separated(plan, result))
    save(figure(plan, result), folder / FILES[2])
    return [folder / name for name in FILES]


# --- Markdown


def markdown(plan: Plan, result: Result, command: str) -> str:
    """The page: how it was made, a table for each part, remarks, sources, hardware."""
    lines = [f"# {plan.title}, scale {plan.scale}", "", f"`{command}`", ""]
    lines += [plan.purpose, ""] if plan.purpose else []
    for part, rows in result.parts:
        entries = list(zip(part.rows, rows, strict=True))
        lines += [f"## {part.title}", "", *_table(part, entries), ""]
        lines += [*(f"- {remark}" for remark in part.remarks), ""] if part.remarks else []
    if result.missing:
        lines += [f"Not run here: {', '.join(result.missing)} (`{command} --only NAME`).", ""]
    lines += ["## Remarks", ""]
    lines += [f"- {remark}" for remark in (*plan.remarks, *_sources(result))]
    lines += ["", "## Machine", "", *(f"- {line}" for line in machine(result.environments)), ""]
    return "\n".join(lines)


def _table(part: Part, entries: Sequence[Entry]) -> list[str]:
    first = f"{part.x} |" if part.x is not None else ""
    head = [f"| {first} |"] if first else ["| |"]
    marks = ["| ---: | --- |"] if first else ["| --- |"]
    for column in part.columns:
        head.append(f" {part.headings[column]} (%) |")
        marks.append(" ---: |")
        if any(column in row.published for row in part.rows):
            head.append(" published (%) |")
            marks.append(" ---: |")
    tail = [" over |", " how |", " bytes |"] if any(m is not None for _, m in entries) else []
    return [
        "".join([*head, *tail]),
        "".join([*marks, *(" --- |" for _ in tail[:2]), *(" ---: |" for _ in tail[2:])]),
        *(_line(part, row, measured, bool(tail)) for row, measured in entries),
    ]


def _line(part: Part, row: Row, m: Measured | None, tail: bool) -> str:
    label = f"**{row.label}**" if row.ours else row.label
    cells = [f"{row.x:g}", label] if row.x is not None else [label]
    for column in part.columns:
        cells.append(number(m.values[column]) if m is not None and column in m.values else "-")
        if any(column in other.published for other in part.rows):
            known = row.published.get(column)
            cells.append("-" if known is None else published(known))
    if tail:
        cells += ["-", "", "-"] if m is None else [m.over, m.how, "-" if not m.bytes else f"{m.bytes:,}"]
    return f"| {' | '.join(cells)} |"


def number(value: Value) -> str:
    """A measured value.

    >>> number(Value(93.456, 1.0)), number(Value(96.6))
    ('93.5 ± 1.0', '96.6')
    """
    return str(Number(value.mean, value.std))


def published(known: Published) -> str:
    """A published number as the paper has it.

    >>> published(Published(93.76)), published(Published(75.0, read_off=True))
    ('93.76', '~75')
    """
    return f"{'~' if known.read_off else ''}{format_mean(known.value, known.deviation, 'g')}"


def _sources(result: Result) -> list[str]:
    numbers = [p for part, _ in result.parts for row in part.rows for p in row.published.values()]
    lines = ["Deviations are population deviations, over what the column says: sets x nets, or runs."]
    if numbers:
        where = "; ".join(dict.fromkeys(p.where for p in numbers))
        lines.append(f"Published: {where} of {SOURCE}.")
    return [*lines, READ_OFF] if any(p.read_off for p in numbers) else lines


def machine(environments: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each environment that numbers came from.

    Example:
        >>> machine([{"versions": {"torch": "2.6.0", "datadistill": "0.1.0"}, "device": "cpu",
        ...           "device_name": "some CPU", "threads": 2}])
        ['2 threads of some CPU, torch 2.6.0, datadistill 0.1.0']
    """
    lines = []
    for env in environments:
        versions = env.get("versions", {})
        count = env.get("threads", "?")
        on = f"{count} thread{'s' if count != 1 else ''} of {env.get('device_name', 'a CPU')}"
        if env.get("device") != "cpu":
            on = str(env.get("device_name", env.get("device")))
        lines.append(f"{on}, torch {versions.get('torch')}, datadistill {versions.get('datadistill')}")
    return list(dict.fromkeys(lines))


# --- CSV


def comma_separated(plan: Plan, result: Result) -> str:
    """One line for each row and column of each part; numbers in percent with four decimals."""
    held = io.StringIO()
    writer = csv.DictWriter(held, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in records(plan, result):
        writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in record.items()})
    return held.getvalue()


def records(plan: Plan, result: Result) -> Iterator[dict[str, Any]]:
    """The same as dicts, with None for what is not there: what --json prints."""
    for part, rows in result.parts:
        for row, m in zip(part.rows, rows, strict=True):
            for column in part.columns:
                value = m.values.get(column) if m is not None else None
                known = row.published.get(column)
                if value is None and known is None:
                    continue
                yield {
                    "table": plan.table, "scale": plan.scale, "part": part.name, "row": row.label, "x": row.x,
                    "column": column,
                    "mean": None if value is None else value.mean,
                    "deviation": None if value is None else value.std,
                    "over": None if m is None else m.over,
                    **{k: None if m is None else getattr(m, k) for k in COUNTED},
                    "published": None if known is None else known.value,
                    "published_deviation": None if known is None else known.deviation,
                    "published_in": None if known is None else known.where,
                    "read_off_plot": None if known is None else known.read_off,
                }  # fmt: skip


# --- figure


def figure(plan: Plan, result: Result) -> Any:
    """Bars for a table, lines for an ablation."""
    title = f"{plan.title}, scale {plan.scale}"
    if all(part.x is not None for part, _ in result.parts):
        return lines_figure(title, [_curves(part, rows) for part, rows in result.parts])
    panels = []
    for part, rows in result.parts:
        for column in part.columns:
            named = f"{part.title}: {part.headings[column]}" if len(part.columns) > 1 else part.title
            bars = [
                Bar(row.label, _measured(m, column), _known(row, column), row.ours)
                for row, m in zip(part.rows, rows, strict=True)
            ]
            panels.append(BarPanel(named, bars))
    return bars_figure(title, panels)


def _curves(part: Part, rows: Sequence[Measured | None]) -> CurvePanel:
    curves: dict[str, list[Point]] = {}
    ours: dict[str, bool] = {}
    for row, m in zip(part.rows, rows, strict=True):
        column = part.columns[0]
        point = Point(row.x or 0.0, _measured(m, column), _known(row, column))
        curves.setdefault(row.label, []).append(point)
        ours[row.label] = row.ours
    return CurvePanel(
        part.title, part.x or "", [Curve(label, points, ours[label]) for label, points in curves.items()]
    )


def _measured(m: Measured | None, column: str) -> Number | None:
    value = m.values.get(column) if m is not None else None
    return None if value is None else Number(value.mean, value.std)


def _known(row: Row, column: str) -> Number | None:
    known = row.published.get(column)
    return None if known is None else Number(known.value, known.deviation, known.read_off)
