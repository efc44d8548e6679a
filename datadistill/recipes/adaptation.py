"""Domain adaptation with nets pretrained on another digit set (Wang et al. 2018, table 2).

One hundred images of the target, 10 steps x 3 epochs, for LeNets that were trained on the source
(`datadistill pretrain` makes the pool). USPS is brought to 28 pixels; SVHN keeps its 32 in three
channels, and MNIST is brought to them.

Where we leave the paper: Adam as the inner rule, soft labels, k-means centres to start from, one
step size for each step and parameter tensor.

Reference: https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

from typing import Any

from datadistill.config import DistillConfig


def _adaptation(recipe: str, source: str, dataset: str, **changes: Any) -> DistillConfig:
    settings: dict[str, Any] = {
        "net": "lenet",
        "theta_0": "random",
        "ipc": 10,
        "steps": 10,
        "epochs": 3,
        "update": "adam",
        "step_size": 0.001,
        "step_sizes": "per-tensor",
        "labels": "soft",
        "images_from": "kmeans",
        "iterations": 300,
        "batch": 256,
        "nets": 2,
        "lr_images": 0.02,
        "lr_labels": 0.05,
        "lr_step_sizes": 0.03,
        "validate_every": 50,
    }
    return DistillConfig(recipe=recipe, source=source, dataset=dataset, **{**settings, **changes})


def mnist_to_usps() -> DistillConfig:
    """One hundred USPS images adapt any LeNet pretrained on MNIST; pass --pool."""
    return _adaptation("mnist-to-usps", "mnist", "usps", size=28)


def usps_to_mnist() -> DistillConfig:
    """One hundred MNIST images adapt any LeNet pretrained on USPS; pass --pool."""
    return _adaptation("usps-to-mnist", "usps", "mnist")


def svhn_to_mnist() -> DistillConfig:
    """One hundred MNIST images adapt any LeNet pretrained on SVHN; pass --pool."""
    return _adaptation("svhn-to-mnist", "svhn", "mnist", size=32, channels=3)


def svhn_grey_to_mnist() -> DistillConfig:
    """The same for a grey subset of SVHN; its numbers are not to be compared with the paper's."""
    return _adaptation("svhn-grey-to-mnist", "svhn-grey", "mnist", size=32, channels=3)


def mnist_to_usps_fixed() -> DistillConfig:
    """One hundred USPS images adapt one LeNet pretrained on MNIST; pass --pool."""
    return mnist_to_usps().with_changes(recipe="mnist-to-usps-fixed", theta_0="fixed")


def usps_to_mnist_fixed() -> DistillConfig:
    """One hundred MNIST images adapt one LeNet pretrained on USPS; pass --pool."""
    return usps_to_mnist().with_changes(recipe="usps-to-mnist-fixed", theta_0="fixed")


def svhn_to_mnist_fixed() -> DistillConfig:
    """One hundred MNIST images adapt one LeNet pretrained on SVHN; pass --pool."""
    return svhn_to_mnist().with_changes(recipe="svhn-to-mnist-fixed", theta_0="fixed")
