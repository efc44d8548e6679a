"""Recipes of pools: many nets trained on one data set, to draw theta_0 from.

The full ones are the schedules that Wang et al. recommend for pretraining (documentation of their
code, whose default batch is 1024): 2000 nets to learn with and 200 held out. The ones for a CPU
have 48 and 12 (and 4 for looks) and a few epochs, and reach about 98.8% (MNIST) and 95.7% (USPS) of
the test set. The smoke ones only show that things work. Those of experts are in experts.py.

Reference: https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from datadistill.config import PoolConfig
from datadistill.errors import UsageError, suggest
from datadistill.recipes import experts
from datadistill.recipes.field import convnet
from datadistill.recipes.summary import summary_of


@dataclass(frozen=True)
class PoolPage:
    """A pool recipe, and the published test accuracy of such nets trained to the end."""

    make: Callable[[], PoolConfig]
    published: str
    """In percent with its source, or a dash. Table 2 has it as training on the full target."""

    @property
    def summary(self) -> str:
        """The first paragraph of the recipe's docstring."""
        return summary_of(self.make)


def _full(recipe: str, dataset: str, **settings: Any) -> PoolConfig:
    sizes = {"nets": 2000, "validation_nets": 16, "held_out": 200, "at_once": 8}
    return PoolConfig(recipe=recipe, dataset=dataset, **{**sizes, "batch": 1024, **settings})


def mnist_lenet() -> PoolConfig:
    """2000 LeNets trained on MNIST, and 200 held out: the paper's pool."""
    return _full("mnist-lenet", "mnist", epochs=40, lr=2e-4, decay_epochs=20)


def mnist_lenet_32() -> PoolConfig:
    """The same on MNIST at 32 pixels in three channels, as SVHN has them."""
    return _full(
        "mnist-lenet-32", "mnist", size=32, channels=3, epochs=40, lr=2e-4, decay_epochs=20
    )


def usps_lenet() -> PoolConfig:
    """2000 LeNets trained on USPS brought to 28 pixels, and 200 held out: the paper's pool."""
    return _full("usps-lenet", "usps", size=28, epochs=130, lr=2e-4, decay_epochs=40)


def svhn_lenet() -> PoolConfig:
    """2000 LeNets trained on SVHN in colour, and 200 held out: the paper's pool."""
    return _full("svhn-lenet", "svhn", epochs=65, lr=2e-4, decay_epochs=20)


def cifar10_alexcifarnet() -> PoolConfig:
    """2000 AlexCifarNets trained on CIFAR-10, and 200 held out: the paper's pool."""
    return _full(
        "cifar10-alexcifarnet",
        "cifar10",
        net="alexcifarnet",
        augment=("crop", "flip"),
        at_once=1,
        epochs=50,
        lr=1e-3,
        decay_epochs=7,
    )


def mnist_lenet_cpu() -> PoolConfig:
    """48 LeNets trained on MNIST in 2 epochs, and 12 held out: about half an hour of one core."""
    return PoolConfig(
        recipe="mnist-lenet-cpu",
        dataset="mnist",
        nets=48,
        validation_nets=4,
        held_out=12,
        epochs=2,
        batch=64,
        lr=2e-3,
        decay_epochs=1,
        decay_factor=0.2,
    )


def usps_lenet_cpu() -> PoolConfig:
    """48 LeNets trained on USPS at 28 pixels in 12 epochs, and 12 held out."""
    return PoolConfig(
        recipe="usps-lenet-cpu",
        dataset="usps",
        size=28,
        nets=48,
        validation_nets=4,
        held_out=12,
        epochs=12,
        batch=64,
        lr=1e-3,
        decay_epochs=8,
        decay_factor=0.2,
    )


def svhn_grey_lenet_cpu() -> PoolConfig:
    """16 LeNets trained on a grey subset of SVHN, and 10 held out; not to be compared with SVHN's
    numbers."""
    return PoolConfig(
        recipe="svhn-grey-lenet-cpu",
        dataset="svhn-grey",
        size=32,
        channels=3,
        nets=16,
        validation_nets=2,
        held_out=10,
        epochs=10,
        batch=64,
        lr=1e-3,
        decay_epochs=7,
        decay_factor=0.2,
    )


