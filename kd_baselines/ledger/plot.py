"""Accuracy against bytes, a point for each row and storage.

Colours tell the row, markers how it is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from datadistill.errors import UsageError
from datadistill.visualize.canvas import BLUE, GREEN, GREY, ORANGE, clean, new_figure, own_style
from kd_baselines.ledger.table import FULL, Entry, Ledger

__all__ = ["ledger_figure"]

WIDTH, HEIGHT = 1100, 640  # pixels
MARKERS = {"uint8": "s", "float32": "o", "float16": "D", "int8": "v"}
COLOURS = {
    "real-hard": BLUE,
    "real-soft": "#56B4E9",
    "distilled": ORANGE,
    "distilled-own": "#E69F00",
    "distilled-soft": "#8C564B",
    "teacher": GREEN,
    "student": "#CC79A7",
    "born-again": "#7570B3",
    FULL: GREY,
}


@own_style()
def ledger_figure(found: Ledger) -> Figure:
    """Draw a ledger.

    Example:
        >>> net = Entry("student", "float32", {"weights": 246824}, None, {0: 98.0}, 0.0, 0, 60.0)
        >>> found = Ledger("mnist", (0,), (net,), shape=(1, 28, 28), classes=10, per_class=10)
        >>> ledger_figure(found).axes[0].get_xlabel()
        'bytes sent'
    """
    if not found.entries:
        raise UsageError("the ledger has no row to draw; make one of them first")
    figure = new_figure(WIDTH, HEIGHT, arranged=True)
    ax = figure.subplots()
    for entry in found.entries:
        _point(ax, entry)
    _axes(ax, found.entries)
    seeds = f"{len(found.seeds)} seed{'' if len(found.seeds) == 1 else 's'}"
    about = (
        f"{found.per_class} images a class, {seeds}, all test images; bars: 95% "
        "interval of the mean"
    )
    ax.set_title(f"Ledger {clean(found.name, 60)}: {about}")
    rows = dict.fromkeys(entry.row for entry in found.entries)
    storages = dict.fromkeys(entry.storage for entry in found.entries)
    handles = [_handle(row, "o", COLOURS.get(row, GREY)) for row in rows]
    handles += [_handle(name, MARKERS.get(name, "o"), GREY, fillstyle="none") for name in storages]
    figure.legend(handles=handles, loc="outside right upper")
    return figure


def _handle(label: str, marker: str, colour: str, **style: Any) -> Line2D:
    """A line of the legend: rows are filled, storages are outlines."""
    return Line2D(
        [], [], marker=marker, color=colour, linestyle="none", markersize=7, label=label, **style
    )


def _error_bar(entry: Entry) -> tuple[float, float]:
    """The error bar, within what an accuracy can be."""
    found = entry.accuracy
    if found.low is None or found.high is None:
        return found.mean, found.mean
    return max(0.0, found.low), min(100.0, found.high)


def _point(ax: Axes, entry: Entry) -> None:
    low, high = _error_bar(entry)
    colour, mean = COLOURS.get(entry.row, GREY), entry.accuracy.mean
    ax.vlines(entry.bytes, low, high, color=colour, linewidth=1.4, zorder=3)
    ax.plot(
        entry.bytes,
        mean,
        marker=MARKERS.get(entry.storage, "o"),
        markersize=6.5,
        color=colour,
        markeredgecolor="white",
        markeredgewidth=0.6,
        linestyle="none",
        zorder=4,
    )


def _axes(ax: Axes, entries: Sequence[Entry]) -> None:
    ax.set_xscale("log")
    sizes = [entry.bytes for entry in entries]
    ax.set_xlim(min(sizes) / 1.6, max(sizes) * 1.6)
    ends = [end for entry in entries for end in (*_error_bar(entry), entry.accuracy.mean)]
    room = max(1.0, 0.08 * (max(ends) - min(ends)))
    ax.set_ylim(min(ends) - room, max(ends) + room)
    few = max(sizes) / min(sizes) < 200
    ax.xaxis.set_major_locator(
        LogLocator(10.0, subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=20)
    )
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="bytes sent", ylabel="accuracy (% of the test images)")
