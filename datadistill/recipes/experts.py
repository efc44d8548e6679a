"""Recipes of experts: nets with every epoch kept, which trajectory matching follows (mtt.py).

The full ones train as MTT's experts do: 100 ConvNets, 50 epochs of plain SGD, with the augmentation
that sets are learned and tested with, CIFAR-10 whitened. Two more nets are for validation and
testing, which the method does not need.

Reference: Cazenavette et al., Dataset Distillation by Matching Training Trajectories, 2022,
https://arxiv.org/abs/2203.11932
"""

from __future__ import annotations

from typing import Any

from datadistill.config import PoolConfig
from datadistill.recipes.field import DATA, STRATEGIES, padding_of


def normalization_of(name: str) -> str:
    """Of a data set by its name in recipes: CIFAR-10 is whitened."""
    return "zca-kornia" if name == "cifar10" else "auto"


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
    return _experts(
        f"{name}-experts",
        DATA[name],
        normalization=normalization_of(name),
        net_args=padding_of(DATA[name]),
        augment=(STRATEGIES[name],),
    )


# a set of one image a class answers the beginning of a training alone: one epoch
NARROW = {"net_args": {"width": 32}, "epochs": 1}


def mnist5k_experts() -> PoolConfig:
    """Narrow ConvNets after an epoch on 5,000 MNIST images: half a minute of a core, offline."""
    return _experts("mnist5k-experts", "mnist5k", **NARROW, nets=8, batch=64, lr=0.05)


def mnist_experts_cpu() -> PoolConfig:
    """Narrow ConvNets after an epoch on MNIST: minutes of a core."""
    return _experts("mnist-experts-cpu", "mnist", **NARROW, nets=3, batch=128)
