"""The tables of Srinivas and Fleuret (Knowledge Transfer with Jacobian Matching, 2018,
https://arxiv.org/abs/1803.00443) in minutes of one core, and the choices that the paper leaves open
as arms.

Ours: data, nets, optimizer, steps, and the weights of the terms, which were chosen on validation
images with other seeds than those of the tables (docs/results/jacobian_matching.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kd_baselines.config import KdConfig
from kd_baselines.recipes.jacobian import strengths, terms
from kd_baselines.recipes.recipe_page import HARD, OWN, Arm, Grid, Page

ACTIVATIONS, JACOBIAN = 0.03, 0.3
"""Weights of the two terms, the Jacobian's of the label's output."""
ALL_OUTPUTS = 0.1
"""Weight of the Jacobian of all outputs."""
COMBINATIONS = {
    "ce": (1.0, 0.0, 0.0),
    "ce+act": (1.0, ACTIVATIONS, 0.0),
    "ce+jac": (1.0, 0.0, JACOBIAN),
    "ce+act+jac": (1.0, ACTIVATIONS, JACOBIAN),
    "act": (0.0, ACTIVATIONS, 0.0),
    "act+jac": (0.0, ACTIVATIONS, JACOBIAN),
}
EPOCHS = {1: 200, 5: 200, 10: 100, 50: 20, 100: 10, 500: 2}
"""Images a class -> passes: 200 steps each, in batches of 50 (10 where there are no more)."""
OWN_CELL = (10, "ce+act+jac")
SIGMAS = (0.1, 0.3, 1.0, 2.0)


def jacobian_grid_mnist() -> KdConfig:
    """A small MLP learns MNIST of 14 pixels from few images a class, by labels, logits and
    Jacobians of a convolutional net.

    The paper's low-data table in small: `kd-baselines compare` crosses six combinations of the
    terms with 1 to 500 images a class. Every student takes 200 steps.
    """
    return KdConfig(
        recipe="jacobian-grid-mnist",
        dataset="mnist",
        size=14,
        validation=500,
        per_class=10,
        method="jacobian",
        method_args=terms(1.0, ACTIVATIONS, JACOBIAN),
        net="mlp",
        net_args={"width": 64, "depth": 2},
        epochs=100,
        batch=50,
        lr=3e-3,
        teacher_net="wide-cnn",
        teacher_args={"width": 8},
        teacher_epochs=4,
        teacher_batch=64,
        teacher_lr=3e-3,
        teacher_schedule="linear",
    )


def jacobian_outputs_mnist() -> KdConfig:
    """The student of `jacobian-grid-mnist` with 10 images a class, by labels and Jacobians: which
    outputs, and which form of the loss.

    The arms: the Jacobian of all outputs, of the teacher's largest, of the label's, or of random
    projections; the squared error or the form beside cross-entropy; and the gradient of the loss
    (attention transfer by gradients), which is one vector too.
    """
    return jacobian_grid_mnist().with_changes(
        recipe="jacobian-outputs-mnist", method_args=terms(1.0, 0.0, JACOBIAN)
    )


def jacobian_input_noise_mnist() -> KdConfig:
    """The student of `jacobian-grid-mnist` with 10 images a class learns the teacher's logits
    alone, beside arms with noise on its images, or with the Jacobian term that stands for it.

    Proposition 1 as a measurement: noise of deviation sigma, in units of the normalized images,
    beside the term whose weight is sigma^2 times that of the squared error, as sigma grows. The
    Jacobian is of all outputs, by random projections.
    """
    return jacobian_grid_mnist().with_changes(
        recipe="jacobian-input-noise-mnist",
        method_args=terms(0.0, 1.0, 0.0),
        noise=(0.3,),
    )


def jacobian_noise_mnist5k() -> KdConfig:
    """A small MLP on 3,600 digits of 14 pixels bears noise on its input, by a penalty on its
    Jacobian: seconds, offline, no teacher.

    The paper's table of noise robustness in small: four deviations of the noise, and four weights
    of the penalty, of which one is 0.
    """
    return KdConfig(
        recipe="jacobian-noise-mnist5k",
        dataset="mnist5k",
        size=14,
        noise=(0.1, 0.2, 0.3, 0.4),
        method="jacobian-norm",
        method_args={"weight": 0.01, "output": "projected"},
        net="mlp",
        net_args={"width": 128, "depth": 2},
        epochs=20,
        batch=64,
        lr=2e-3,
    )


def _grid_page() -> Page:
    names = {(size, name): f"{size}-{name}" for size in EPOCHS for name in COMBINATIONS}
    names[OWN_CELL] = OWN
    arms = {}
    for (size, name), arm in names.items():
        if arm != OWN:
            few = {"per_class": size, "epochs": EPOCHS[size], "batch": min(50, 10 * size)}
            args = HARD if name == "ce" else {"method_args": terms(*COMBINATIONS[name])}
            arms[arm] = Arm({**few, **args})
    cells = {arm: (str(size), name) for (size, name), arm in names.items()}
    return Page(jacobian_grid_mnist, "-", arms, grid=Grid("images a class", "ce", cells))


def _outputs() -> dict[str, Arm]:
    def arm(output: str, weight: float, form: str = "squared") -> Arm:
        args = {**terms(1.0, 0.0, weight), "output": output, "form": form}
        return Arm({"method_args": args})

    return {
        "hard": Arm(HARD),
        "top": arm("top", JACOBIAN),
        "projected": arm("projected", ALL_OUTPUTS),
        "full": arm("full", ALL_OUTPUTS),
        "label-cross-entropy": arm("label", 1.0, "cross-entropy"),
        "projected-cross-entropy": arm("projected", 1.0, "cross-entropy"),
        "gradient-attention": Arm({"method": "gradient-attention", "method_args": {"beta": 10.0}}),
    }


def _noise_page(sigmas: Sequence[float]) -> Page:
    arms: dict[str, Arm] = {}
    cells = {OWN: ("0", "noise")}
    for sigma in sigmas:
        noisy: dict[str, Any] = {"sigma": sigma, "loss": "logits", "label_weight": 0.0}
        # half the squared error, so half of sigma^2
        args = {**terms(0.0, 1.0, sigma**2 / 2), "output": "projected"}
        arms[f"noise-{sigma:g}"] = Arm({"method": "input-noise", "method_args": noisy})
        arms[f"jacobian-{sigma:g}"] = Arm({"method_args": args})
        for name, column in (("noise", "noise"), ("jacobian", "Jacobian")):
            cells[f"{name}-{sigma:g}"] = (f"{sigma:g}", column)
    return Page(jacobian_input_noise_mnist, "-", arms, grid=Grid("sigma", "noise", cells))


PAGES = {
    "jacobian-grid-mnist": _grid_page(),
    "jacobian-outputs-mnist": Page(jacobian_outputs_mnist, "-", _outputs()),
    "jacobian-input-noise-mnist": _noise_page(SIGMAS),
    "jacobian-noise-mnist5k": Page(
        jacobian_noise_mnist5k, "-", strengths((0.001, 0.1), "projected")
    ),
}
