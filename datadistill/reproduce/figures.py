"""Figures 4 and 5: how accuracy grows with gradient steps, epochs, and images per class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datadistill.config import DistillConfig
from datadistill.recipes import ablations
from datadistill.reproduce import paper
from datadistill.reproduce.plan import ACCURACY, Measurement, Part, Plan, Scale, TableRow
from datadistill.reproduce.shared_rows import SMOKE, choose_sizes
from datadistill.studies.table import Published

PAPERS_FORM = (
    "Random initialization, in the paper's own form: plain gradient descent, hard labels, one step "
    "size for each step, images from noise."
)
_SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {
        "dataset": "mnist5k",
        "iterations": 8,
        "nets": 1,
        "batch": 64,
        "validate_every": 8,
        "validate_nets": 1,
    },
    "cpu": {"iterations": 800, "nets": 2, "batch": 128, "lr_images": 0.03, "lr_step_sizes": 0.03},
    "full": {},
}

Points = Mapping[int, tuple[str, DistillConfig]]  # x -> name of the set and its config


def _part(
    scale: Scale,
    name: str,
    title: str,
    x: str,
    curves: Mapping[str, tuple[Points, Mapping[int, Published], bool]],
) -> Part:
    """Curves by label: their points, the published numbers, whether they are the paper's method."""
    sets = {set_: config for points, _, _ in curves.values() for set_, config in points.values()}
    nets = choose_sizes(scale, nets=(2, 50, 200))
    return Part(
        name,
        title,
        sets=sets,
        measurements=tuple(Measurement(f"ours-{set_}", "ours", (set_,), nets) for set_ in sets),
        rows=tuple(
            TableRow(
                label,
                f"ours-{set_}",
                "ours",
                {ACCURACY: published[at]} if at in published else {},
                ours,
                float(at),
            )
            for label, (points, published, ours) in curves.items()
            for at, (set_, _) in points.items()
        ),
        x=x,
    )


def _datasets(scale: Scale) -> tuple[str, ...]:
    return ("mnist", "cifar10") if scale == "full" else ("mnist",)


def _name_run(config: DistillConfig, scale: Scale) -> tuple[str, DistillConfig]:
    return config.recipe, config.with_changes(**_SETTINGS[scale])


def _remarks(scale: Scale) -> tuple[str, ...]:
    if scale == "full":
        return (PAPERS_FORM,)
    config = ablations.figure4().with_changes(**_SETTINGS[scale])
    nets = f"{config.nets} net{'s' if config.nets > 1 else ''}"
    short = f"{config.iterations} outer iterations of {nets} and {config.batch} real images."
    return (SMOKE, PAPERS_FORM, short) if scale == "smoke" else (PAPERS_FORM, short)


def figure4(scale: Scale) -> Plan:
    steps = {"smoke": (1, 5), "cpu": (1, 5, 10, 20, 30), "full": (1, 5, 10, 20, 30)}[scale]
    epochs = {"smoke": (1, 2), "cpu": (1, 2, 3, 4, 5), "full": (1, 2, 3, 4, 5)}[scale]
    shown = "5,000 MNIST images" if scale == "smoke" else None
    parts = []
    for dataset in _datasets(scale):
        by_steps = {s: _name_run(ablations.figure4(s, 2, dataset), scale) for s in steps}
        by_epochs = {e: _name_run(ablations.figure4(10, e, dataset), scale) for e in epochs}
        published, title = paper.FIGURE4[dataset], shown or dataset
        label = "ours, random initialization"
        parts += [
            _part(
                scale,
                f"{dataset}-steps",
                f"{title}, 2 epochs",
                "gradient steps",
                {label: (by_steps, published["steps"], True)},
            ),
            _part(
                scale,
                f"{dataset}-epochs",
                f"{title}, 10 steps",
                "epochs",
                {label: (by_epochs, published["epochs"], True)},
            ),
        ]
    title = "Figure 4: more gradient steps, more epochs"
    return Plan("figure4", scale, title, tuple(parts), "", _remarks(scale))


def figure5(scale: Scale) -> Plan:
    images = {"smoke": (1, 5), "cpu": (5, 10, 20, 30), "full": (1, 5, 10, 20, 30)}[scale]
    parts = []
    for dataset in _datasets(scale):
        many = {n: _name_run(ablations.figure5(n, False, dataset), scale) for n in images}
        # one image per class is one step either way
        one = {n: _name_run(ablations.figure5(n, True, dataset), scale) for n in images if n > 1}
        published = paper.FIGURE5[dataset]
        title = "5,000 MNIST images" if scale == "smoke" else dataset
        parts.append(
            _part(
                scale,
                dataset,
                f"{title}, 1 epoch",
                "images per class",
                {
                    "each in a step of its own": (many, published["many"], True),
                    "all in one step": (one, published["one"], False),
                },
            )
        )
    title = "Figure 5: the same images in many steps, or in one"
    return Plan("figure5", scale, title, tuple(parts), "", _remarks(scale))
