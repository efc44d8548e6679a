"""The learned step sizes: over outer iterations, and as they stand, step by step.

Notation: eta_t the step size of inner step t = 1..T; with one for each parameter tensor, their
geometric mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError
from datadistill.visualize.canvas import (
    GREY,
    is_number,
    iteration_axis,
    log_axis,
    new_figure,
    own_style,
)
from datadistill.visualize.curves import iterations_of, markers
from datadistill.visualize.describe import mean_step_sizes, steps_an_epoch

HEIGHT = 460  # pixels
MAX_LEGEND = 10  # lines named one by one; a colour bar beyond
MAX_EPOCHS = 12  # marked one by one


@own_style()
def step_sizes_figure(
    metrics: Sequence[dict[str, Any]], distilled: DistilledDataset | None = None
) -> Figure:
    """Step sizes over outer iterations, one line a step, and the final ones by step. Logarithmic
    axes.

    Args:
        metrics: records of metrics.jsonl; may be empty where `distilled` is given.
        distilled: the set, for its final step sizes and epochs; the last record's are taken without
            it. Of step sizes for each parameter tensor, it shows the range over tensors.

    Example:
        >>> records = [{"iteration": i, "step_sizes": [0.02, 0.02 + i / 100]} for i in (0, 1, 2)]
        >>> len(step_sizes_figure(records).axes)
        2
    """
    if not metrics and distilled is None:
        raise UsageError("there are neither metrics nor a distilled set; pass one of them")
    table = _table(metrics) if metrics else []
    final = table[-1] if distilled is None else mean_step_sizes(distilled).tolist()
    figure = new_figure(1200 if table else 700, HEIGHT, arranged=True)
    if not table:
        _plot_by_step(figure.add_subplot(), final, distilled)
        return figure
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    _plot_over_iterations(left, iterations_of(metrics), table)
    _plot_by_step(right, final, distilled)
    return figure


def _table(metrics: Sequence[dict[str, Any]]) -> list[list[float]]:
    """(records, T); NaN for what a logarithmic axis cannot show."""
    first = metrics[0].get("step_sizes")
    T = len(first) if isinstance(first, list) else 0
    for n, record in enumerate(metrics):
        row = record.get("step_sizes")
        fits = isinstance(row, list) and len(row) == T and all(is_number(v) for v in row)
        if not fits or not T:
            wanted = f"a list of {T} numbers, as in the first record" if T else "a list of numbers"
            raise DataError(
                f"record {n} of the metrics has step_sizes {str(row)[:40]!r}, wanted {wanted}"
            )
    return [[float(v) if v > 0 else math.nan for v in record["step_sizes"]] for record in metrics]


def _colours(T: int) -> list[Any]:
    """Dark for the first step, light for the last; viridis is ordered for any colour vision."""
    viridis = matplotlib.colormaps["viridis"]
    return [viridis(0.9 * t / max(1, T - 1)) for t in range(T)]


def _plot_over_iterations(ax: Axes, iterations: list[int], table: list[list[float]]) -> None:
    T = len(table[0])
    # NaN is unequal to itself: not shared
    shared = T > 1 and all(len(set(row)) == 1 for row in table)
    style = (
        markers(len(table)) if shared or T <= MAX_LEGEND or len(table) == 1 else {"linewidth": 1.1}
    )
    for t, colour in enumerate(_colours(1 if shared else T)):
        label = f"all {T} steps" if shared else f"step {t + 1}"
        ax.plot(iterations, [row[t] for row in table], color=colour, label=label, **style)
    log_axis(ax, [v for row in table for v in row if math.isfinite(v)])
    iteration_axis(ax, iterations)
    ax.set(title="Learned step sizes", xlabel="outer iteration", ylabel="η")
    if shared or T <= MAX_LEGEND:
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
        return
    cut = matplotlib.colors.ListedColormap(_colours(256))
    bar = ax.figure.colorbar(ScalarMappable(Normalize(1, T), cut), ax=ax, pad=0.02, aspect=30)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0f}"))
    bar.set_label("position in the unroll: step t")
    bar.ax.grid(False)


def _plot_by_step(ax: Axes, final: list[float], distilled: DistilledDataset | None) -> None:
    T, label = len(final), "η"
    known = [v for v in final if v > 0]
    place = list(range(1, T + 1))
    ax.plot(place, final, color="#bbbbbb", linewidth=1.2, zorder=1)
    if distilled is not None and distilled.step_sizes.dim() == 2:
        sizes = distilled.step_sizes.double().cpu()
        low, high = sizes.amin(1).tolist(), sizes.amax(1).tolist()
        ax.vlines(place, low, high, color=GREY, linewidth=1.2, alpha=0.6, zorder=2)
        known += low + high
        label = f"η: geometric mean and range over {sizes.shape[1]} tensors"
    ax.scatter(place, final, c=_colours(T), s=36 if T <= 60 else 12, zorder=3)
    log_axis(ax, known)
    ax.set(
        title="Final step sizes, by step",
        xlabel="step t of the unroll",
        ylabel=label,
        xlim=(0.4, T + 0.6),
    )
    ax.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0f}"))
    steps = T if distilled is None else steps_an_epoch(distilled)
    if 1 < T // steps <= MAX_EPOCHS:
        low_end, high_end = ax.get_ylim()
        ax.set_ylim(low_end, high_end * (high_end / low_end) ** 0.07)  # room for the words
        for epoch in range(T // steps):
            if epoch:
                ax.axvline(epoch * steps + 0.5, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
            name = f"epoch {epoch + 1}" if T // steps <= 5 else f"{epoch + 1}"
            ax.text(
                (epoch + 0.5) * steps + 0.5,
                0.985,
                name,
                fontsize=9,
                color=GREY,
                transform=ax.get_xaxis_transform(),
                ha="center",
                va="top",
            )
