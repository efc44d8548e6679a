"""Stages: which parameters train, with which objective, for how long, at which learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from datadistill.errors import UsageError, suggest
from datadistill.nets.module_paths import (
    find_path,
    modules_by_path,
    parameters_by_path,
    plain_paths,
)
from datadistill.training.fit_plan import FitPlan
from kd_baselines.losses.term import Objective, Term

__all__ = ["Stage", "groups_of"]


@dataclass(frozen=True, eq=False)
class Stage:
    """A part of a training.

    Args:
        name: printed in progress and metrics.
        objective: what is minimized; its own parameters (a regressor's) train with it.
        plan: passes, batches, optimizer, learning rates.
        train: paths of the student's modules whose parameters train; empty: all of them.
        until: path of a module: of those, only the parameters of modules up to it (and what it
            contains), in the order in which the student registers its modules; None: to the end.
        multipliers: path of a module -> factor on the learning rate of its parameters; the longest
            path that fits a parameter decides.
        multipliers_until: path of a module -> one more factor, for all parameters up to it in that
            order.
    """

    name: str
    objective: Objective | Term
    plan: FitPlan
    train: tuple[str, ...] = ()
    until: str | None = None
    multipliers: Mapping[str, float] = field(default_factory=dict)
    multipliers_until: Mapping[str, float] = field(default_factory=dict)


def groups_of(stage: Stage, student: nn.Module, objective: Objective) -> list[dict[str, Any]]:
    """Optimizer groups: the student's parameters that train, one group a learning rate, and the
    objective's."""
    stage = _with_plain_paths(stage, student)
    until = () if stage.until is None else (stage.until,)
    for path, factor in (*stage.multipliers.items(), *stage.multipliers_until.items()):
        if not 0 <= factor < math.inf:
            raise UsageError(
                f"the learning rate of {path} is multiplied by {factor}; give 0 or more, finite"
            )
    groups: dict[float, list[nn.Parameter]] = {}
    up_to = {path: _list_up_to(student, path) for path in (*until, *stage.multipliers_until)}
    for name, parameter in parameters_by_path(student).items():
        owner = name.rpartition(".")[0]
        if not parameter.requires_grad or any(owner not in up_to[path] for path in until):
            continue
        if stage.train and not any(_is_within(name, path) for path in stage.train):
            continue
        fitting = [path for path in stage.multipliers if _is_within(name, path)]
        factor = stage.multipliers[max(fitting, key=len)] if fitting else 1.0
        factor *= math.prod(
            f for path, f in stage.multipliers_until.items() if owner in up_to[path]
        )
        if factor:
            groups.setdefault(factor, []).append(parameter)
    if not groups:
        raise UsageError(f"stage {stage.name} trains no parameter of the student; unfreeze some")
    found: list[dict[str, Any]] = [
        {"params": p, "lr": stage.plan.lr * f} for f, p in groups.items()
    ]
    own = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    return [*found, {"params": own, "lr": stage.plan.lr}] if own else found


def _with_plain_paths(stage: Stage, student: nn.Module) -> Stage:
    """The stage with the student's modules by their paths without the names of wrappers; an unknown
    one is refused."""

    def find(path: str) -> str:
        if (plain := find_path(student, path)) is None:
            known = [name for name in modules_by_path(student) if name]
            raise UsageError(f"the student has no module {path!r}; {suggest(path, known)}")
        return plain

    return replace(
        stage,
        train=tuple(map(find, stage.train)),
        until=None if stage.until is None else find(stage.until),
        multipliers={find(path): f for path, f in stage.multipliers.items()},
        multipliers_until={find(path): f for path, f in stage.multipliers_until.items()},
    )


def _list_up_to(student: nn.Module, path: str) -> set[str]:
    """Names of the modules up to the last one within `path`, in the order in which they are
    registered."""
    names = list(plain_paths(student).values())
    return set(names[: 1 + max(i for i, name in enumerate(names) if _is_within(name, path))])


def _is_within(name: str, path: str) -> bool:
    return path == "" or name == path or name.startswith(path + ".")
