"""Rows of baselines and sentences that several tables share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datadistill.config import DistillConfig
from datadistill.reproduce.plan import ACCURACY, Scale, TableRow
from datadistill.studies.table import Published

LABELS = {
    "before": "before training",
    "ours": "ours",
    "random-real": "random real images",
    "optimized-real": "optimized real images",
    "k-means": "k-means centres",
    "average-real": "average real images",
    "knn-random-real": "k-NN on random real images",
    "knn-k-means": "k-NN on k-means centres",
    "full-target": "all training images",
}
"""Name of a measured row: as printed."""

IMAGE_BASELINES = ("random-real", "optimized-real", "k-means", "average-real")
NEIGHBOURS = ("knn-random-real", "knn-k-means")

SMOKE = (
    "This scale proves that the path works: its data, nets and lengths are not the paper's, and "
    "its numbers are not to be held against the published ones."
)
BEST = "Baselines: the best of the learned and the fixed step sizes, and of 1, 3 and 5 epochs."
FEWER = "At this scale baselines use learned step sizes only."
SELECTION = (
    "What is chosen (step size, epochs, the best of many sets, the rule of k-NN) is chosen on "
    "images of the training split with other nets; the test split is read for the chosen one only."
)
ONE_NET = (
    "What is chosen (step size, epochs, the best of many sets) is chosen on images of the training "
    "split with the one net that each run has, and tested with it; the test split is read for the "
    "chosen one only."
)
AS_LONG = "Learning is as long as the recipes say, not as the paper's 400 epochs of 4 to 16 nets."


def list_deviations(sets: Mapping[str, DistillConfig]) -> tuple[str, ...]:
    """Where sets leave the paper's form (gradient descent, hard labels, one step size a step,
    noise)."""
    said = []
    for name, c in sets.items():
        ways = [
            f"{c.update} as inner rule" if c.update != "sgd" else "",
            "learned soft labels" if c.labels == "soft" else "",
            "one step size for each step and tensor" if c.step_sizes == "per-tensor" else "",
            f"images start from {c.images_from}" if c.images_from != "noise" else "",
        ]
        if any(ways):
            said.append(f"{name}: {', '.join(way for way in ways if way)}")
    # runs that differ by seed, once
    by_text = {text.partition(": ")[2]: text for text in reversed(said)}
    kept = [text for text in said if by_text[text.partition(": ")[2]] == text]
    return (f"Where our set leaves the paper: {'; '.join(kept)}.",) if kept else ()


def candidates(scale: Scale) -> str:
    """The candidates of the baselines; fewer where only the path is to be shown."""
    return "learned" if scale == "smoke" else "all"


def choose_sizes(scale: Scale, **sizes: Sequence[int]) -> dict[str, int]:
    """The arguments of a measurement at a scale, each given as (smoke, cpu, full).

    >>> choose_sizes("cpu", nets=(2, 20, 200), sets=(1, 5, 10))
    {'nets': 20, 'sets': 5}
    """
    place = ("smoke", "cpu", "full").index(scale)
    return {name: values[place] for name, values in sizes.items()}


def row(
    name: str,
    measurement: str | None,
    published: Mapping[str, Published] | None = None,
    *,
    label: str = "",
    suffix: str = "",
    key: str = "",
    ours: bool = False,
) -> TableRow:
    """A row with the accuracy that was published for it. `label` and `suffix` are printed, by
    default those of `LABELS`; `key` is the published number, where not that of `name`; `ours` says
    whether it is the paper's method."""
    number = (published or {}).get(key or name)
    return TableRow(
        (label or LABELS[name]) + suffix,
        measurement,
        name,
        {} if number is None else {ACCURACY: number},
        ours,
    )


def attack_row(
    name: str, measurement: str, published: Mapping[str, Any], *, ours: bool = False
) -> TableRow:
    """A row of several columns."""
    label = "before" if name == "before" else LABELS[name]
    return TableRow(label, measurement, name, published.get(name, {}), ours)
