"""The MNIST recipes of Wang et al. 2018, https://arxiv.org/abs/1811.10959."""

from __future__ import annotations

from datadistill.config import DistillConfig


def mnist_fixed() -> DistillConfig:
    """Ten images train one fixed LeNet: 1 step x 3 epochs (fig. 2a)."""
    return DistillConfig(
        recipe="mnist-fixed", dataset="mnist", net="lenet", init="xavier", theta_0="fixed",
        ipc=1, steps=1, epochs=3, step_sizes="per-tensor", iterations=8000, batch=256, validate_every=500,
    )  # fmt: skip


def mnist_fixed_fast() -> DistillConfig:
    """Ten images train one fixed LeNet, sooner: more epochs over the images."""
    return DistillConfig(
        recipe="mnist-fixed-fast", dataset="mnist", net="lenet", init="xavier", theta_0="fixed",
        ipc=1, steps=1, epochs=10, step_sizes="per-tensor", iterations=2500, batch=256, validate_every=250,
    )  # fmt: skip


def mnist_fixed_100() -> DistillConfig:
    """One hundred images train one fixed LeNet: 10 steps x 3 epochs (table 1)."""
    return DistillConfig(
        recipe="mnist-fixed-100", dataset="mnist", net="lenet", init="xavier", theta_0="fixed",
        ipc=10, steps=10, epochs=3, step_sizes="per-tensor", iterations=2000, batch=512, validate_every=200,
    )  # fmt: skip


def mnist_random() -> DistillConfig:
    """One hundred images train any LeNet: 10 steps x 3 epochs, random initialization (table 1)."""
    return DistillConfig(
        recipe="mnist-random", dataset="mnist", net="lenet", init="xavier", theta_0="random",
        ipc=10, steps=10, epochs=3, step_sizes="per-tensor", images_from="real", iterations=1500, batch=256,
        nets=2, validate_every=100,
    )  # fmt: skip
