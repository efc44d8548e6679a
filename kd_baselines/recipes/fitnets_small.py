"""Two questions of Romero et al., FitNets, 2015, https://arxiv.org/abs/1412.6550, on 200 digits of
14 pixels: how deep a net each way of learning still trains, and which hints are worth what.

Nothing is the paper's but the methods, tau 3, and lambda from 4 to 1. Plain ReLU convolutions with
torch's initialization, whose signal shrinks in every layer (see `kd_baselines.nets.thin_deep`).
Every arm has 42 epochs in all, 18 of them those of hints.
"""

from __future__ import annotations

from typing import Any

from kd_baselines.config import KdConfig
from kd_baselines.recipes.methods import methods_mnist5k
from kd_baselines.recipes.recipe_page import HARD, Arm, Page

EPOCHS, HINT_EPOCHS = 42, 18
WIDTHS = {3: 32, 6: 14, 12: 9, 18: 7}
"""Depth -> channels: 0.57 to 0.61 million multiplications each at 14 pixels."""
_KD: dict[str, Any] = {"method": "fitnets-kd", "method_args": {}}


def _hints(guided: str, hint: str, **more: Any) -> dict[str, Any]:
    """A student by hints: of several pairs of layers, a stage each, in the same epochs in all. The
    regressor is followed by nothing: in a few hundred steps a ReLU on it may die (arm "relu")."""
    pairs = guided.count(",") + 1
    args = {
        "guided": guided,
        "hint": hint,
        "activation": "none",
        "hint_epochs": HINT_EPOCHS // pairs,
        **more,
    }
    return {"method": "fitnets", "method_args": args, "epochs": EPOCHS - HINT_EPOCHS}


def _middle(depth: int) -> dict[str, Any]:
    """Hints to the last layer of the second of three groups."""
    return _hints(f"convs.{2 * depth // 3 - 1}", "convs.1")


def _net(depth: int) -> dict[str, Any]:
    return {"net_args": {"width": WIDTHS[depth], "depth": depth, "pools": 3}}


def fitnets_depth_mnist5k() -> KdConfig:
    """Nets of 3 to 18 thin layers with the same number of multiplications learn from a wide one of
    3, by labels, soft targets or hints: seconds an arm, offline.

    `fitnets-depth` in small, with the teacher of `methods-mnist5k`. Of 12 layers there are also
    hints elsewhere, through a fully connected regressor and one after another, and ensembles of
    teachers.
    """
    return methods_mnist5k().with_changes(
        recipe="fitnets-depth-mnist5k",
        data_from="random:20",
        batch=20,
        **_net(12),
        **_middle(12),
    )


LABELS, KD = {**HARD, "epochs": EPOCHS}, {**_KD, "epochs": EPOCHS}
FIRST, MIDDLE, LAST = "convs.3", "convs.7", "convs.11"
"""Layers of the net of 12 whose maps are as large as the teacher's three: 7, 3 and 1 pixels."""


def _depth_arms() -> dict[str, Arm]:
    arms = {}
    for depth in WIDTHS:
        ways = {"labels": LABELS, "kd": KD, "hints": _middle(depth)}
        for name, way in ways.items():
            arms[f"{depth}-{name}"] = Arm({**_net(depth), **way})
    del arms["12-hints"]  # the recipe itself
    return arms


PAGES = {
    "fitnets-depth-mnist5k": Page(
        fitnets_depth_mnist5k,
        "-",
        {
            **_depth_arms(),
            "first": Arm(_hints(FIRST, "convs.0")),
            "last": Arm(_hints(LAST, "convs.2")),
            "cascade-2": Arm(_hints(f"{FIRST},{MIDDLE}", "convs.0,convs.1")),
            "cascade-3": Arm(_hints(f"{FIRST},{MIDDLE},{LAST}", "convs.0,convs.1,convs.2")),
            "relu": Arm(_hints(MIDDLE, "convs.1", activation="relu")),
            "linear": Arm(_hints(MIDDLE, "convs.1", regressor="linear")),
            "kd-arithmetic-3": Arm({**KD, "teachers": 3}),
            "kd-geometric-3": Arm({**KD, "teachers": 3, "average": "geometric"}),
        },
    ),
}
