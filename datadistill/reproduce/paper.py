"""The published numbers of Wang et al. 2018, in percent.

Reference: T. Wang, J.-Y. Zhu, A. Torralba, A. A. Efros, Dataset Distillation, 2018,
https://arxiv.org/abs/1811.10959 (version 1); the attack's numbers are those of the authors' project
page. Those of figures 4, 5 and 6 were read off the plots by eye, ± 2, and are marked so wherever
they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping

from datadistill.reproduce.plan import ACCURACY
from datadistill.studies.table import Published

SOURCE = "Wang et al. 2018, Dataset Distillation, https://arxiv.org/abs/1811.10959"


def _cite(where: str, numbers: Mapping[str, tuple[float, ...]]) -> dict[str, Published]:
    return {
        name: Published(n[0], n[1] if len(n) > 1 else None, where) for name, n in numbers.items()
    }


# rows are called as `evaluation.compare` calls them
TABLE1: dict[str, dict[str, Published]] = {
    "mnist": _cite("table 1", {
        "ours-fixed": (96.6,), "ours-random": (79.5, 8.1), "random-real": (68.6, 9.8),
        "optimized-real": (73.0, 7.6), "k-means": (76.4, 9.5), "average-real": (77.1, 2.7),
        "knn-random-real": (71.5, 2.1), "knn-k-means": (92.2, 0.1),
    }),
    "cifar10": _cite("table 1", {
        "ours-fixed": (54.0,), "ours-random": (36.8, 1.2), "random-real": (21.3, 1.5),
        "optimized-real": (23.4, 1.3), "k-means": (22.5, 3.1), "average-real": (22.3, 0.7),
        "knn-random-real": (18.8, 1.3), "knn-k-means": (29.4, 0.3),
    }),
}  # fmt: skip

_ADAPTED = (
    "ours-fixed",
    "ours-random",
    "random-real",
    "optimized-real",
    "k-means",
    "average-real",
    "Motiian 2017",
    "before",
    "full-target",
)


def _adaptation(*numbers: tuple[float, ...]) -> dict[str, Published]:
    return _cite("table 2", dict(zip(_ADAPTED, numbers, strict=True)))


TABLE2: dict[str, dict[str, Published]] = {
    "m-to-u": _adaptation(
        (97.9,), (95.4, 1.8), (94.9, 0.8), (95.2, 0.7), (92.2, 1.6), (93.9, 0.8), (96.7, 0.5),
        (90.4, 3.0), (97.3, 0.3),
    ),
    "u-to-m": _adaptation(
        (93.2,), (92.7, 1.4), (87.1, 2.9), (87.6, 2.1), (85.6, 3.1), (78.4, 5.0), (89.2, 2.4),
        (67.5, 3.9), (98.6, 0.5),
    ),
    "s-to-m": _adaptation(
        (96.2,), (85.2, 4.7), (84.6, 2.1), (85.2, 1.2), (85.8, 1.2), (74.9, 2.6), (74.0, 1.5),
        (51.6, 2.8), (98.6, 0.5),
    ),
}  # fmt: skip

TABLE3: dict[str, dict[str, Published]] = {
    "voc": _cite("table 3", {
        "ours": (70.75,), "random-real": (19.41, 3.73), "optimized-real": (23.82, 3.66),
        "average-real": (9.94,), "full-target": (75.57, 0.18),
    }),
    "cub": _cite("table 3", {
        "ours": (38.76,), "random-real": (7.11, 0.66), "optimized-real": (7.23, 0.78),
        "average-real": (2.88,), "full-target": (41.21, 0.51),
    }),
}  # fmt: skip

_PAGE = "project page, 100 images"


def _cite_figure(value: float, where: str) -> Published:
    return Published(value, None, where, read_off=True)


ATTACK: dict[str, dict[str, dict[str, Published]]] = {
    "mnist": {
        "before": {ACCURACY: Published(98.6, 0.5, _PAGE)},
        "ours": {
            "attacked_to_target": Published(71.4, 29.6, _PAGE),
            "modified_accuracy": _cite_figure(92.0, "fig. 6a, few images"),
        },
        "random-real": {"attacked_to_target": _cite_figure(72.0, "fig. 6b")},
        "optimized-real": {"attacked_to_target": _cite_figure(72.0, "fig. 6b")},
    },
    "cifar10": {
        "before": {ACCURACY: Published(78.2, 1.1, _PAGE)},
        "ours": {
            "attacked_to_target": Published(45.9, 18.1, _PAGE),
            "modified_accuracy": _cite_figure(70.0, "fig. 6a"),
        },
        "random-real": {"modified_accuracy": _cite_figure(68.5, "fig. 6a, 30 images")},
        "optimized-real": {"modified_accuracy": _cite_figure(68.5, "fig. 6a, 30 images")},
        "k-means": {"modified_accuracy": _cite_figure(50.0, "fig. 6a")},
        "average-real": {"modified_accuracy": _cite_figure(35.0, "fig. 6a")},
    },
}
"""Row -> column -> number."""


def _curve(where: str, points: Mapping[int, float]) -> dict[int, Published]:
    return {x: Published(value, None, where, read_off=True) for x, value in points.items()}


FIGURE4: dict[str, dict[str, dict[int, Published]]] = {
    "mnist": {
        "steps": _curve("fig. 4a", {1: 30.0, 5: 60.0, 10: 75.0, 20: 73.0, 30: 77.0}),
        "epochs": _curve("fig. 4b", {1: 69.0, 2: 74.0, 3: 77.0, 4: 80.0, 5: 77.0}),
    },
    "cifar10": {
        "steps": _curve("fig. 4a", {1: 23.0, 5: 34.0, 10: 36.0, 20: 35.5, 30: 36.5}),
        "epochs": _curve("fig. 4b", {1: 34.5, 2: 36.0, 3: 36.8, 4: 35.5, 5: 36.7}),
    },
}
"""2 epochs over a number of steps; a number of epochs over 10 steps."""

FIGURE5: dict[str, dict[str, dict[int, Published]]] = {
    "mnist": {"many": _curve("fig. 5", {30: 84.0}), "one": _curve("fig. 5", {30: 21.0})},
    "cifar10": {"many": _curve("fig. 5", {30: 38.0}), "one": _curve("fig. 5", {30: 18.5})},
}
"""Images per class, 1 epoch: each in a step of its own, or all in one step."""
