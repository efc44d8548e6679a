"""Curves of a run: loss, accuracy, gradient norm and step sizes over outer iterations.

Drawn from the records of metrics.jsonl, each with `iteration`, `loss` (None where no iteration
counted), `accuracy` and `accuracy_std` on the validation split (percent), `gradient_norm` (a
running mean) and `step_sizes`, one for each of the T inner steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from datadistill.errors import DataError, UsageError
from datadistill.visualize.canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    is_number,
    iteration_axis,
    log_axis,
    new_figure,
    own_style,
)

WIDTH, PANEL = 900, 250  # pixels
FEW = 40  # records up to which every one gets a marker
WIDE_RANGE = 30  # ratio of largest to smallest loss from which its axis is logarithmic


@own_style()
def curves_figure(metrics: Sequence[dict[str, Any]]) -> Figure:
    """Outer loss, validation accuracy and, where recorded, the norm of the outer gradient.

    Example:
        >>> record = {"iteration": 100, "loss": 0.5, "accuracy": 80.0, "accuracy_std": 0.0}
        >>> [ax.get_title(loc="left") for ax in curves_figure([record]).axes]
        ['Outer loss: 0.5', 'Validation accuracy: 80.0 %']
    """
    iterations = iterations_of(metrics)
    loss, accuracy, deviation, norm = (
        series(metrics, key) for key in ("loss", "accuracy", "accuracy_std", "gradient_norm")
    )
    panels = 3 if any(math.isfinite(v) for v in norm) else 2
    figure = new_figure(WIDTH, PANEL * panels + 20, arranged=True)
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    _line(axes[0], iterations, loss, BLUE, "no loss was recorded")
    positive = [v for v in loss if math.isfinite(v)]
    if positive and min(positive) > 0 and max(positive) / min(positive) > WIDE_RANGE:
        log_axis(axes[0], positive)
    skipped = [n for n in series(metrics, "skipped") if math.isfinite(n)]
    passed_over = (
        f"; {skipped[-1]:.0f} iterations skipped as not finite"
        if skipped and skipped[-1] > 0
        else ""
    )
    title = _title("Outer loss", iterations, loss, ("lowest", min), "{:.4g}")
    axes[0].set(title=title + passed_over, ylabel="loss")

    _line(axes[1], iterations, accuracy, ORANGE, "no accuracy was recorded")
    band = ""
    if any(s > 0 for s in deviation):
        spread = [0.0 if math.isnan(s) else s for s in deviation]
        low = [max(0.0, a - s) for a, s in zip(accuracy, spread, strict=True)]
        high = [min(100.0, a + s) for a, s in zip(accuracy, spread, strict=True)]
        if len(metrics) == 1:
            axes[1].vlines(iterations, low, high, color=ORANGE, linewidth=6, alpha=0.25)
        else:
            axes[1].fill_between(iterations, low, high, color=ORANGE, alpha=0.2, linewidth=0)
        band = "; band: ± deviation over nets"
    title = _title("Validation accuracy", iterations, accuracy, ("best", max), "{:.1f} %")
    axes[1].set(title=title + band, ylabel="percent")

    if panels == 3:
        _line(axes[2], iterations, norm, GREEN, "")
        positive = [v for v in norm if math.isfinite(v) and v > 0]
        if positive:
            log_axis(axes[2], positive)
        axes[2].set(title="Norm of the outer gradient (running mean)", ylabel="norm")
    iteration_axis(axes[-1], iterations)
    axes[-1].set_xlabel("outer iteration")
    return figure


def iterations_of(metrics: Sequence[dict[str, Any]]) -> list[int]:
    """The iteration of every record; refuses an empty list."""
    if not metrics:
        raise UsageError(
            "metrics has no record, wanted at least one; a run writes them as it looks at its set"
        )
    for n, record in enumerate(metrics):
        if type(record.get("iteration")) is not int or not is_number(record["iteration"]):
            found = repr(record.get("iteration"))[:40]
            raise DataError(
                f"record {n} of the metrics has iteration {found}, wanted a whole number: the file "
                "was edited, or is not one of a distillation run"
            )
    return [record["iteration"] for record in metrics]


def series(metrics: Sequence[dict[str, Any]], key: str) -> list[float]:
    """A value of every record, NaN where it is None or absent."""
    for n, record in enumerate(metrics):
        value = record.get(key)
        if value is not None and not is_number(value):
            raise DataError(
                f"record {n} of the metrics has {key} {str(value)[:40]!r}, wanted a number or none"
            )
    return [math.nan if record.get(key) is None else float(record[key]) for record in metrics]


def markers(count: int) -> dict[str, Any]:
    """Line options: every point marked as long as there are few."""
    return {"marker": "o", "markersize": 4} if count <= FEW else {}


def _line(
    ax: Axes, iterations: list[int], values: list[float], colour: str, otherwise: str
) -> None:
    ax.plot(iterations, values, color=colour, **markers(sum(map(math.isfinite, values))))
    if not any(math.isfinite(v) for v in values):
        ax.text(0.5, 0.5, otherwise, transform=ax.transAxes, ha="center", va="center", color=GREY)
        ax.set_yticks([])


def _title(
    what: str, iterations: list[int], values: list[float], best: tuple[str, Any], form: str
) -> str:
    """Name, last and best value: what one would look for in the panel."""
    known = [(v, i) for v, i in zip(values, iterations, strict=True) if math.isfinite(v)]
    if not known:
        return what
    if len(known) == 1:
        return f"{what}: {form.format(known[0][0])}"
    word, choose = best
    value = choose(v for v, _ in known)
    at = next(i for v, i in known if v == value)
    if at == known[-1][1]:
        return f"{what}: last and {word} {form.format(value)}"
    return (
        f"{what}: last {form.format(known[-1][0])}, {word} {form.format(value)} (iteration {at:,})"
    )
