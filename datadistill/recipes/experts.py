"""Recipes of experts: nets with every epoch kept, which trajectory matching follows (mtt.py).

The full ones train as MTT's experts do: 100 ConvNets, 50 epochs of plain SGD, with the augmentation
that sets are learned and tested with, CIFAR-10 whitened. Two more nets are for validation and
testing, which the method does not need.

Reference: Cazenavette et al., Dataset Distillation by Matching Training Trajectories, 2022,
https://arxiv.org/abs/2203.11932
"""

from __future__ import annotations

from typing import Any, NamedTuple

from datadistill.config import PoolConfig
from datadistill.config.choices import Value
from datadistill.config.strategies import DSA_STRATEGY, DSA_STRATEGY_OF_DIGITS


class Data(NamedTuple):
    """A data set, its normalization, and the augmentation of real and synthetic images."""

    dataset: str
    normalization: str
    augment: str

    @property
    def net_args(self) -> dict[str, Value]:
        """Arguments of the ConvNet: grey images are padded to maps of 32 pixels."""
        return {"first_padding": 3} if self.dataset in ("mnist", "fashion-mnist") else {}


DATA = {
    "mnist": Data("mnist", "auto", DSA_STRATEGY_OF_DIGITS),
    "fashion": Data("fashion-mnist", "auto", DSA_STRATEGY),
    "svhn": Data("svhn", "auto", DSA_STRATEGY_OF_DIGITS),
    "cifar10": Data("cifar10", "zca-kornia", DSA_STRATEGY),
}


def _experts(recipe: str, dataset: str, **changes: Any) -> PoolConfig:
    settings: dict[str, Any] = {
        "net": "convnet",
        "init": "default",
        "nets": 100,
        "validation_nets": 1,
        "held_out": 1,
        "epochs": 50,
        "batch": 256,
        "optimizer": "sgd",
        "lr": 0.01,
        "momentum": 0.0,
        "decay_factor": 1.0,
        "keep": "every-epoch",
    }
    return PoolConfig(recipe=recipe, dataset=dataset, **{**settings, **changes})


def experts(name: str) -> PoolConfig:
    """100 ConvNets of 50 epochs, every one kept: MTT's experts, for an accelerator."""
    data = DATA[name]
    return _experts(
        f"{name}-experts",
        data.dataset,
        normalization=data.normalization,
        net_args=data.net_args,
        augment=(data.augment,),
    )


# a set of one image a class answers the beginning of a training alone: one epoch
NARROW = {"net_args": {"width": 32}, "epochs": 1}


def mnist5k_experts() -> PoolConfig:
    """Narrow ConvNets after an epoch on 5,000 MNIST images: half a minute of a core, offline."""
    return _experts("mnist5k-experts", "mnist5k", **NARROW, nets=8, batch=64, lr=0.05)


def mnist_experts_cpu() -> PoolConfig:
    """Narrow ConvNets after an epoch on MNIST: minutes of a core."""
    return _experts("mnist-experts-cpu", "mnist", **NARROW, nets=3, batch=128)
