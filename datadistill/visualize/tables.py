"""Figures of a reproduced table: the measured and the published numbers.

Bars for methods, lines for ablations. A published number is a diamond, hollow where it was read by
eye off a plot; deviations are thin lines. Colours: orange for the paper's method, blue for
everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MultipleLocator, NullLocator

from datadistill.errors import UsageError
from datadistill.stats import format_mean
from datadistill.visualize.canvas import BLUE, GREY, ORANGE, clean, new_figure, own_style

WIDTH = 1000  # pixels
BAR, FRAME, PANEL = 30, 80, 330  # pixels of a bar, around the bars, of a panel of lines
HEAD = 80  # pixels for title and legend
LABEL = 60  # characters
BLACK = "#111111"


@dataclass(frozen=True)
class Number:
    """A value in percent with what stands behind its ±.

    >>> str(Number(93.456, 0.5)), str(Number(96.6))
    ('93.5 ± 0.5', '96.6')
    """

    value: float
    deviation: float | None = None
    read_off: bool = False

    def __str__(self) -> str:
        return f"{'~' if self.read_off else ''}{format_mean(self.value, self.deviation, '.1f')}"


@dataclass(frozen=True)
class Bar:
    """A method: what was measured, what was published; either may be absent."""

    label: str
    measured: Number | None
    published: Number | None = None
    ours: bool = False


@dataclass(frozen=True)
class BarPanel:
    """Methods below each other, for one data set or one score."""

    title: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Point:
    """A point of a curve; either number may be absent."""

    x: float
    measured: Number | None
    published: Number | None = None


@dataclass(frozen=True)
class Curve:
    """Points in the order of x."""

    label: str
    points: Sequence[Point]
    ours: bool = True


@dataclass(frozen=True)
class CurvePanel:
    """Curves over one axis."""

    title: str
    x: str
    curves: Sequence[Curve]


@own_style()
def bars_figure(
    title: str, panels: Sequence[BarPanel], x: str = "percent of the test images"
) -> Figure:
    """Horizontal bars, one panel below the other, with the numbers at their right; `x` stands below
    the last.

    Example:
        >>> bar = Bar("ours", Number(89.7, 1.4), Number(79.5, 8.1), ours=True)
        >>> [
        ...     ax.get_title(loc="left")
        ...     for ax in bars_figure("Table 1", [BarPanel("MNIST", [bar])]).axes
        ... ]
        ['MNIST']
    """
    counts = [len(panel.bars) for panel in panels]
    if not counts or not all(counts):
        raise UsageError("the table has no row to draw; measure one of its parts first")
    figure = new_figure(WIDTH, HEAD + sum(FRAME + BAR * n for n in counts), arranged=True)
    ratios = [FRAME / BAR + n for n in counts]
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=ratios)[:, 0]
    for ax, panel in zip(axes, panels, strict=True):
        _bars(ax, panel)
    axes[-1].set_xlabel(x)
    _head(figure, title, [bar for panel in panels for bar in panel.bars])
    return figure


def _bars(ax: Axes, panel: BarPanel) -> None:
    for y, bar in enumerate(panel.bars):
        if bar.measured is not None:
            m = bar.measured
            ax.barh(y, m.value, height=0.62, color=ORANGE if bar.ours else BLUE, alpha=0.85)
            if m.deviation:
                ax.hlines(
                    y - 0.12,
                    m.value - m.deviation,
                    m.value + m.deviation,
                    color=BLACK,
                    linewidth=1.2,
                )
        if bar.published is not None:
            _draw_published(ax, bar.published, y + 0.16)
        known = [str(bar.measured) if bar.measured is not None else "not measured"]
        known += [f"(published {bar.published})"] if bar.published is not None else []
        ax.text(
            101.5,
            y,
            "  ".join(known),
            va="center",
            fontsize=9,
            color=BLACK if bar.measured else GREY,
            clip_on=False,
        )
    ax.set_title(clean(panel.title, 110))
    ax.set_yticks(range(len(panel.bars)), [clean(bar.label, LABEL) for bar in panel.bars])
    ax.set_ylim(len(panel.bars) - 0.4, -0.6)
    ax.set_xlim(0, 100)
    ax.xaxis.set_major_locator(MultipleLocator(10))
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)


def _draw_published(ax: Axes, number: Number, y: float) -> None:
    if number.deviation:
        low, high = (
            max(0.0, number.value - number.deviation),
            min(100.0, number.value + number.deviation),
        )
        ax.hlines(y, low, high, color="white", linewidth=3, zorder=3)  # to be seen on a bar
        ax.hlines(y, low, high, color=GREY, linewidth=1.2, zorder=4)
    ax.plot(
        number.value,
        y,
        marker="D",
        markersize=6,
        markeredgecolor=BLACK,
        linestyle="none",
        zorder=5,
        markerfacecolor="white" if number.read_off else BLACK,
    )


@own_style()
def lines_figure(
    title: str, panels: Sequence[CurvePanel], y: str = "percent of the test images"
) -> Figure:
    """Accuracy along steps, epochs or images, with a band of ± the deviation and the published
    points; `y` stands at the left.

    Example:
        >>> points = [
        ...     Point(1, Number(30.1, 5.0), Number(30.0, read_off=True)),
        ...     Point(5, Number(62.0, 4.0)),
        ... ]
        >>> panel = CurvePanel("MNIST", "gradient steps", [Curve("ours", points)])
        >>> lines_figure("Figure 4", [panel]).axes[0].get_xlabel()
        'gradient steps'
    """
    drawn = [p for panel in panels for curve in panel.curves for p in curve.points]
    if not drawn or not all(any(curve.points for curve in panel.curves) for panel in panels):
        raise UsageError("the figure has no point to draw; measure one of its parts first")
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(
        WIDTH if columns > 1 else WIDTH * 2 // 3, HEAD + PANEL * rows, arranged=True
    )
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax, panel in zip(axes.flat, panels, strict=False):
        _lines(ax, panel)
    for ax in axes[:, 0]:
        ax.set_ylabel(y)
    _head(figure, title, drawn)
    return figure


def _lines(ax: Axes, panel: CurvePanel) -> None:
    for curve in panel.curves:
        colour = ORANGE if curve.ours else BLUE
        known = [(p.x, p.measured) for p in curve.points if p.measured is not None]
        xs, ys = [x for x, _ in known], [m.value for _, m in known]
        ax.plot(xs, ys, color=colour, marker="o", markersize=5, label=clean(curve.label, LABEL))
        spread = [m.deviation or 0.0 for _, m in known]
        if any(spread):
            low = [v - s for v, s in zip(ys, spread, strict=True)]
            high = [v + s for v, s in zip(ys, spread, strict=True)]
            ax.fill_between(xs, low, high, color=colour, alpha=0.18, linewidth=0)
        for p in curve.points:
            if p.published is not None:
                ax.plot(
                    p.x,
                    p.published.value,
                    marker="D",
                    markersize=6,
                    markeredgecolor=colour,
                    linestyle="none",
                    markerfacecolor="white" if p.published.read_off else colour,
                    zorder=5,
                )
    ax.set(xlabel=panel.x, ylim=(0, 100))
    ax.set_title(clean(panel.title, 60))
    ax.xaxis.set_major_locator(
        FixedLocator(sorted({p.x for curve in panel.curves for p in curve.points}))
    )
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.legend(loc="best")


def _head(figure: Figure, title: str, drawn: Sequence[Bar | Point]) -> None:
    """Title and legend: only of what is there."""
    figure.suptitle(clean(title, 120), x=0.01, ha="left", fontsize=13)
    bars = [item for item in drawn if isinstance(item, Bar)]
    handles: list[Artist] = (
        [Patch(color=ORANGE, alpha=0.85, label="ours")] if any(b.ours for b in bars) else []
    )
    if any(not b.ours for b in bars):
        handles.append(Patch(color=BLUE, alpha=0.85, label="others"))
    published = [item.published for item in drawn if item.published is not None]
    for read_off, words in ((False, "published"), (True, "published, read off a plot (± 2)")):
        if any(p.read_off == read_off for p in published):
            face = "white" if read_off else BLACK
            handles.append(
                Line2D(
                    [],
                    [],
                    marker="D",
                    color=BLACK,
                    markerfacecolor=face,
                    linestyle="none",
                    label=words,
                )
            )
    if handles:
        figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))
