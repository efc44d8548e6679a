"""Metrics of finished epochs over a training: one panel a metric, one line an arm.

The runs of an arm differ in their seeds; its line is their mean and the band around it their
population deviation. Of a training in stages the last stage is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from datadistill.errors import DataError, UsageError, suggest
from datadistill.runs.folder import RunFolder
from datadistill.stats import deviation, mean
from datadistill.studies.study import has_run
from datadistill.visualize.canvas import clean, is_number, log_axis, new_figure, own_style
from kd_baselines.studies.generations_plot import COLOURS

__all__ = ["metrics_figure", "read_metrics"]

PANEL_WIDTH, PANEL_HEIGHT, LEGEND = 500, 320, 180  # pixels
NOT_DRAWN = {"epoch", "stage"}
NARROW = 0.02  # smallest height of an axis, over the largest value on it
WIDE_RANGE = 30  # ratio of largest to smallest value from which an axis is logarithmic

Lines = dict[str, list[list[float]]]
"""Metric -> a value for each epoch, of each run of an arm."""


def read_metrics(folders: Sequence[Path], names: Sequence[str] = ()) -> dict[str, Lines]:
    """The metrics of runs by arm.

    Args:
        folders: run folders, or folders of studies, of which all runs inside are read.
        names: of the metrics; empty: all that are there. Runs without any of them are left out.

    Raises:
        UsageError: no run is there, or no run has a metric.
        DataError: the runs of an arm have different numbers of epochs.
    """
    runs = [RunFolder.open(path) for folder in folders for path in _list_runs(folder)]
    found: dict[str, Lines] = {}
    known: set[str] = set()
    for run in runs:
        records = run.read_metrics()
        records = [r for r in records if r.get("stage") == records[-1].get("stage")]
        numbers = {k for r in records for k, v in r.items() if is_number(v)} - NOT_DRAWN
        known |= numbers
        lines = found.setdefault(str(run.config.get("arm", run.path.name)), {})
        for name in names or sorted(numbers):
            if name in numbers:
                series = [float(r[name]) for r in records if is_number(r.get(name))]
                lines.setdefault(name, []).append(series)
    missing = [name for name in names if name not in known]
    if missing or not known:
        told = (
            f"no run has a metric {missing[0]!r}; {suggest(missing[0], known)}" if missing else ""
        )
        raise UsageError(told or "no run has a metric yet; train for an epoch first")
    for arm, lines in found.items():
        for name, several in lines.items():
            if len({len(series) for series in several}) > 1:
                raise DataError(
                    f"the runs of {arm} have different numbers of epochs with {name}; finish "
                    "those that were interrupted, or name the run folders to draw"
                )
    return {arm: lines for arm, lines in found.items() if lines}


def _list_runs(folder: Path) -> list[Path]:
    """The runs in the folder of a study, or the folder itself where it is one run."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    runs = [path for path in inside if has_run(path) and (path / "metrics.jsonl").exists()]
    # the run of a student has its teacher's inside
    if (folder / "metrics.jsonl").exists():
        return [folder]
    if not runs:
        raise UsageError(f"{folder} holds no run with metrics; name a run folder or a study's")
    return runs


@own_style()
def metrics_figure(title: str, arms: Mapping[str, Lines]) -> Figure:
    """One panel a metric, with the mean over the runs of each arm by epoch.

    Example:
        >>> arms = {"own": {"loss": [[0.5, 0.2], [0.7, 0.2]], "accuracy": [[80.0, 90.0]]}}
        >>> [ax.get_ylabel() for ax in metrics_figure("BAN", arms).axes]
        ['loss', 'accuracy']
    """
    names = list(dict.fromkeys(name for lines in arms.values() for name in lines))
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(PANEL_WIDTH * columns + LEGEND, PANEL_HEIGHT * rows + 40, arranged=True)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    drawn: dict[str, Line2D] = {}
    for ax, name in zip(axes, names, strict=False):
        values = []
        for n, (arm, lines) in enumerate(arms.items()):
            if name not in lines:
                continue
            epochs = range(1, len(lines[name][0]) + 1)
            at = list(zip(*lines[name], strict=True))
            centre = [mean(v) for v in at]
            spread = [deviation(v) for v in at]
            colour = COLOURS[n % len(COLOURS)]
            (drawn[arm],) = ax.plot(epochs, centre, color=colour, marker="o", markersize=3)
            low = [c - s for c, s in zip(centre, spread, strict=True)]
            high = [c + s for c, s in zip(centre, spread, strict=True)]
            ax.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
            values += centre
        if min(values) > 0 and max(values) / min(values) > WIDE_RANGE:
            log_axis(ax, values)
        else:
            _widen(ax)
        ax.set(xlabel="epoch", ylabel=clean(name, 40))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    figure.legend(
        list(drawn.values()), [clean(arm, 40) for arm in drawn], loc="outside right upper"
    )
    figure.suptitle(clean(title, 110), x=0.02, ha="left", fontsize=10.5)
    return figure


def _widen(ax: Axes) -> None:
    """Give a metric that hardly moves an axis on which it is seen to hardly move."""
    low, high = ax.get_ylim()
    missing = NARROW * max(abs(low), abs(high)) - (high - low)
    if missing > 0:
        ax.set_ylim(low - missing / 2, high + missing / 2)
    ax.ticklabel_format(axis="y", useOffset=False)
