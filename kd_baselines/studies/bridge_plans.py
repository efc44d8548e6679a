"""What `kd-baselines bridge` crosses, by name. To add one, write its plan here, and the recipe of
its students in `kd_baselines.recipes.bridge`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from datadistill.config import DistillConfig
from datadistill.config.plans import FolderPlan, NormalizationPlan
from datadistill.errors import UsageError, suggest
from datadistill.recipes import recipe
from kd_baselines.config import KdConfig

__all__ = ["BRIDGES", "BRIDGE_KIND", "BridgePlan", "SetPlan", "bridge_plan"]

BRIDGE_KIND = "kd-bridge"
"""What config.json calls the folder of a bridge."""


@dataclass(frozen=True)
class SetPlan:
    """How a distilled set is learned.

    Args:
        recipe: of datadistill.
        changes: its fields that are changed.
        sizes: images of each class -> fields that are changed at that size besides.
    """

    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    def make(self, student: KdConfig, ipc: int, changes: Mapping[str, Any]) -> DistillConfig:
        """The config of a set of so many images a class of the student's data, for its net, with
        hard labels. The validation images are those of the student's teacher."""
        shared = {**asdict(FolderPlan.of(student)), **asdict(NormalizationPlan.of(student))}
        net = {"net": student.net, "net_args": student.net_args, "init": student.init}
        own = {"ipc": ipc, "labels": "hard", "seed": student.teacher_seed, "device": student.device}
        for name in changes:
            if name in {**shared, **own}:
                raise UsageError(
                    f"distill_changes has {name}, which the study sets for images and students "
                    "alike; take it out"
                )
        more = {**self.changes, **self.sizes.get(ipc, {}), **changes}
        return recipe(self.recipe).with_changes(**{**net, **more, **shared, **own})


@dataclass(frozen=True)
class BridgePlan:
    """Images, sizes and knowledge that are crossed.

    Args:
        name: of the plan and of the students' recipe, whose arms are the kinds of knowledge.
        sets: name -> how such a distilled set is learned.
        coresets: real images, as `KdConfig.data_from` names them.
        ipc: images of each class.
        steps: gradient steps of every student.
    """

    name: str
    sets: Mapping[str, SetPlan]
    coresets: tuple[str, ...] = ("random", "herding")
    ipc: tuple[int, ...] = (1, 10, 50)
    steps: int = 300

    @property
    def images(self) -> tuple[str, ...]:
        """The rows: coresets, then distilled sets."""
        return (*self.coresets, *self.sets)


def _sets(iterations: int, dm: int, frepo: int) -> dict[str, SetPlan]:
    """The three methods for small greyscale digits, in so many iterations each. The last two learn
    images alone; their own schedules, by which they are tested once at the end, are shortened."""
    last: dict[str, Any] = {"epochs": 50, "validate_nets": 1}
    unrolled = {"nets": 1, "iterations": iterations, "validate_nets": 1}
    return {
        "unrolled": SetPlan("mnist-random", unrolled, {1: {"steps": 1, "epochs": 10}}),
        "dm": SetPlan("mnist5k-dm", {**last, "iterations": dm, "validate_every": dm}),
        "frepo": SetPlan("mnist-frepo-cpu", {**last, "iterations": frepo, "validate_every": frepo}),
    }


_TINY: dict[str, Any] = {"iterations": 3, "batch": 32, "validate_every": 3, "validate_nets": 1}

BRIDGES: dict[str, BridgePlan] = {
    plan.name: plan
    for plan in (
        BridgePlan("bridge-mnist5k", _sets(iterations=100, dm=200, frepo=200)),
        BridgePlan("bridge-mnist", _sets(iterations=1800, dm=3000, frepo=1500), steps=1000),
        BridgePlan(
            "bridge-digits",
            {
                "unrolled": SetPlan("digits-random", {**_TINY, "nets": 1}),
                "dm": SetPlan("mnist5k-dm", {**_TINY, "epochs": 5}),
                "frepo": SetPlan("mnist5k-frepo", {**_TINY, "epochs": 5}),
            },
            ipc=(1, 2),
            steps=20,
        ),
    )
}
"""bridge-mnist5k and bridge-digits need no download; bridge-mnist is tested on MNIST's own test
images."""


def bridge_plan(name: str) -> BridgePlan:
    """The plan of a name; UsageError names the nearest."""
    if name not in BRIDGES:
        raise UsageError(f"there is no bridge {name!r}; {suggest(str(name), BRIDGES)}")
    return BRIDGES[name]
