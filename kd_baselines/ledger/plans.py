"""The ledgers by name. To add one, write its config here."""

from __future__ import annotations

from datadistill.errors import UsageError, suggest
from kd_baselines.ledger.config import LedgerConfig

__all__ = ["LEDGERS", "ledger_config"]

LEDGERS: dict[str, LedgerConfig] = {
    config.name: config
    for config in (
        LedgerConfig(
            name="mnist",
            dataset="mnist",
            per_class=10,
            student_net="lenet",
            student_init="xavier",
            steps=1000,
            batch=50,
            lr=1e-3,
            teacher_net="wide-cnn",
            teacher_args={"width": 16},
            net_epochs=3,
            distill="mnist-random",
        ),
        LedgerConfig(
            name="cifar10",
            dataset="cifar10",
            real_per_class=1000,
            per_class=10,
            validation=1000,
            student_net="lenet",
            student_init="xavier",
            steps=500,
            batch=50,
            lr=1e-3,
            teacher_net="wide-cnn",
            teacher_args={"width": 16},
            net_epochs=6,
            distill="cifar10-random",
            distill_changes={
                "images_from": "kmeans",
                "labels": "soft",
                "step_sizes": "per-tensor",
                "update": "adam",
                "step_size": 0.005,
                "lr_images": 0.02,
                "lr_labels": 0.05,
                "lr_step_sizes": 0.03,
                "augment": "flip",
                "batch": 128,
                "nets": 1,
                "iterations": 300,
            },
        ),
        LedgerConfig(
            name="mnist5k",
            dataset="mnist5k",
            per_class=10,
            student_net="mlp",
            student_args={"width": 32},
            student_init="xavier",
            steps=300,
            batch=50,
            lr=1e-3,
            teacher_net="mlp",
            teacher_args={"width": 256},
            net_epochs=6,
            distill="mnist-random",
            distill_changes={"iterations": 120, "nets": 1},
        ),
        LedgerConfig(
            name="digits",
            dataset="digits",
            per_class=10,
            student_net="mlp",
            student_args={"width": 32},
            student_init="default",
            steps=100,
            batch=50,
            lr=0.01,
            teacher_net="mlp",
            teacher_args={"width": 64},
            net_epochs=10,
            net_lr=0.01,
            net_batch=32,
            distill="digits-random",
            distill_changes={"iterations": 100, "images_from": "kmeans"},
        ),
    )
}
"""mnist and cifar10 are measured on the test images of these data; mnist5k and digits need no
download."""


def ledger_config(name: str) -> LedgerConfig:
    """The config of a ledger."""
    if name not in LEDGERS:
        raise UsageError(f"there is no ledger {name!r}; {suggest(str(name), LEDGERS)}")
    return LEDGERS[name]
