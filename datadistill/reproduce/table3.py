"""Table 3: one image per class, 1 step x 3 epochs, adapt a net pretrained on ImageNet."""

from __future__ import annotations

from typing import Any

from datadistill.config import DistillConfig
from datadistill.recipes import recipe
from datadistill.reproduce import paper
from datadistill.reproduce.plan import WEIGHTS, Measurement, Part, Plan, Scale
from datadistill.reproduce.shared_rows import (
    AS_LONG,
    BEST,
    FEWER,
    ONE_NET,
    SMOKE,
    choose_sizes,
    list_deviations,
    row,
)
from datadistill.studies.table import Published

CROPS = (
    "The paper's code crops every annotated object of VOC 2007; here are whole pictures of VOC "
    "2012, each with the class of its largest object: its numbers are not shown."
)
BASELINES = ("random-real", "optimized-real", "average-real")


def _part(
    scale: Scale,
    name: str,
    title: str,
    config: DistillConfig,
    *,
    full: dict[str, Any],
    comparable: bool,
    remarks: tuple[str, ...] = (),
    drawn: str | None = None,
) -> Part:
    runs = choose_sizes(scale, runs=(2, 5, 10))["runs"]
    sizes = choose_sizes(
        scale, nets=(1, 1, 1), sets=(1, 1, 1), selection_nets=(1, 1, 1), optimized_from=(2, 5, 50)
    )
    published: dict[str, Published] = paper.TABLE3[name] if comparable else {}
    sets = {f"{name}-run{n}": config.with_changes(weights=WEIGHTS, seed=n) for n in range(runs)}
    return Part(
        name,
        title,
        sets=sets,
        measurements=(
            Measurement("ours", "ours", tuple(sets), {"nets": 1}),
            Measurement(
                "baselines",
                "compare",
                tuple(sets),
                {
                    **sizes,
                    "candidates": "all" if scale == "full" else "learned",
                    "baselines": [*BASELINES],
                },
            ),
            Measurement("all", "full", tuple(sets), {"nets": 1, **full}),
        ),
        rows=(
            row("before", "ours"),
            row("ours", "ours", published, ours=True),
            *(row(b, "baselines", published) for b in BASELINES),
            row("full-target", "all", published, label="fine-tuning on all images"),
        ),
        drawn_weights=drawn,
        remarks=(*list_deviations({name: config}), *remarks),
    )


def plan(scale: Scale) -> Plan:
    words = "1 image per class, 1 step x 3 epochs"
    runs = (
        "Means and deviations are over runs: each has its own fresh last layer, start "
        "images and draws."
    )
    if scale == "smoke":
        tiny = recipe("squeezenet-to-voc-animals").with_changes(
            dataset="digits", size=32, channels=3, iterations=3, batch=16, validate_every=3
        )
        part = _part(
            scale,
            "voc",
            f"8x8 digits in colour (in the place of VOC), {words}",
            tiny,
            comparable=False,
            full={"epochs": 1, "batch": 64, "optimizer": "sgd", "lr": 0.001},
            drawn="squeezenet1_0",
            remarks=(
                "Without --weights the net starts from weights that were drawn, not trained.",
            ),
        )
        return _plan(scale, [part], (SMOKE, runs, ONE_NET))
    if scale == "cpu":
        small = (
            "of {0}; the paper has all of it, AlexNet and 224 pixels: its numbers are not shown."
        )
        full: dict[str, Any] = {"epochs": 3, "batch": 32, "lr": 1e-4}
        parts = [
            _part(
                scale,
                "voc",
                f"five animals of PASCAL VOC 2012, SqueezeNet, 112 pixels, {words}",
                recipe("squeezenet-to-voc-animals"),
                comparable=False,
                full=full,
                remarks=("300 training and 200 test images " + small.format("PASCAL VOC"),),
            ),
            _part(
                scale,
                "cub",
                f"20 species of CUB-200, SqueezeNet, 64 pixels, {words}",
                recipe("squeezenet-to-cub-20"),
                comparable=False,
                full=full,
                remarks=("600 training and 585 test images " + small.format("CUB-200"),),
            ),
        ]
        return _plan(scale, parts, (runs, ONE_NET))
    full = {"epochs": 20, "batch": 128, "optimizer": "sgd", "lr": 0.001}
    voc, cub = recipe("imagenet-to-voc"), recipe("imagenet-to-cub")
    parts = [
        _part(
            scale,
            "voc",
            f"PASCAL VOC 2012, AlexNet, {words}",
            voc,
            full=full,
            comparable=False,
            remarks=(CROPS,),
        ),
        _part(scale, "cub", f"CUB-200, AlexNet, {words}", cub, full=full, comparable=True),
    ]
    return _plan(scale, parts, (runs, ONE_NET, AS_LONG))


def _plan(scale: Scale, parts: list[Part], remarks: tuple[str, ...]) -> Plan:
    title = "Table 3: one image per class adapts a net pretrained on ImageNet"
    best = BEST if scale == "full" else FEWER
    return Plan("table3", scale, title, tuple(parts), "", (*remarks, best))
