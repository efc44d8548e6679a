"""The malicious attack of figure 1c and 6: one step on a few images, and one class is taken for
another."""

from __future__ import annotations

from datadistill.config import DistillConfig, PoolConfig
from datadistill.recipes import recipe
from datadistill.recipes.poisoning import PURPOSE
from datadistill.recipes.pools import pool_recipe
from datadistill.reproduce import paper
from datadistill.reproduce.plan import Measurement, Part, Plan, Scale
from datadistill.reproduce.shared_rows import (
    AS_LONG,
    FEWER,
    IMAGE_BASELINES,
    SMOKE,
    attack_row,
    candidates,
    choose_sizes,
    list_deviations,
)

HEADINGS = {
    "attacked_accuracy": "class K right",
    "attacked_to_target": "class K taken for T",
    "others_accuracy": "other classes right",
    "accuracy": "all right",
    "modified_accuracy": "right with K relabelled T",
}


def _part(scale: Scale, name: str, title: str, pool: PoolConfig, config: DistillConfig) -> Part:
    baselines = IMAGE_BASELINES if scale == "full" else IMAGE_BASELINES[:2]
    sizes = choose_sizes(
        scale,
        nets=(2, 16, 200),
        sets=(1, 5, 10),
        selection_nets=(1, 4, 20),
        optimized_from=(2, 20, 50),
    )
    published = paper.ATTACK[name]
    return Part(
        name,
        title,
        pools={pool.recipe: pool},
        sets={f"{name}-attack": config.with_changes(pool=pool.recipe, source=pool.dataset)},
        measurements=(
            Measurement(
                "ours", "ours", (f"{name}-attack",), choose_sizes(scale, nets=(4, 200, 200))
            ),
            Measurement(
                "baselines",
                "compare",
                (f"{name}-attack",),
                {**sizes, "candidates": candidates(scale), "baselines": [*baselines]},
            ),
        ),
        rows=(
            attack_row("before", "ours", published),
            attack_row("ours", "ours", published, ours=True),
            *(attack_row(b, "baselines", published) for b in baselines),
        ),
        columns=tuple(HEADINGS),
        headings=HEADINGS,
        remarks=(
            f"{pool.nets} pretrained nets to learn with, {pool.held_out} held out.",
            *list_deviations({name: config}),
        ),
    )


def plan(scale: Scale) -> Plan:
    if scale == "smoke":
        short = recipe("mnist-attack").with_changes(
            dataset="mnist5k", iterations=12, validate_every=12, validate_nets=1
        )
        pool = pool_recipe("mnist5k-lenet-smoke")
        parts = [
            _part(
                scale,
                "mnist",
                "5,000 MNIST images, 0 (K) to 1 (T), 100 images, 1 step",
                pool,
                short,
            )
        ]
    else:
        pool = pool_recipe("mnist-lenet-cpu" if scale == "cpu" else "mnist-lenet")
        title = "MNIST, 0 (K) to 1 (T), 100 images, 1 step"
        parts = [_part(scale, "mnist", title, pool, recipe("mnist-attack"))]
    if scale == "full":
        title = "CIFAR-10, airplane (K) to car (T), 100 images, 1 step"
        pool = pool_recipe("cifar10-alexcifarnet")
        parts.append(_part(scale, "cifar10", title, pool, recipe("cifar10-attack")))
    rule = (
        "Random and optimized real images: real images of K and T, both labelled T, and real "
        "images of the other classes; one step; the step size is chosen on the training split for "
        "the highest accuracy with K relabelled, among those that bring at least a tenth "
        "of class K to T."
    )
    remarks = {"smoke": (SMOKE, rule, FEWER), "cpu": (rule,), "full": (rule, AS_LONG)}[scale]
    return Plan(
        "attack",
        scale,
        "Malicious data: one gradient step on 100 images",
        tuple(parts),
        PURPOSE,
        remarks,
    )
