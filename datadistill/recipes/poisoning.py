"""Malicious data, to study poisoning: one gradient step that makes nets take one class for another.

The nets are pretrained on the very data they are then attacked on (`datadistill pretrain` makes the
pool); the images are learned on the pool's training nets and tested on its held-out ones.

Reference: Wang et al. 2018, sections 3.6 and 4.3, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

from datadistill.config import DistillConfig

PURPOSE = (
    "This is for studying data poisoning: how few images, slipped into training, make a good net "
    "take one class for another after a single gradient step. Use it to test defences, on nets and "
    "data of your own."
)
"""What an attack is for; printed wherever one is learned, measured or compared."""


def mnist_attack() -> DistillConfig:
    """One hundred images, one step: pretrained LeNets take zeros for ones; pass --pool."""
    return DistillConfig(
        recipe="mnist-attack",
        source="mnist",
        dataset="mnist",
        net="lenet",
        theta_0="random",
        objective="attack",
        attack_class=0,
        target_class=1,
        ipc=10,
        steps=1,
        epochs=1,
        step_sizes="per-tensor",
        step_size=0.02,
        images_from="real",
        iterations=300,
        batch=256,
        nets=4,
        lr_images=0.02,
        lr_step_sizes=0.05,
        validate_every=50,
    )


def cifar10_attack() -> DistillConfig:
    """One hundred images, one step: pretrained AlexCifarNets take airplanes for cars; pass
    --pool."""
    return DistillConfig(
        recipe="cifar10-attack",
        source="cifar10",
        dataset="cifar10",
        net="alexcifarnet",
        theta_0="random",
        objective="attack",
        attack_class=0,
        target_class=1,
        augment=("crop", "flip"),
        ipc=10,
        steps=1,
        epochs=1,
        step_size=0.001,
        images_from="real",
        iterations=20000,
        batch=1024,
        nets=4,
        lr_images=0.01,
        lr_step_sizes=0.01,
        validate_every=500,
    )
