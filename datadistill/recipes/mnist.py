"""The MNIST recipes of Wang et al. 2018, https://arxiv.org/abs/1811.10959.

Where we leave the paper's settings: step sizes per parameter tensor with a large learning rate of
their own (a fixed initialization; `--step-sizes per-step` gives the paper's form), torch's default
initialization, and, for random initialization, Adam as the inner rule, learned soft labels and
k-means centres to start from.
"""

from __future__ import annotations

from datadistill.config import DistillConfig


def mnist_fixed() -> DistillConfig:
    """Ten images train one fixed LeNet: 1 step x 3 epochs (fig. 2a)."""
    return DistillConfig(
        recipe="mnist-fixed",
        dataset="mnist",
        net="lenet",
        init="default",
        theta_0="fixed",
        ipc=1,
        steps=1,
        epochs=3,
        step_sizes="per-tensor",
        iterations=15000,
        batch=128,
        lr_images=0.08,
        lr_step_sizes=0.3,
        validate_every=500,
    )


def mnist_fixed_fast() -> DistillConfig:
    """Ten images train one fixed LeNet, sooner: more epochs over the images."""
    return DistillConfig(
        recipe="mnist-fixed-fast",
        dataset="mnist",
        net="lenet",
        init="default",
        theta_0="fixed",
        ipc=1,
        steps=1,
        epochs=5,
        step_sizes="per-tensor",
        iterations=4000,
        batch=128,
        lr_images=0.08,
        lr_step_sizes=0.3,
        validate_every=250,
    )


def mnist_fixed_100() -> DistillConfig:
    """One hundred images train one fixed LeNet: 10 steps x 3 epochs (table 1)."""
    return DistillConfig(
        recipe="mnist-fixed-100",
        dataset="mnist",
        net="lenet",
        init="default",
        theta_0="fixed",
        ipc=10,
        steps=10,
        epochs=3,
        step_sizes="per-tensor",
        images_from="kmeans",
        iterations=1500,
        batch=256,
        lr_images=0.03,
        lr_step_sizes=0.02,
        validate_every=100,
    )


def mnist_random() -> DistillConfig:
    """One hundred images train any LeNet: 10 steps x 3 epochs, random initialization (table 1)."""
    return DistillConfig(
        recipe="mnist-random",
        dataset="mnist",
        net="lenet",
        init="xavier",
        theta_0="random",
        ipc=10,
        steps=10,
        epochs=3,
        step_sizes="per-tensor",
        step_size=0.005,
        update="adam",
        labels="soft",
        images_from="kmeans",
        iterations=1800,
        batch=128,
        nets=2,
        lr_images=0.02,
        lr_labels=0.05,
        lr_step_sizes=0.03,
        validate_every=200,
    )


def mnist_random_long() -> DistillConfig:
    """One hundred images train any LeNet in 100 steps, learned through windows of 30 (RaT-BPTT).

    As `mnist-random`, with 10 epochs over the 10 steps: beyond nearest neighbours on as many
    k-means centres, 92.2 (table 1).
    """
    return mnist_random().with_changes(
        recipe="mnist-random-long",
        epochs=10,
        window=30,
        horizon="random",
        iterations=500,
    )
