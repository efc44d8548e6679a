"""The canvas of all figures: no display, plain text, PNG bytes that repeat.

Only matplotlib's object-oriented API with the Agg renderer is used: no pyplot, no window, no
current figure. A user's matplotlib style has no say: figures are built and rendered under the
library's own, which is put back afterwards, so the same data give the same bytes. Text that comes
from files (class names, recipes) is shown as it stands: `$` starts no formula, and characters that
cannot be printed become spaces.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Iterator, Sequence

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from datadistill.runs.atomic import write_bytes

DPI = 100  # so that 1 point is 1.39 pixels, and 16 inches are the widest figure
MAX_WIDTH = 1600
MIN_WIDTH = 900  # room for the longest line above a step
FONT = "DejaVu Sans"  # comes with matplotlib

# Okabe and Ito's palette: told apart with any colour vision
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"

_STYLE = {
    "font.family": FONT,
    "font.size": 10,
    "text.parse_math": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


class NotebookFigure(Figure):
    """A Figure that a notebook shows as the PNG that `save` would write."""

    def _repr_png_(self) -> bytes:
        return png_bytes(self)


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """matplotlib's defaults and the library's style on top, for the length of a block."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


def new_figure(width: int, height: int, *, arranged: bool = False) -> Figure:
    """An empty figure of so many pixels, with an Agg canvas; `arranged` makes room for labels by
    itself."""
    figure = NotebookFigure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    if arranged:
        figure.set_layout_engine(ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.1, hspace=0.02))
    FigureCanvasAgg(figure)
    return figure


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG without date or software in it: the same bytes for the same figure."""
    buffer = io.BytesIO()
    with own_style():
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as a PNG, whole or not at all; the folder must exist. Mode 0644."""
    write_bytes(path, png_bytes(figure))


# --- text


def clean(text: object, limit: int = 400) -> str:
    """One line of printable text of at most `limit` characters."""
    # cut first: a name of a million characters costs nothing
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)[: 2 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


@functools.cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, DPI)


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Pixels that a line of text takes at `size` points."""
    font = FontProperties(family=FONT, size=size, weight=weight)
    return _renderer().get_text_width_height_descent(text, font, ismath=False)[0]


def shorten(text: str, width: float, size: float, weight: str = "normal") -> str:
    """The text, or as much of its beginning as fits into `width` pixels and an ellipsis."""
    if text_width(text, size, weight) <= width:
        return text
    low, high = 0, len(text)  # text[:low] + "…" fits (or nothing does), text[:high] + "…" does not
    while high - low > 1:
        middle = (low + high) // 2
        fits = text_width(text[:middle].rstrip() + "…", size, weight) <= width
        low, high = (middle, high) if fits else (low, middle)
    return text[:low].rstrip() + "…"


def wrap(text: str, width: float, size: float, lines: int, weight: str = "normal") -> list[str]:
    """The text in at most `lines` lines of `width` pixels; what does not fit ends in an
    ellipsis."""
    found = [""]
    words = text.split(" ")
    for n, word in enumerate(words):
        longer = f"{found[-1]} {word}".strip()
        if text_width(longer, size, weight) <= width or not found[-1]:
            found[-1] = longer
        elif len(found) < lines:
            found.append(word)
        else:
            found[-1] = " ".join([found[-1], *words[n:]])
            break
    return [shorten(line, width, size, weight) for line in found]


def is_number(value: object) -> bool:
    """Whether a value read from JSON is a number that can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


# --- axes


def log_axis(ax: Axes, values: list[float]) -> None:
    """A logarithmic y axis with plain numbers on it, fit for these positive values."""
    ax.set_yscale("log")
    ratio = max(values) / min(values) if values else 1.0
    subs = (1.0, 2.0, 5.0) if ratio < 200 else (1.0,)
    if values:
        ax.set_ylim(min(values) / max(1.15, ratio**0.06), max(values) * max(1.15, ratio**0.06))
    if ratio < 4:  # less than a decade has too few of 1, 2, 5
        ax.yaxis.set_major_locator(MaxNLocator(5))
    else:
        ax.yaxis.set_major_locator(LogLocator(10.0, subs=subs, numticks=12))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.4g}"))


def iteration_axis(ax: Axes, iterations: Sequence[int]) -> None:
    """An x axis of outer iterations: whole numbers, with a comma at thousands."""
    only = set(iterations)
    ax.xaxis.set_major_locator(
        FixedLocator(list(only)) if len(only) == 1 else MaxNLocator(8, integer=True)
    )
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
