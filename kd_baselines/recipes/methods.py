"""All methods of `kd-baselines methods` that take images and one teacher, in one small table: the
same student, images and teacher, and a method an arm.

Left out is lwf, which has a second head. Arms have the weights and temperatures that are the
methods' defaults, those of the papers or of their authors' code on CIFAR, but where they stand
here: settings of `WEIGHTED`, of which docs/results/distillation_methods.md says how they were
chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kd_baselines.config import KdConfig
from kd_baselines.recipes.recipe_page import Arm, Page

MAPS = "convs.0:convs.0,convs.1:convs.1"
"""Layers with maps of some pixels: 7 x 7 and 3 x 3."""
ALL_MAPS = f"{MAPS},convs.2:convs.2"
LAST = "classifier:in=classifier:in"
HINT: dict[str, Any] = {"guided": "convs.1", "hint": "convs.1", "activation": "relu"}

DEFAULTS: dict[str, dict[str, Any]] = {
    "jacobian-norm": {},
    "mutual": {},
    "soft-targets": {},
    "logits": {},
    "noisy-logits": {},
    "born-again": {},
    "cwtm": {},
    "dkpp": {},
    "fitnets-kd": {},
    "fitnets": HINT,
    "fitnets-one-stage": HINT,
    "attention": {"layers": MAPS},
    "attention-jacobian": {"layers": MAPS},
    "jacobian": {},
    "input-noise": {},
    "gradient-attention": {},
    "dkd": {},
    "dist": {},
    "logit-standardization": {},
    "rkd": {"layers": LAST},
    "similarity-preserving": {"layers": "convs.2:convs.2"},
    "crd": {"layers": LAST, "negatives": 256},  # of 100 images; the default is for 50,000
    "reviewkd": {"layers": ALL_MAPS},
}
"""Arms by the names of their methods, with the layers that they read."""
WEIGHTED: dict[str, dict[str, Any]] = {
    "attention": {"beta": 1.0},
    "attention-jacobian": {"weight": 0.01},
    "fitnets-one-stage": {"hint_weight": 0.01},
}
"""Weights in place of the defaults."""


def methods_mnist5k() -> KdConfig:
    """A small ConvNet learns from 10 digits a class and their labels, and by its arms by each
    method that takes images and one teacher: seconds an arm, offline.

    Nothing of it is in the papers but the methods. The images have 14 pixels a side; the teacher
    learned from all training images.
    """
    return KdConfig(
        recipe="methods-mnist5k",
        dataset="mnist5k",
        size=14,
        data_from="random:10",
        net="thin-cnn",
        net_args={"width": 16, "depth": 3, "pools": 3},
        epochs=100,
        batch=50,
        lr=3e-3,
        teacher_net="wide-cnn",
        teacher_args={"width": 16},
        teacher_epochs=6,
        teacher_batch=64,
        teacher_lr=3e-3,
    )


def _arms(weighted: Mapping[str, Mapping[str, Any]]) -> dict[str, Arm]:
    found = {
        name: Arm({"method": name, "method_args": {**args, **weighted.get(name, {})}})
        for name, args in DEFAULTS.items()
    }
    with_labels = {"method": "born-again", "method_args": {"label_weight": 1.0}}
    return {
        "labels-200": Arm({"epochs": 200}),  # as many as both stages of fitnets
        **found,
        "born-again-labels": Arm(with_labels),
    }


PAGES = {"methods-mnist5k": Page(methods_mnist5k, "-", _arms(WEIGHTED))}
