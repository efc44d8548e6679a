"""The CIFAR-10 experiments of Zagoruyko and Komodakis 2017, https://arxiv.org/abs/1612.03928."""

from __future__ import annotations

from typing import Any

from kd_baselines.config import KdConfig
from kd_baselines.recipes.recipe_page import HARD, Arm, Page

PAPER = "Zagoruyko and Komodakis 2017"
LAYERS = "group1:group1,group2:group2,group3:group3"


def attention_cifar10() -> KdConfig:
    """Attention maps of a WRN-40-1 train a WRN-16-1, on CIFAR-10.

    The paper's: the nets. The authors' code's: its form of the loss with beta 1000 on the three
    groups, SGD with learning rate 0.1, momentum 0.9 and weight decay 0.0005, 200 epochs of 128
    images, crops and flips, T = 4. It multiplies the learning rate by 0.2 at epochs 60, 120 and
    160; here it is 60, 120 and 180.
    """
    return KdConfig(
        recipe="attention-cifar10",
        dataset="cifar10",
        augment=("crop", "flip"),
        method="attention",
        method_args={"layers": LAYERS, "form": "at_code", "beta": 1000.0},
        net="wrn",
        net_args={"depth": 16, "widen": 1},
        init="kaiming",
        epochs=200,
        batch=128,
        optimizer="sgd",
        lr=0.1,
        momentum=0.9,
        weight_decay=5e-4,
        decay_epochs=60,
        decay_factor=0.2,
        teacher_net="wrn",
        teacher_args={"depth": 40, "widen": 1},
        teacher_init="kaiming",
        teacher_epochs=200,
        teacher_batch=128,
        teacher_optimizer="sgd",
        teacher_lr=0.1,
        teacher_weight_decay=5e-4,
        teacher_decay_epochs=60,
        teacher_augment=("crop", "flip"),
    )


_KD: dict[str, Any] = {
    "method": "soft-targets",
    "method_args": {"temperature": 4.0, "soft_weight": 0.9, "label_weight": 0.1},
}
_BOTH: dict[str, Any] = {
    "method_args": {
        "layers": LAYERS,
        "form": "at_code",
        "beta": 1000.0,
        "label_weight": 0.1,
        "soft_weight": 0.9,
        "temperature": 4.0,
    }
}
_TWO: dict[str, Any] = {
    "net_args": {"depth": 16, "widen": 2},
    "teacher_args": {"depth": 40, "widen": 2},
}

PAGES = {
    "attention-cifar10": Page(
        attention_cifar10,
        f"91.75, teacher 93.42 ({PAPER})",
        {
            "hard": Arm(HARD, f"91.23 ({PAPER})"),
            "kd": Arm(_KD, f"91.61 ({PAPER})"),
            "attention-kd": Arm(_BOTH),
            "paper-form": Arm({"method_args": {"layers": LAYERS, "form": "at_paper", "beta": 2.0}}),
            "wide": Arm(_TWO, f"94.15, teacher 94.77 ({PAPER})"),
            "wide-hard": Arm({**_TWO, **HARD}, f"93.69 ({PAPER})"),
            "wide-kd": Arm({**_TWO, **_KD}, f"93.92 ({PAPER})"),
        },
    )
}
