"""Deep mutual learning (Zhang et al. 2018, https://arxiv.org/abs/1706.00384) on small data; the
paper's own experiments have nets that are not here.
"""

from __future__ import annotations

from typing import Any

from kd_baselines.config import KdConfig
from kd_baselines.recipes.recipe_page import HARD, Arm, Page


def mutual_mnist5k() -> KdConfig:
    """Two LeNets are trained together on small MNIST and teach each other: half a minute, offline.

    The paper's: the losses, and that all nets have the same architecture. Ours: net, data and
    training. The first net is the student, and the other is thrown away.
    """
    return KdConfig(
        recipe="mutual-mnist5k",
        dataset="mnist5k",
        method="mutual",
        net="lenet",
        epochs=10,
        batch=64,
        lr=1e-3,
    )


_MORE: dict[str, Any] = {"method_args": {"peers": 3}}

PAGES = {
    "mutual-mnist5k": Page(mutual_mnist5k, "-", {"hard": Arm(HARD), "four-nets": Arm(_MORE)}),
}
