"""Nets pretrained on ImageNet, to PASCAL VOC and CUB-200 (Wang et al. 2018, table 3).

One image per class, 1 step x 3 epochs, for one pretrained net with a fresh last layer. The paper's
net is torchvision's AlexNet at 224 pixels; any torchvision classifier will do (--net torchvision
--net-args model squeezenet1_0), with its own weights or a local file (--weights FILE).

Reference: https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

from typing import Any

from datadistill.config import DistillConfig


def _from_imagenet(recipe: str, dataset: str, **changes: Any) -> DistillConfig:
    settings: dict[str, Any] = {
        "size": 224,
        "net": "torchvision",
        "net_args": {"model": "alexnet"},
        "weights": "imagenet",
        "theta_0": "fixed",
        "init": "default",
        "norm": "frozen",
        "ipc": 1,
        "steps": 1,
        "epochs": 3,
        "step_size": 0.001,
        "step_sizes": "per-tensor",
        "images_from": "real",
        "iterations": 2000,
        "batch": 128,
        "lr_images": 0.02,
        "lr_step_sizes": 0.05,
        "validate_every": 100,
    }
    return DistillConfig(recipe=recipe, dataset=dataset, **{**settings, **changes})


def imagenet_to_voc() -> DistillConfig:
    """Twenty images adapt an ImageNet AlexNet to PASCAL VOC."""
    return _from_imagenet("imagenet-to-voc", "voc")


def imagenet_to_cub() -> DistillConfig:
    """Two hundred images adapt an ImageNet AlexNet to CUB-200."""
    return _from_imagenet("imagenet-to-cub", "cub")


# this SqueezeNet's last features have a norm of several hundreds: a small last layer and small step
# sizes
_SMALL = {
    "size": 112,
    "net_args": {"model": "squeezenet1_0"},
    "init": "small",
    "step_size": 1e-4,
    "batch": 24,
    "lr_images": 0.1,
    "lr_step_sizes": 0.2,
    "validate_every": 20,
}


def squeezenet_to_voc_animals() -> DistillConfig:
    """Five images adapt an ImageNet SqueezeNet to five animals of PASCAL VOC, at 112 pixels."""
    return _from_imagenet("squeezenet-to-voc-animals", "voc-animals", iterations=60, **_SMALL)


def squeezenet_to_cub20() -> DistillConfig:
    """Twenty images adapt an ImageNet SqueezeNet to 20 species of CUB-200, at 64 pixels."""
    return _from_imagenet(
        "squeezenet-to-cub-20", "cub-20", iterations=120, **{**_SMALL, "size": 64}
    )
