"""Students of few images, real or distilled, by each kind of knowledge of a teacher: the students
that `kd-baselines bridge` crosses with random, herded and distilled images.

The recipe itself learns from labels alone. Each arm adds one kind: the teacher's soft targets, its
Jacobian (Srinivas and Fleuret 2018, https://arxiv.org/abs/1803.00443) or its attention maps
(Zagoruyko and Komodakis 2017, https://arxiv.org/abs/1612.03928).
"""

from __future__ import annotations

from typing import Any

from kd_baselines.config import KdConfig
from kd_baselines.recipes.recipe_page import Arm, Page

SOFT: dict[str, Any] = {
    "method": "soft-targets",
    "method_args": {"temperature": 32.0, "soft_weight": 0.5, "label_weight": 0.5},
}


def _jacobian(weight: float) -> dict[str, Any]:
    args = {"label_weight": 1.0, "activation_weight": 0.0, "jacobian_weight": weight}
    return {"method": "jacobian", "method_args": {**args, "output": "label"}}


def _attention(layers: str, beta: float) -> dict[str, Any]:
    args = {"layers": layers, "form": "at_code", "beta": beta}
    return {"method": "attention", "method_args": args}


def bridge_mnist5k() -> KdConfig:
    """A LeNet learns from 10 digits a class and their labels, and by its arms from one kind of
    knowledge of a teacher beside them: seconds, offline.

    The images are random ones; --data-from takes others, also a distilled set. Temperature and
    weights of the terms are the best of 12, 7 and 5 settings by the validation accuracy of three
    students (seeds 100 to 102) of 10 random images a class.
    """
    return KdConfig(
        recipe="bridge-mnist5k",
        dataset="mnist5k",
        data_from="random:10",
        net="lenet",
        epochs=150,
        batch=50,
        lr=1e-3,
        teacher_net="wide-cnn",
        teacher_args={"width": 16},
        teacher_epochs=6,
        teacher_batch=64,
        teacher_lr=1e-3,
    )


def bridge_mnist() -> KdConfig:
    """A LeNet learns from 10 digits of MNIST a class and their labels, and by its arms from one
    kind of knowledge of a teacher beside them.

    `bridge-mnist5k` on MNIST and its test images, for longer.
    """
    return bridge_mnist5k().with_changes(
        recipe="bridge-mnist", dataset="mnist", epochs=500, teacher_epochs=3
    )


def bridge_digits() -> KdConfig:
    """A small ConvNet learns from 10 digits of 8x8 pixels a class, as in `bridge-mnist5k`: an
    example that takes a second."""
    return KdConfig(
        recipe="bridge-digits",
        dataset="digits",
        data_from="random:10",
        net="convnet",
        net_args={"depth": 2, "width": 8, "norm": "none"},
        epochs=20,
        batch=50,
        lr=0.01,
        teacher_net="convnet",
        teacher_args={"depth": 2, "width": 16, "norm": "none"},
        teacher_epochs=10,
        teacher_batch=32,
        teacher_lr=0.01,
    )


def _page(make: Any, layers: str, jacobian: float, beta: float) -> Page:
    arms = {
        "soft": Arm(SOFT),
        "jacobian": Arm(_jacobian(jacobian)),
        "attention": Arm(_attention(layers, beta)),
    }
    return Page(make, "-", arms)


LENET = "conv1:convs.0,conv2:convs.1"
CONVNET = "features.2:features.2,features.5:features.5"

PAGES = {
    "bridge-mnist5k": _page(bridge_mnist5k, LENET, 30.0, 1000.0),
    "bridge-mnist": _page(bridge_mnist, LENET, 30.0, 1000.0),
    "bridge-digits": _page(bridge_digits, CONVNET, 0.1, 1000.0),
}
