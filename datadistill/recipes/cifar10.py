"""The CIFAR-10 recipes of Wang et al. 2018, https://arxiv.org/abs/1811.10959."""

from __future__ import annotations

from datadistill.config import DistillConfig


def cifar10_fixed() -> DistillConfig:
    """One hundred images train one fixed AlexCifarNet: 10 steps x 3 epochs (table 1)."""
    return DistillConfig(
        recipe="cifar10-fixed",
        dataset="cifar10",
        net="alexcifarnet",
        init="xavier",
        theta_0="fixed",
        augment=("crop", "flip"),
        ipc=10,
        steps=10,
        epochs=3,
        step_size=0.001,
        iterations=20000,
        batch=1024,
        lr_images=0.01,
        lr_step_sizes=0.01,
        validate_every=500,
    )


def cifar10_random() -> DistillConfig:
    """One hundred images train any AlexCifarNet: 10 steps x 3 epochs, random initialization (table
    1)."""
    return DistillConfig(
        recipe="cifar10-random",
        dataset="cifar10",
        net="alexcifarnet",
        init="xavier",
        theta_0="random",
        augment=("crop", "flip"),
        ipc=10,
        steps=10,
        epochs=3,
        step_size=0.001,
        iterations=20000,
        batch=1024,
        nets=4,
        lr_images=0.01,
        lr_step_sizes=0.01,
        validate_every=500,
    )
