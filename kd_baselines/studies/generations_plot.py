"""Error by generation: a line of single nets for each arm, its ensembles, and the teacher's
level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from datadistill.errors import UsageError
from datadistill.stats import deviation, mean
from datadistill.visualize.canvas import BLUE, GREEN, GREY, ORANGE, clean, new_figure, own_style

__all__ = ["Descent", "generations_figure"]

WIDTH, HEIGHT = 1000, 520  # pixels
FRAME, ENTRY = 60, 22  # pixels around the legend, and of a line of it
BESIDE = 0.03  # generations between the lines of two arms
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00")  # Okabe and Ito's palette
MARKERS = "osD^vP"  # beyond six arms, colours come again with other markers
LABEL = 40  # characters of an arm's name


@dataclass(frozen=True)
class Descent:
    """The scores of one arm's chains.

    Args:
        arm: its name.
        nets: generation 0 to G -> the score of each seed.
        ensembles: k -> the score of each seed, of generations 1 to k together.
        with_teacher: the same of generations 0 to G together; empty: not drawn.
    """

    arm: str
    nets: Sequence[Sequence[float]]
    ensembles: Mapping[int, Sequence[float]]
    with_teacher: Sequence[float] = ()


@own_style()
def generations_figure(title: str, descents: Sequence[Descent], y: str) -> Figure:
    """The mean over seeds by generation; bars are -+ the population deviation, ensembles are
    dashed. `y` names the scores.

    Example:
        >>> chain = Descent("own", [(9.0, 9.4), (8.1, 8.5), (8.0, 8.2)], {2: (7.5, 7.7)})
        >>> generations_figure("BAN on MNIST", [chain], "error (%)").axes[0].get_xlabel()
        'generation (of an ensemble: its last)'
    """
    if not descents or not all(len(chain.nets) for chain in descents):
        raise UsageError("there is no generation to draw; train one first")
    entries = sum(1 + bool(chain.ensembles) + bool(chain.with_teacher) for chain in descents)
    figure = new_figure(WIDTH, max(HEIGHT, FRAME + ENTRY * entries), arranged=True)
    ax = figure.subplots()
    teachers = {tuple(chain.nets[0]) for chain in descents}
    for n, chain in enumerate(descents):
        colour = COLOURS[n % len(COLOURS)]
        marker = MARKERS[n // len(COLOURS) % len(MARKERS)]
        means = [mean(values) for values in chain.nets]
        spread = [deviation(values) for values in chain.nets]
        name = clean(chain.arm, LABEL)
        # so that bars of several arms do not hide each other
        beside = BESIDE * (n - (len(descents) - 1) / 2)
        xs = [g + beside for g in range(len(means))]
        ax.plot(xs, means, color=colour, marker=marker, markersize=5, label=f"{name}, single nets")
        if any(spread):
            ax.errorbar(xs, means, spread, fmt="none", ecolor=colour, capsize=3, elinewidth=1)
        if len(teachers) > 1:
            ax.axhline(means[0], color=colour, linestyle=":", linewidth=1, zorder=1)
        if chain.ensembles:
            ks = sorted(chain.ensembles)
            levels = [mean(chain.ensembles[k]) for k in ks]
            ax.plot(
                [k + beside for k in ks],
                levels,
                color=colour,
                linestyle="--",
                marker=marker,
                markersize=7,
                markerfacecolor="white",
                label=f"{name}, BANE(k)",
            )
        if chain.with_teacher:
            last = len(means) - 1
            ax.plot(
                last + beside,
                mean(chain.with_teacher),
                color=colour,
                linestyle="none",
                marker="*",
                markersize=11,
                markerfacecolor="white",
                label=f"{name}, BANE({last}) and the teacher",
            )
    if len(teachers) == 1:
        level = mean(descents[0].nets[0])
        ax.axhline(level, color=GREY, linestyle=":", linewidth=1.2, zorder=1, label="teacher")
    ax.set(xlabel="generation (of an ensemble: its last)", ylabel=clean(y, LABEL))
    ax.set_title(clean(title, 110))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside right upper")
    return figure
