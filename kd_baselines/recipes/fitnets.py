"""The experiments of Romero et al., FitNets, 2015, https://arxiv.org/abs/1412.6550, and a small one
like them.

The paper's in all of them but the last: the nets, guided and hint layers, RMSProp and its learning
rate, batches of 128, tau 3, lambda from 4 to 1. Ours: torch's initialization (the paper draws from
U(-0.005, 0.005)), no contrast normalization or whitening, no early stopping and so the paper's
largest numbers of epochs, and how the teachers are trained.
"""

from __future__ import annotations

from typing import Any

from kd_baselines.config import KdConfig
from kd_baselines.recipes.recipe_page import HARD, Arm, Page

PAPER = "Romero et al. 2015"


def _hints(guided: str, hint_epochs: int) -> dict[str, Any]:
    return {
        "guided": guided,
        "hint": "convs.1",
        "activation": "maxout",
        "hint_epochs": hint_epochs,
        "temperature": 3.0,
        "lam_start": 4.0,
        "lam_end": 1.0,
    }


def fitnets_mnist() -> KdConfig:
    """A thin net of six maxout convolutions learns from a maxout net, by hints, on MNIST.

    The released code has the student's kernels, and lambda end at 0.
    """
    return KdConfig(
        recipe="fitnets-mnist",
        dataset="mnist",
        validation=10000,
        method="fitnets",
        method_args=_hints("convs.3", hint_epochs=150),
        net="fitnet-mnist",
        epochs=150,
        batch=128,
        optimizer="rmsprop",
        lr=5e-4,
        teacher_net="maxout-mnist",
        teacher_args={"dropout": 0.5, "input_dropout": 0.2},
        teacher_epochs=50,
        teacher_lr=1e-3,
        teacher_decay_epochs=20,
    )


def fitnets_cifar10() -> KdConfig:
    """FitNet-4, of 19 layers, learns from a maxout net, by hints, on CIFAR-10."""
    return KdConfig(
        recipe="fitnets-cifar10",
        dataset="cifar10",
        validation=10000,
        augment=("flip",),
        method="fitnets",
        method_args=_hints("convs.10", hint_epochs=500),
        net="fitnet4",
        epochs=500,
        batch=128,
        optimizer="rmsprop",
        lr=5e-3,
        teacher_net="maxout-cifar10",
        teacher_args={"dropout": 0.5, "input_dropout": 0.2},
        teacher_epochs=200,
        teacher_lr=1e-3,
        teacher_decay_epochs=60,
        teacher_augment=("flip",),
    )


def fitnets_cifar100() -> KdConfig:
    """FitNet-4, of 19 layers, learns from a maxout net, by hints, on CIFAR-100."""
    return fitnets_cifar10().with_changes(recipe="fitnets-cifar100", dataset="cifar100")


def fitnets_svhn() -> KdConfig:
    """FitNet-3, of 13 layers, learns from a maxout net, by hints, on SVHN.

    The optimizer, its learning rate and the epochs are those of CIFAR-10, without flips. The guided
    layer is the seventh convolution: the map of the eighth, which FitNet-3 has on CIFAR-10, is
    smaller than the teacher's.
    """
    return fitnets_cifar10().with_changes(
        recipe="fitnets-svhn",
        dataset="svhn",
        augment=(),
        method_args=_hints("convs.6", hint_epochs=500),
        net="fitnet3",
        teacher_net="maxout-svhn",
        teacher_augment=(),
    )


def fitnets_depth() -> KdConfig:
    """Nets of 5 to 11 layers with the same number of multiplications, by labels, soft targets or
    hints."""
    return fitnets_cifar10().with_changes(
        recipe="fitnets-depth",
        net="fitnet-depth",
        net_args={"layers": 11, "budget": "30M"},
        method_args=_hints("convs.6", hint_epochs=500),
    )


def fitnets_thin_mnist() -> KdConfig:
    """A net of 18 thin layers learns from a wide one of 3, by hints, on small MNIST: a minute on a
    CPU.

    Plain ReLU convolutions, 14 pixels, 20 images a class; nothing of it is in the paper but the
    method. Hints take 60 epochs more than the other arms; the long ones have as many.
    """
    return KdConfig(
        recipe="fitnets-thin-mnist",
        dataset="mnist",
        size=14,
        per_class=20,
        method="fitnets",
        method_args={
            "guided": "convs.11",
            "hint": "convs.1",
            "activation": "relu",
            "hint_epochs": 60,
            "temperature": 3.0,
            "lam_start": 4.0,
            "lam_end": 1.0,
        },
        net="thin-cnn",
        net_args={"width": 8, "depth": 18, "pools": 3},
        epochs=60,
        batch=32,
        lr=1e-3,
        teacher_net="wide-cnn",
        teacher_args={"width": 16},
        teacher_epochs=3,
        teacher_batch=64,
        teacher_lr=1e-3,
    )


