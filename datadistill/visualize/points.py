"""Methods by the seconds that they learn and the accuracy of what they learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from datadistill.errors import UsageError
from datadistill.visualize.canvas import BLUE, GREY, ORANGE, clean, new_figure, own_style
from datadistill.visualize.tables import BLACK, HEAD, PANEL, WIDTH, Number

LINE = 18  # pixels from one label to the next
LABEL = 44  # characters


@dataclass(frozen=True)
class PointPanel:
    """Methods by seconds of learning and accuracy: label -> both; and accuracies without
    learning, label -> number, drawn as lines."""

    title: str
    points: Mapping[str, tuple[float, Number]]
    lines: Mapping[str, Number]


@own_style()
def points_figure(title: str, panels: Sequence[PointPanel]) -> Figure:
    """Methods by the processor's seconds of learning and accuracy, one panel below the other, each
    named at the right.

    Example:
        >>> panel = PointPanel("MNIST", {"DM": (120.0, Number(94.0, 0.3))}, {"real": Number(70.0)})
        >>> points_figure("Methods", [panel]).axes[0].get_xscale()
        'log'
    """
    shown = [panel for panel in panels if panel.points]
    if not shown:
        raise UsageError("the table has no row to draw; measure one of its parts first")
    figure = new_figure(WIDTH, HEAD + PANEL * len(shown), arranged=True)
    axes = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for ax, panel in zip(axes, shown, strict=True):
        _points(ax, panel)
    axes[-1].set_xlabel("seconds of the processor to learn the set")
    figure.suptitle(clean(title, 120), x=0.01, ha="left", fontsize=13)
    return figure


def _points(ax: Axes, panel: PointPanel) -> None:
    ax.set_xscale("log")
    for seconds, number in panel.points.values():
        ax.errorbar(
            seconds, number.value, yerr=number.deviation or 0.0, color=ORANGE, fmt="o", capsize=2
        )
    for number in panel.lines.values():
        ax.axhline(number.value, color=BLUE, linewidth=1)
    ax.margins(x=0.1, y=0.1)
    low, high = ax.get_ylim()
    named: list[tuple[Number, str, float | None, str]] = [
        (number, label, x, BLACK) for label, (x, number) in panel.points.items()
    ]
    named += [(number, label, None, BLUE) for label, number in panel.lines.items()]
    named.sort(key=lambda one: one[0].value)
    heights = spread([(one[0].value - low) / (high - low) for one in named], LINE / PANEL)
    for (number, label, x, color), height in zip(named, heights, strict=True):
        ax.annotate(
            f"{number}  {clean(label, LABEL)}",
            (1.0 if x is None else x, number.value),
            (1.03, height),
            xycoords=ax.get_yaxis_transform() if x is None else "data",
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color=color,
            arrowprops={
                "arrowstyle": "-",
                "color": GREY,
                "linewidth": 0.6,
                "relpos": (0.0, 0.5),  # from the middle of the label's left side
                "shrinkB": 3,
            },
        )
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylabel("percent of the test images")
    ax.set_title(clean(panel.title, 100), loc="left")


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Rising heights moved apart until none is nearer to the next than `gap`, the topmost not above
    1 where there is room.

    Example:
        >>> [round(y, 2) for y in spread([0.2, 0.5, 0.52, 0.99], 0.1)]
        [0.2, 0.5, 0.6, 0.99]
        >>> [round(y, 2) for y in spread([0.9, 0.95, 0.97], 0.1)]
        [0.8, 0.9, 1.0]
    """
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else height)
    top = 1.0
    for n in reversed(range(len(placed))):
        placed[n] = min(placed[n], top)
        top = placed[n] - gap
    return placed
