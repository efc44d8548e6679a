"""Accuracy against bytes, a point for each row and storage.

Colours tell what is sent (real images, a distilled set, weights), markers how it is stored. Every label stands
beside its point, or a thin line leads to it; no label covers another one, a point or an error bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from datadistill.errors import UsageError
from datadistill.visualize.canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    clean,
    new_figure,
    own_style,
    text_width,
)
from kd_baselines.ledger.table import FULL, Entry, Ledger

__all__ = ["ledger_figure"]

WIDTH, HEIGHT = 1100, 720  # pixels
LEFT, RIGHT, TOP, BOTTOM = 84, 20, 70, 90  # pixels around the axes
SIZE, LINE, GAP = 8.5, 15, 7  # points of a label, pixels of its line, pixels between a point and its label
REACH = 40  # lines that a label may stand away from its point
MARKERS = {"uint8": "s", "float32": "o", "float16": "D", "int8": "v"}
COLOURS = {"real": BLUE, "distilled": ORANGE, FULL: GREY}

Box = tuple[float, float, float, float]
"""Left, bottom, right, top in pixels."""


@dataclass(frozen=True)
class Placed:
    """A label and the box it fills."""

    text: str
    box: Box


@own_style()
def ledger_figure(found: Ledger) -> Figure:
    """Draw a ledger.

    Args:
        found: with at least one entry.

    Raises:
        UsageError: nothing to draw.

    Example:
        >>> net = Entry("student", "float32", {"weights": 246824}, None, {0: 98.0}, 0.0, 0, 60.0)
        >>> found = Ledger("mnist", (0,), (net,), shape=(1, 28, 28), classes=10, per_class=10)
        >>> ledger_figure(found).axes[0].get_xlabel()
        'bytes sent'
    """
    if not found.entries:
        raise UsageError("the ledger has no row to draw; make one of them first")
    figure = new_figure(WIDTH, HEIGHT)
    ax = figure.add_axes(
        (LEFT / WIDTH, BOTTOM / HEIGHT, (WIDTH - LEFT - RIGHT) / WIDTH, (HEIGHT - TOP - BOTTOM) / HEIGHT)
    )
    for entry in found.entries:
        _point(ax, entry)
    _axes(ax, found.entries)
    for entry, label in zip(found.entries, place(ax, found.entries), strict=True):
        _label(ax, entry, label)
    title = f"Ledger {clean(found.name, 60)}: what is sent, and what the receiver's student then gets right"
    figure.text(LEFT / WIDTH, 1 - 28 / HEIGHT, title, fontsize=13)
    seeds = f"{len(found.seeds)} seed{'' if len(found.seeds) == 1 else 's'}"
    about = f"{found.per_class} images a class, {seeds}, all test images; bars: 95% interval of the mean"
    figure.text(LEFT / WIDTH, 1 - 50 / HEIGHT, about, fontsize=9.5, color=GREY)
    storages = [storage for storage in MARKERS if any(e.storage == storage for e in found.entries)]
    handles = [
        Line2D([], [], marker=MARKERS[s], color=GREY, linestyle="none", markersize=6, label=s) for s in storages
    ]
    kinds = {"real": "real images", "distilled": "distilled set", "net": "weights", FULL: "all real images"}
    used = dict.fromkeys(_kind(e) for e in found.entries)
    handles += [
        Line2D([], [], marker="o", color=COLOURS.get(k, GREEN), linestyle="none", markersize=8, label=kinds[k])
        for k in used
    ]
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(LEFT / WIDTH, 0.0), ncols=len(handles))
    return figure


def _kind(entry: Entry) -> str:
    first = entry.row.partition("-")[0]
    return first if first in COLOURS else "net"


def _colour(entry: Entry) -> str:
    return COLOURS.get(_kind(entry), GREEN)


def _ends(entry: Entry) -> tuple[float, float]:
    """The error bar, within what an accuracy can be."""
    found = entry.accuracy
    if found.low is None or found.high is None:
        return found.mean, found.mean
    return max(0.0, found.low), min(100.0, found.high)


def _point(ax: Axes, entry: Entry) -> None:
    low, high = _ends(entry)
    colour, mean = _colour(entry), entry.accuracy.mean
    ax.vlines(entry.bytes, low, high, color=colour, linewidth=1.4, zorder=3)
    ax.plot(
        entry.bytes, mean, marker=MARKERS.get(entry.storage, "o"), markersize=6.5, color=colour,
        markeredgecolor="white", markeredgewidth=0.6, linestyle="none", zorder=4,
    )  # fmt: skip


def _axes(ax: Axes, entries: Sequence[Entry]) -> None:
    ax.set_xscale("log")
    sizes = [entry.bytes for entry in entries]
    ax.set_xlim(min(sizes) / 1.6, max(sizes) * 1.6)
    ends = [end for entry in entries for end in (*_ends(entry), entry.accuracy.mean)]
    room = max(1.0, 0.08 * (max(ends) - min(ends)))
    ax.set_ylim(min(ends) - room, max(ends) + room)
    few = max(sizes) / min(sizes) < 1000
    ax.xaxis.set_major_locator(LogLocator(10.0, subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=20))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="bytes sent", ylabel="accuracy (% of the test images)")


def place(ax: Axes, entries: Sequence[Entry]) -> list[Placed]:
    """A box for each label, none over another one, a point or an error bar, the nearest that is free.

    Args:
        ax: with its limits set.
        entries: as drawn.
    """
    at = [ax.transData.transform((e.bytes, e.accuracy.mean)) for e in entries]
    taken = [_drawn(ax, entry) for entry in entries]
    edges = ax.get_window_extent()
    found: list[Placed] = []
    for entry, (x, y) in zip(entries, at, strict=True):
        width = text_width(entry.name, SIZE) + 2
        boxes = list(_candidates(float(x), float(y), width))
        inside = [b for b in boxes if b[0] >= edges.x0 + 2 and b[2] <= edges.x1 - 2]
        inside = [b for b in inside if b[1] >= edges.y0 + 2 and b[3] <= edges.y1 - 2]
        free = [b for b in inside if not any(_overlap(b, other) for other in taken)]
        box = (free or inside or boxes)[0]
        taken.append(box)
        found.append(Placed(entry.name, box))
    return found


def _candidates(x: float, y: float, width: float) -> list[Box]:
    """Right and left of the point, then line by line away from it, then further out."""
    boxes: list[tuple[float, Box]] = []
    for n in range(REACH):
        for sign in (1, -1) if n else (1,):
            for reach in (GAP, 4 * GAP, 10 * GAP):
                for left in (x + reach, x - reach - width, x - width / 2):
                    if left == x - width / 2 and (n == 0 or reach > GAP):
                        continue
                    bottom = y + sign * n * LINE - LINE / 2
                    cost = n * LINE + (reach - GAP) * 0.8 + (1 if left < x else 0) + (0.5 if sign < 0 else 0)
                    boxes.append((cost, (left, bottom, left + width, bottom + LINE)))
    return [box for _, box in sorted(boxes, key=lambda pair: pair[0])]


def _drawn(ax: Axes, entry: Entry) -> Box:
    """The pixels of a point and its error bar."""
    low, high = _ends(entry)
    mean = entry.accuracy.mean
    x, bottom = ax.transData.transform((entry.bytes, min(low, mean)))
    top = ax.transData.transform((entry.bytes, max(high, mean)))[1]
    return float(x) - 5, float(bottom) - 5, float(x) + 5, float(top) + 5


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _label(ax: Axes, entry: Entry, label: Placed) -> None:
    left, bottom, right, top = label.box
    back = ax.transData.inverted()
    x, y = ax.transData.transform((entry.bytes, entry.accuracy.mean))
    nearest = (min(max(x, left), right), min(max(y, bottom + 3), top - 3))
    if (nearest[0] - x) ** 2 + (nearest[1] - y) ** 2 > (2 * GAP) ** 2:
        ends = back.transform([(x, y), nearest])
        ax.plot(ends[:, 0], ends[:, 1], color=_colour(entry), linewidth=0.6, alpha=0.6, zorder=2)
    where = back.transform((left + 1, (bottom + top) / 2))
    ax.text(
        where[0], where[1], label.text, fontsize=SIZE, va="center", ha="left", color=_colour(entry), zorder=5
    )
