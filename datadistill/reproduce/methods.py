"""Methods of the field under one protocol: accuracy, seconds of learning, and other architectures.

Parts by images a class. The sets of `cpu` are learned by the recipes for two cores, with narrow
nets, and tested on nets of width 128; those of `full` by the recipes with the papers' settings.
Random real images and coresets of the same size stand beside them.

References: README of https://github.com/VICO-UoE/DatasetCondensation for the published numbers of
DC and DSA; each method's file has its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from datadistill.config import DistillConfig, PoolConfig
from datadistill.recipes import recipe
from datadistill.recipes.field import IPC, PUBLISHED
from datadistill.recipes.pools import pool_recipe
from datadistill.reproduce.plan import Measurement, Part, Plan, Scale, TableRow
from datadistill.reproduce.shared_rows import SMOKE, choose_sizes
from datadistill.studies.table import Published

C = TypeVar("C", DistillConfig, PoolConfig)

METHODS = {
    "dc": "gradient matching (DC)",
    "dm": "distribution matching (DM)",
    "dm-mosaic": "distribution matching of mosaics",
    "rat": "unrolled, random windows (RaT-BPTT)",
    "mtt": "trajectory matching (MTT)",
    "frepo": "kernel regression (FRePo)",
}
"""Part of a recipe's name: the method in words."""
MOSAIC = "dm-mosaic"
CORESETS = {
    "random-real": "random real images",
    "k-means": "k-means centres",
    "herding": "herding",
}
CONVNET = "convnet:depth=3,norm=instance,growth=1,first_padding=3,width="
"""Whole, as its arguments are put over those of the net that a set was learned with."""
HEADINGS = {
    "convnet": "ConvNet, width 128",
    "mlp": "MLP",
    "lenet": "LeNet",
    "resnet18": "ResNet-18, instance norm",
    "resnet18-16": "ResNet-18 of width 16, instance norm",
}
ARCHITECTURES = {"convnet": f"{CONVNET}128", "mlp": "mlp", "lenet": "lenet"}
NARROW = {**ARCHITECTURES, "convnet": f"{CONVNET}8"}
DEEP = {
    "cpu": {"resnet18-16": "resnet18:norm=instance,width=16"},
    "full": {"resnet18": "resnet18:norm=instance"},
}
"""With the norm that the field tests it with: with BatchNorm it learned nothing from ten distilled
images. A quarter of its width has a sixteenth of the multiplications."""
SHORT = (
    "At this scale each method learns for some minutes of one core, with narrow nets and settings "
    "of our own, which are not those of its paper. Nets of ResNet-18 are tested after 100 epochs "
    "where there are ten images a class."
)
OF_ROWS = (
    "A mosaic holds four images of half the side in the bytes of one. Coresets that are drawn are "
    "of several sets, all tested on the same nets; k-means with one image a class is the class "
    "mean, the same in each."
)
EXPERTS = {"smoke": "mnist5k-experts", "cpu": "mnist-experts-cpu", "full": "mnist-experts"}


def _sets(scale: Scale, ipc: int) -> dict[str, DistillConfig]:
    """The set of each method."""
    if scale == "full":
        found = {name: recipe(f"mnist-{name}-ipc{ipc}") for name in METHODS if name != MOSAIC}
        found[MOSAIC] = found["dm"].with_changes(decoder="mosaic")
        return {name: found[name] for name in METHODS}
    few = ipc == 1
    matched = recipe("mnist-dm-cpu").with_changes(ipc=ipc, iterations=1000)
    found = {
        "dc": _narrow(recipe(f"mnist-dc-ipc{ipc}"), 32).with_changes(
            batch=64, iterations=400 if few else 100
        ),
        "dm": matched,
        MOSAIC: matched.with_changes(decoder="mosaic", lr_images=10.0 if few else 20.0),
        "rat": recipe("mnist-rat-cpu").with_changes(ipc=ipc, iterations=500),
        "mtt": recipe("mnist-mtt-cpu").with_changes(ipc=ipc),
        "frepo": recipe("mnist-frepo-cpu").with_changes(ipc=ipc),
    }
    if scale == "cpu":
        return found
    found["rat"] = found["rat"].with_changes(window=1)
    return {name: _narrow(config, 4).with_changes(**SMOKE_RUN) for name, config in found.items()}