def mnist5k_lenet_smoke() -> PoolConfig:
    """3 LeNets trained on 5,000 MNIST images for an epoch, and 2 held out: seconds, offline."""
    return PoolConfig(
        recipe="mnist5k-lenet-smoke",
        dataset="mnist5k",
        nets=3,
        validation_nets=1,
        held_out=2,
        epochs=1,
        batch=32,
        lr=2e-3,
    )


def digits_28_lenet_smoke() -> PoolConfig:
    """3 LeNets trained on 8x8 digits brought to 28 pixels, and 2 held out: seconds, offline."""
    return PoolConfig(
        recipe="digits-28-lenet-smoke",
        dataset="digits",
        size=28,
        nets=3,
        validation_nets=1,
        held_out=2,
        epochs=2,
        batch=32,
        lr=2e-3,
        decay_epochs=2,
    )


def mnist5k_teachers() -> PoolConfig:
    """3 narrow ConvNets trained on 5,000 MNIST images, to label distilled sets with (datadistill
    relabel): under a minute of a core, offline."""
    return PoolConfig(
        recipe="mnist5k-teachers", **_THREE, **_narrow_convnet("mnist5k"), epochs=6, decay_epochs=5
    )


def mnist_teachers_cpu() -> PoolConfig:
    """3 narrow ConvNets trained on MNIST, to label distilled sets with (datadistill relabel): some
    minutes of a core."""
    return PoolConfig(
        recipe="mnist-teachers-cpu", **_THREE, **_narrow_convnet("mnist"), epochs=2, decay_epochs=1
    )


def _narrow_convnet(dataset: str) -> dict[str, Any]:
    """The narrow ConvNet that sets are learned with on two cores."""
    fields = convnet(dataset, 32)
    return {name: fields[name] for name in ("dataset", "net", "net_args", "init")}


_THREE: dict[str, Any] = {
    "nets": 1,
    "validation_nets": 1,
    "held_out": 1,
    "batch": 64,
    "lr": 2e-3,
    "decay_factor": 0.2,
}

PAPER = "Wang et al. 2018"

POOLS: dict[str, PoolPage] = {
    "mnist5k-lenet-smoke": PoolPage(mnist5k_lenet_smoke, "-"),
    "digits-28-lenet-smoke": PoolPage(digits_28_lenet_smoke, "-"),
    "mnist-lenet-cpu": PoolPage(mnist_lenet_cpu, f"98.6 ± 0.5 ({PAPER}, table 2)"),
    "usps-lenet-cpu": PoolPage(usps_lenet_cpu, f"97.3 ± 0.3 ({PAPER}, table 2)"),
    "svhn-grey-lenet-cpu": PoolPage(svhn_grey_lenet_cpu, "-"),
    "mnist-lenet": PoolPage(mnist_lenet, f"98.6 ± 0.5 ({PAPER}, table 2)"),
    "mnist-lenet-32": PoolPage(mnist_lenet_32, f"98.6 ± 0.5 ({PAPER}, table 2)"),
    "usps-lenet": PoolPage(usps_lenet, f"97.3 ± 0.3 ({PAPER}, table 2)"),
    "svhn-lenet": PoolPage(svhn_lenet, "-"),
    "cifar10-alexcifarnet": PoolPage(cifar10_alexcifarnet, f"78.2 ± 1.1 ({PAPER}, project page)"),
    "mnist5k-teachers": PoolPage(mnist5k_teachers, "-"),
    "mnist-teachers-cpu": PoolPage(mnist_teachers_cpu, "-"),
    "mnist5k-experts": PoolPage(experts.mnist5k_experts, "-"),
    "mnist-experts-cpu": PoolPage(experts.mnist_experts_cpu, "-"),
    **{f"{name}-experts": PoolPage(partial(experts.experts, name), "-") for name in experts.DATA},
}


def pool_page(name: str) -> PoolPage:
    """The pool recipe called `name`, with its published number; UsageError names the nearest."""
    if name not in POOLS:
        raise UsageError(
            f"there is no pool recipe {name!r}; {suggest(name, POOLS, 'datadistill recipes')}"
        )
    return POOLS[name]


def pool_recipe(name: str) -> PoolConfig:
    """The config of a pool recipe."""
    return pool_page(name).make()
