"""Table 2: one hundred images of the target adapt nets that were trained on another digit set."""

from __future__ import annotations

from datadistill.config import DistillConfig, PoolConfig
from datadistill.recipes import recipe
from datadistill.recipes.pools import pool_recipe
from datadistill.reproduce import paper
from datadistill.reproduce.plan import Measurement, Part, Plan, Scale, TableRow
from datadistill.reproduce.shared_rows import (
    AS_LONG,
    BEST,
    FEWER,
    IMAGE_BASELINES,
    SELECTION,
    SMOKE,
    candidates,
    choose_sizes,
    list_deviations,
    row,
)

GREY = (
    "The source is a grey subset of SVHN, made of official test pictures: published numbers are of "
    "another data set and are not shown."
)
FULL_TARGET = (
    "All training images: ordinary training on the target's training split, from held-out nets."
)


def _part(
    scale: Scale,
    name: str,
    title: str,
    pool: PoolConfig,
    random: DistillConfig,
    *,
    comparable: bool = True,
    remarks: tuple[str, ...] = (),
) -> Part:
    sizes = choose_sizes(
        scale,
        nets=(2, 16, 200),
        sets=(1, 3, 10),
        selection_nets=(1, 4, 20),
        optimized_from=(2, 20, 50),
    )
    tested = choose_sizes(scale, nets=(4, 200, 200))
    whole = choose_sizes(scale, nets=(1, 3, 200), epochs=(1, 3, 20))
    published = paper.TABLE2[name] if comparable else {}
    random = random.with_changes(pool=pool.recipe, source=pool.dataset)
    motiian = published.get("Motiian 2017")
    return Part(
        name,
        title,
        pools={pool.recipe: pool},
        sets={name: random, f"{name}-fixed": random.with_changes(theta_0="fixed")},
        measurements=(
            Measurement("random", "ours", (name,), tested),
            Measurement("fixed", "ours", (f"{name}-fixed",), tested),
            Measurement(
                "baselines",
                "compare",
                (name,),
                {**sizes, "candidates": candidates(scale), "baselines": [*IMAGE_BASELINES]},
            ),
            Measurement("all", "full", (name,), {**whole, "lr": 1e-3, "batch": 128}),
        ),
        rows=(
            row("before", "random", published, label="no adaptation"),
            row(
                "ours",
                "fixed",
                published,
                label="ours, one pretrained net",
                key="ours-fixed",
                ours=True,
            ),
            row(
                "ours",
                "random",
                published,
                label="ours, any pretrained net",
                key="ours-random",
                ours=True,
            ),
            *(row(b, "baselines", published) for b in IMAGE_BASELINES),
            *(
                (TableRow("Motiian et al. 2017", None, published={"accuracy": motiian}),)
                if motiian
                else ()
            ),
            row("full-target", "all", published),
        ),
        remarks=(
            f"{pool.nets} pretrained nets to learn with, {pool.held_out} held out.",
            *list_deviations({name: random}),
            *remarks,
        ),
    )


def plan(scale: Scale) -> Plan:
    short = {"iterations": 12, "validate_every": 12, "validate_nets": 1, "size": 28, "channels": 1}
    if scale == "smoke":
        to_digits = recipe("mnist-to-usps").with_changes(dataset="digits", **short)
        to_mnist = recipe("usps-to-mnist").with_changes(dataset="mnist5k", **short)
        parts = [
            _part(
                scale,
                "m-to-u",
                "5,000 MNIST images to 8x8 digits (in the place of USPS)",
                pool_recipe("mnist5k-lenet-smoke"),
                to_digits,
            ),
            _part(
                scale,
                "u-to-m",
                "8x8 digits (in the place of USPS) to 5,000 MNIST images",
                pool_recipe("digits-28-lenet-smoke"),
                to_mnist,
            ),
        ]
        return _plan(scale, parts)
    end = "-cpu" if scale == "cpu" else ""
    parts = [
        _part(
            scale,
            "m-to-u",
            "MNIST to USPS",
            pool_recipe(f"mnist-lenet{end}"),
            recipe("mnist-to-usps"),
        ),
        _part(
            scale,
            "u-to-m",
            "USPS to MNIST",
            pool_recipe(f"usps-lenet{end}"),
            recipe("usps-to-mnist"),
        ),
    ]
    if scale == "cpu":
        grey, made = pool_recipe("svhn-grey-lenet-cpu"), recipe("svhn-grey-to-mnist")
        title = "SVHN (a grey subset) to MNIST"
        parts.append(_part(scale, "s-to-m", title, grey, made, comparable=False, remarks=(GREY,)))
    else:
        pool, made = pool_recipe("svhn-lenet"), recipe("svhn-to-mnist")
        parts.append(_part(scale, "s-to-m", "SVHN to MNIST", pool, made))
    return _plan(scale, parts)


def _plan(scale: Scale, parts: list[Part]) -> Plan:
    remarks = {"smoke": (SMOKE,), "cpu": (), "full": (AS_LONG,)}[scale]
    best = FEWER if scale == "smoke" else BEST
    title = "Table 2: one hundred images adapt pretrained nets, 10 steps x 3 epochs"
    return Plan("table2", scale, title, tuple(parts), "", (*remarks, best, SELECTION, FULL_TARGET))