SMOKE_RUN: dict[str, Any] = {
    "dataset": "mnist5k",
    "iterations": 2,
    "validate_every": 2,
    "validate_nets": 1,
    "batch": 64,
}


def _narrow(config: C, width: int) -> C:
    """The same with a narrower ConvNet."""
    return config.with_changes(net_args={**config.net_args, "width": width})


def _part(scale: Scale, ipc: int, name: str, title: str, arguments: Mapping[str, Any]) -> Part:
    """One table; its first column is what the figure shows. Coresets have as many tests in all as a
    distilled set."""
    experts = pool_recipe(EXPERTS[scale])
    if scale == "smoke":
        experts = _narrow(experts, 4)
    sets = {}
    for method, config in _sets(scale, ipc).items():
        follows = {"experts": "experts"} if config.method == "trajectory-matching" else {}
        sets[f"{method}-ipc{ipc}"] = config.with_changes(**follows)
    columns = tuple(arguments["architectures"])
    rows = []
    for method, words in METHODS.items():
        is_published = method == arguments["protocol"] == "dc" and "convnet" in columns
        known = {"convnet": _published(ipc)} if is_published else {}
        rows.append(TableRow(words, f"{method}-ipc{ipc}", "distilled", known, ours=True))
    first, *others = sets
    alone = {k: v for k, v in arguments.items() if k != "sets"}
    of_each = max(1, arguments["nets"] // arguments["sets"])
    drawn = {**arguments, "nets": of_each, "beside": ("random-real", "k-means")}
    rows += [
        TableRow(words, "coresets" if coreset in drawn["beside"] else first, coreset)
        for coreset, words in CORESETS.items()
    ]
    return Part(
        name,
        title,
        sets=sets,
        measurements=(
            Measurement(first, "protocol", (first,), {**alone, "beside": ("herding",)}),
            *(Measurement(other, "protocol", (other,), dict(alone)) for other in others),
            Measurement("coresets", "protocol", (first,), drawn),
        ),
        rows=tuple(rows),
        pools={"experts": experts},
        columns=columns,
        headings=HEADINGS,
    )


def _published(ipc: int) -> Published:
    """DC's number, the one that was published for MNIST by the protocol dc."""
    source, *accuracies = PUBLISHED["dc", "mnist"]
    number, deviation = accuracies[IPC.index(ipc)].split(" ± ")
    return Published(float(number), float(deviation), source)


def plan(scale: Scale) -> Plan:
    sizes = choose_sizes(scale, nets=(1, 3, 20), sets=(1, 3, 5))
    short = {"epochs": 2} if scale == "smoke" else {}
    protocol = "dc" if scale == "full" else "plain"
    data = "5,000 MNIST images" if scale == "smoke" else "MNIST"
    parts = []
    for ipc in (1,) if scale == "smoke" else (1, 10):
        title = f"{data}, {ipc} image{'s' if ipc > 1 else ''} a class, protocol {protocol}"
        nets = NARROW if scale == "smoke" else ARCHITECTURES
        arguments = {**sizes, **short, "protocol": protocol, "architectures": nets}
        parts.append(_part(scale, ipc, f"ipc{ipc}", title, arguments))
        if scale != "smoke":
            deep = {**arguments, "architectures": DEEP[scale]}
            if scale == "cpu" and ipc > 1:
                deep["epochs"] = 100
            parts.append(_part(scale, ipc, f"ipc{ipc}-resnet18", f"{title}, ResNet-18", deep))
    remarks = {"smoke": (SMOKE,), "cpu": (SHORT, OF_ROWS), "full": (OF_ROWS,)}[scale]
    title = "Methods: what a few images teach, and how long they take to learn"
    return Plan("methods", scale, title, tuple(parts), "", remarks, is_of_paper=False)
