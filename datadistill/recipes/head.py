"""Sets for the head of a frozen pretrained net: features in the place of images.

The real images go through the net once; then one vector of features a class is learned by ridge
regression in closed form, in seconds of a CPU at 224 pixels. A linear head is trained on the set in
30 steps of gradient descent with one step size, found before learning, which takes milliseconds.

Reference: Nguyen et al., Dataset meta-learning from kernel ridge-regression, 2021,
https://arxiv.org/abs/2011.00050
"""

from __future__ import annotations

from typing import Any

from datadistill.config import DistillConfig
from datadistill.recipes.own_images import PLACEHOLDER


def _head(recipe: str, dataset: str, model: str, **changes: Any) -> DistillConfig:
    return DistillConfig(
        recipe=recipe,
        dataset=dataset,
        size=224,
        space="features",
        net="torchvision",
        net_args={"model": model},
        theta_0="given",
        init="small",
        ipc=1,
        steps=1,
        epochs=30,
        step_size=None,
        step_sizes="shared",
        images_from="kmeans",
        method="ridge-regression",
        method_args={"regularization": 3.0},
        iterations=1000,
        batch=128,
        lr_images=0.003,
        validate_every=250,
        **changes,
    )


def own_images_head() -> DistillConfig:
    """One vector of features a class from your own folder trains the last layer of your pretrained
    net, learned in seconds; pass --data FOLDER and --weights FILE or imagenet.

    The net is --net torchvision --net-args model resnet18 if nothing else is said. Images become
    224x224 colour ones (--size) and go through the net once; `datadistill finetune` puts the
    trained layer into it.
    """
    return _head("own-images-head", "folder", "resnet18", data=PLACEHOLDER)


def cub20_head() -> DistillConfig:
    """Twenty vectors of features train the last layer of an ImageNet SqueezeNet for 20 species of
    CUB-200, at 224 pixels; pass --weights FILE or imagenet."""
    return _head("cub-20-head", "cub-20", "squeezenet1_0")
