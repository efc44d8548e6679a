"""Experiments of Srinivas and Fleuret, Knowledge Transfer with Jacobian Matching, 2018,
https://arxiv.org/abs/1803.00443, on CIFAR-100, and the same on MNIST.

The paper's: nets by name, data sets, the numbers of images a class, which terms are added up. Ours:
optimizer, epochs, weights of the terms and the nets' widths. The numbers of its tables were not
verified and are not printed.
"""

from __future__ import annotations

from typing import Any

from kd_baselines.config import KdConfig
from kd_baselines.recipes.recipe_page import HARD, NOT_VERIFIED, Arm, Page


def terms(labels: float, activations: float, jacobian: float) -> dict[str, Any]:
    """Arguments of the method "jacobian": weights of its terms, of the label's output alone."""
    weights = {
        "label_weight": labels,
        "activation_weight": activations,
        "jacobian_weight": jacobian,
    }
    return {**weights, "output": "label"}


def jacobian_lowdata_cifar100() -> KdConfig:
    """A VGG-4 learns CIFAR-100 from few images a class, by labels, logits and Jacobians of a VGG-9.

    The paper's columns have 1, 5, 10, 50, 100 and 500 images a class: --per-class. The student has
    no batch norm, which would make an image's Jacobian depend on the batch.
    """
    return KdConfig(
        recipe="jacobian-lowdata-cifar100",
        dataset="cifar100",
        per_class=10,
        method="jacobian",
        method_args=terms(1.0, 0.1, 0.1),
        net="vgg4",
        net_args={"norm": "none"},
        init="kaiming",
        epochs=200,
        batch=64,
        lr=1e-3,
        decay_epochs=80,
        decay_factor=0.2,
        teacher_net="vgg9",
        teacher_init="kaiming",
        teacher_epochs=90,
        teacher_lr=1e-3,
        teacher_decay_epochs=30,
        teacher_weight_decay=5e-4,
        teacher_augment=("crop", "flip"),
    )


def jacobian_lowdata_mnist() -> KdConfig:
    """A small net learns MNIST from 10 images a class, by labels, logits and Jacobians of a
    teacher.

    The experiment of `jacobian-lowdata-cifar100` in a minute on a CPU; nets, weights and epochs are
    ours.
    """
    return KdConfig(
        recipe="jacobian-lowdata-mnist",
        dataset="mnist",
        per_class=10,
        method="jacobian",
        method_args=terms(1.0, 0.1, 10.0),
        net="lenet",
        epochs=100,
        batch=20,
        lr=1e-3,
        teacher_net="wide-cnn",
        teacher_args={"width": 16},
        teacher_epochs=3,
        teacher_batch=64,
        teacher_lr=1e-3,
    )


def mnist5k_few_images() -> KdConfig:
    """A LeNet learns from 10 digits a class, by labels, logits and Jacobians of a teacher: a
    minute, offline.

    `jacobian-lowdata-mnist` on the images that come without a download; its test images are not
    MNIST's.
    """
    return jacobian_lowdata_mnist().with_changes(
        recipe="mnist5k-few-images", dataset="mnist5k", epochs=60, teacher_epochs=6
    )


def jacobian_noise() -> KdConfig:
    """A VGG-9 on CIFAR-100 bears noise on its input, by a penalty on its Jacobian; no teacher.

    The strength of the penalty is ours; see the arms.
    """
    return KdConfig(
        recipe="jacobian-noise",
        dataset="cifar100",
        augment=("crop", "flip"),
        noise=(0.1, 0.2, 0.3, 0.4),
        method="jacobian-norm",
        method_args={"weight": 1.0, "output": "label"},
        net="vgg9",
        net_args={"norm": "none"},
        init="kaiming",
        epochs=90,
        batch=128,
        lr=1e-3,
        weight_decay=5e-4,
        decay_epochs=30,
        decay_factor=0.2,
    )


def jacobian_noise_mnist() -> KdConfig:
    """A small VGG-4 on MNIST bears noise on its input, by a penalty on its Jacobian; no teacher.

    Without batch norm: with running statistics in the penalty and the batch's in the loss, training
    fails.
    """
    return KdConfig(
        recipe="jacobian-noise-mnist",
        dataset="mnist",
        noise=(0.1, 0.2, 0.3, 0.4),
        method="jacobian-norm",
        method_args={"weight": 0.03, "output": "projected"},
        net="vgg4",
        net_args={"width": 8, "norm": "none"},
        epochs=5,
        batch=128,
        lr=1e-3,
    )


def _combinations(activations: float, jacobian: float, published: str) -> dict[str, Arm]:
    """The rows of the low-data table that are not the recipe itself."""
    rows = {
        "ce+act": terms(1.0, activations, 0.0),
        "ce+jac": terms(1.0, 0.0, jacobian),
        "act": terms(0.0, activations, 0.0),
        "act+jac": terms(0.0, activations, jacobian),
    }
    return {
        "ce": Arm(HARD, published),
        **{name: Arm({"method_args": args}, published) for name, args in rows.items()},
    }


def strengths(weights: tuple[float, ...], output: str, published: str = "-") -> dict[str, Arm]:
    """Arms of the method "jacobian-norm": labels alone, and other weights of the penalty."""
    return {
        "hard": Arm(HARD, published),
        **{
            f"weight-{weight:g}": Arm(
                {"method_args": {"weight": weight, "output": output}}, published
            )
            for weight in weights
        },
    }


PAGES = {
    "mnist5k-few-images": Page(mnist5k_few_images, "-", _combinations(0.1, 10.0, "-")),
    "jacobian-lowdata-cifar100": Page(
        jacobian_lowdata_cifar100, NOT_VERIFIED, _combinations(0.1, 0.1, NOT_VERIFIED)
    ),
    "jacobian-lowdata-mnist": Page(jacobian_lowdata_mnist, "-", _combinations(0.1, 10.0, "-")),
    "jacobian-noise": Page(
        jacobian_noise, NOT_VERIFIED, strengths((0.1, 10.0), "label", NOT_VERIFIED)
    ),
    "jacobian-noise-mnist": Page(jacobian_noise_mnist, "-", strengths((0.01, 0.1), "projected")),
}