_KD: dict[str, Any] = {
    "method": "fitnets-kd",
    "method_args": {"temperature": 3.0, "lam_start": 4.0, "lam_end": 1.0},
}


def _one_stage(guided: str, activation: str) -> dict[str, Any]:
    args = {"guided": guided, "hint": "convs.1", "activation": activation}
    return {"method": "fitnets-one-stage", "method_args": args}


_DEPTHS = {5: "convs.1", 7: "convs.3", 9: "convs.4", 11: "convs.6"}  # layers -> guided layer
_DEPTH_PUBLISHED = {
    "107M-7-hints": f"90.1, without hints 89.45 ({PAPER}, sec. 4.1)",
    "107M-11-hints": f"4.11 points above 107M-5-hints ({PAPER}, sec. 4.1)",
    "30M-11-hints": f"3.4 points above 30M-5-hints ({PAPER}, sec. 4.1)",
}


def _depth_arms() -> dict[str, Arm]:
    found: dict[str, Arm] = {}
    for budget in ("30M", "107M"):
        for layers, guided in _DEPTHS.items():
            methods = {
                "hard": HARD,
                "kd": _KD,
                "hints": {"method_args": _hints(guided, hint_epochs=500)},
            }
            for name, method in methods.items():
                arm = f"{budget}-{layers}-{name}"
                changes = {"net_args": {"layers": layers, "budget": budget}, **method}
                found[arm] = Arm(changes, _DEPTH_PUBLISHED.get(arm, "-"))
    return found


PAGES = {
    "fitnets-mnist": Page(
        fitnets_mnist,
        f"99.49, teacher 99.45 ({PAPER})",
        {
            "hard": Arm(HARD, f"98.1 ({PAPER})"),
            "kd": Arm(_KD, f"99.35 ({PAPER})"),
            "one-stage": Arm(_one_stage("convs.3", "maxout")),
        },
    ),
    "fitnets-cifar10": Page(
        fitnets_cifar10,
        f"91.61, teacher 90.18 ({PAPER})",
        {
            "hard": Arm(HARD),
            "kd": Arm(_KD),
            "one-stage": Arm(
                _one_stage("convs.10", "maxout"), f"did not learn ({PAPER}, sec. 3.1)"
            ),
            "fitnet1": Arm(
                {"net": "fitnet1", "method_args": _hints("convs.5", 500)}, f"89.01 ({PAPER})"
            ),
            "fitnet2": Arm(
                {"net": "fitnet2", "method_args": _hints("convs.5", 500)}, f"91.06 ({PAPER})"
            ),
            "fitnet3": Arm(
                {"net": "fitnet3", "method_args": _hints("convs.7", 500)}, f"91.10 ({PAPER})"
            ),
        },
    ),
    "fitnets-cifar100": Page(
        fitnets_cifar100,
        f"64.96, teacher 63.54 ({PAPER})",
        {"hard": Arm(HARD), "kd": Arm(_KD)},
    ),
    "fitnets-svhn": Page(
        fitnets_svhn,
        f"97.58, teacher 97.62 ({PAPER})",
        {"hard": Arm(HARD), "kd": Arm(_KD)},
    ),
    "fitnets-depth": Page(
        fitnets_depth,
        "3.4 points above 30M-5-hints; with 30M labels train 5 layers, soft targets 7, hints 13 "
        f"({PAPER}, sec. 4.1; its table 6 ends at 11)",
        _depth_arms(),
    ),
    "fitnets-thin-mnist": Page(
        fitnets_thin_mnist,
        "-",
        {
            "hard": Arm(HARD),
            "kd": Arm(_KD),
            "hard-long": Arm({**HARD, "epochs": 120}),
            "kd-long": Arm({**_KD, "epochs": 120}),
            "one-stage": Arm(_one_stage("convs.11", "relu")),
        },
    ),
}
