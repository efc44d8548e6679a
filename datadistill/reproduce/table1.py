"""Table 1: one hundred images, 10 steps x 3 epochs, fixed and random initialization, and all
baselines."""

from __future__ import annotations

from datadistill.config import DistillConfig
from datadistill.recipes import recipe
from datadistill.reproduce import paper
from datadistill.reproduce.plan import Measurement, Part, Plan, Scale
from datadistill.reproduce.shared_rows import (
    AS_LONG,
    IMAGE_BASELINES,
    NEIGHBOURS,
    SELECTION,
    SMOKE,
    choose_sizes,
    list_deviations,
    row,
)

GRID, LEARNED = ", fixed step size", ", learned step sizes"


def _part(scale: Scale, name: str, title: str, fixed: DistillConfig, random: DistillConfig) -> Part:
    sizes = choose_sizes(
        scale,
        nets=(2, 20, 200),
        sets=(1, 5, 10),
        selection_nets=(1, 5, 20),
        optimized_from=(2, 20, 50),
    )
    tested = choose_sizes(scale, nets=(4, 200, 200))
    published = paper.TABLE1[name]
    return Part(
        name,
        title,
        sets={f"{name}-fixed": fixed, f"{name}-random": random},
        measurements=(
            Measurement("fixed", "ours", (f"{name}-fixed",), tested),
            Measurement("random", "ours", (f"{name}-random",), tested),
            Measurement(
                "grid",
                "compare",
                (f"{name}-random",),
                {**sizes, "candidates": "grid", "baselines": [*IMAGE_BASELINES, *NEIGHBOURS]},
            ),
            Measurement(
                "learned",
                "compare",
                (f"{name}-random",),
                {**sizes, "candidates": "learned", "baselines": [*IMAGE_BASELINES]},
            ),
        ),
        rows=(
            row(
                "ours",
                "fixed",
                published,
                label="ours, fixed initialization",
                key="ours-fixed",
                ours=True,
            ),
            row(
                "ours",
                "random",
                published,
                label="ours, random initialization",
                key="ours-random",
                ours=True,
            ),
            *(row(b, "grid", published, suffix=GRID) for b in IMAGE_BASELINES),
            *(row(b, "learned", suffix=LEARNED) for b in IMAGE_BASELINES),
            *(row(b, "grid", published) for b in NEIGHBOURS),
        ),
        remarks=(
            *list_deviations({f"{name}-fixed": fixed, f"{name}-random": random}),
            "Fixed step size: plain gradient descent with one step size of the paper's grid, as in "
            "the paper. Learned step sizes: those of our own set, with its update rule; the paper "
            "counts the best of both, learned by its own method, in one number.",
        ),
    )


def plan(scale: Scale) -> Plan:
    words = "100 images, 10 steps x 3 epochs"
    if scale == "smoke":
        short = {"dataset": "mnist5k", "iterations": 10, "validate_every": 10, "validate_nets": 1}
        parts = [
            _part(
                scale,
                "mnist",
                f"5,000 MNIST images, {words}",
                recipe("mnist-fixed-100").with_changes(**short),
                recipe("mnist-random").with_changes(**short),
            )
        ]
    else:
        parts = [
            _part(
                scale,
                "mnist",
                f"MNIST, LeNet, {words}",
                recipe("mnist-fixed-100"),
                recipe("mnist-random"),
            )
        ]
    if scale == "full":
        fixed, random = recipe("cifar10-fixed"), recipe("cifar10-random")
        parts.append(_part(scale, "cifar10", f"CIFAR-10, AlexCifarNet, {words}", fixed, random))
    remarks = {"smoke": (SMOKE,), "cpu": (), "full": (AS_LONG,)}[scale]
    title = "Table 1: what one hundred images teach"
    return Plan("table1", scale, title, tuple(parts), "", (*remarks, SELECTION))
