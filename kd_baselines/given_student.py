"""A student of one's own: a module, the objective or the stages that it learns by, and a distilled
set that it learns from.

`kd_baselines.train` takes them from Python beside its config, whose fields `net`, `method` and
`data_from` are then "custom". The config says in words what the objective is, so a resumed run is
compared with the one that was started.
"""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from torch import nn

from datadistill.config import Value
from datadistill.data import RealData
from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError
from datadistill.nets.copying import copy_net, keep_hooks
from datadistill.nets.factory import NetFactory, as_module, is_factory, refuse_lazy
from datadistill.nets.fits import check_fits
from datadistill.nets.spec import CUSTOM, FACTORY, NetSpec
from datadistill.runs.tensors import checksum
from datadistill.training.fit_plan import FitPlan
from kd_baselines.config import KdConfig
from kd_baselines.losses.term import Objective, Term
from kd_baselines.stages import Stage

__all__ = ["GivenStudent", "describe_stages"]

GIVEN = "given"  # the initialization of a module that starts from the values it has


@dataclass(frozen=True, eq=False)
class GivenStudent:
    """What a training was given in place of the net, the method and the images of its config.

    Args:
        net: a module, of which a copy is trained from the values it has; or a function that builds
            one, called under the stream of the student's seed. None: the config's.
        objective: of a single stage, by the config's plan.
        stages: one after the other, each by its own plan. Neither: the config's method.
        data_from: a distilled set, or what the config's field names.
    """

    net: nn.Module | NetFactory | None = None
    objective: Objective | Term | None = None
    stages: tuple[Stage, ...] = ()
    data_from: DistilledDataset | str | os.PathLike[str] | None = None

    @classmethod
    def of(
        cls,
        net: nn.Module | NetFactory | None,
        objective: Objective | Term | None,
        stages: Stage | Sequence[Stage] | None,
        data_from: DistilledDataset | str | os.PathLike[str] | None = None,
    ) -> GivenStudent:
        """Refuses what is no net, no objective, no stage and no set."""
        if net is not None and not isinstance(net, nn.Module) and not is_factory(net):
            raise UsageError(
                f"net is {net!r:.60}, wanted a torch module, or a function that builds one"
            )
        if objective is not None and stages is not None:
            raise UsageError(
                "both objective and stages are given; a stage has an objective of its own: drop one"
            )
        if objective is not None and not isinstance(objective, Objective | Term):
            raise UsageError(
                f"objective is {objective!r:.60}, wanted a term or a sum of terms, such as CE() + "
                "KD(T=4)"
            )
        listed = (stages,) if isinstance(stages, Stage) else tuple(stages or ())
        wrong = [stage for stage in listed if not isinstance(stage, Stage)]
        if wrong or (stages is not None and not listed):
            found = f"{wrong[0]!r:.60}" if wrong else "empty"
            raise UsageError(f"stages is {found}, wanted one kd_baselines.Stage or more")
        if not isinstance(data_from, DistilledDataset | str | os.PathLike | None):
            raise UsageError(
                f"data_from is a {type(data_from).__name__}, wanted a DistilledDataset, its file, "
                "or such as 'random:10'; real images are passed as data="
            )
        return cls(net, objective, listed, data_from)

    @property
    def distilled(self) -> DistilledDataset | None:
        """The set, where it was given itself."""
        return self.data_from if isinstance(self.data_from, DistilledDataset) else None

    @property
    def names(self) -> dict[str, bool]:
        """The arguments of `train` -> whether they were given."""
        return {
            "net": self.net is not None,
            "objective": self.objective is not None,
            "stages": bool(self.stages),
            "data_from": self.distilled is not None,
        }

    def put_in(self, config: KdConfig) -> KdConfig:
        """The config that says what was given."""
        changes: dict[str, Any] = {}
        if self.net is not None:
            if config.weights is not None:
                raise UsageError(
                    f"weights is {config.weights!r}, but the net is given with its values; load "
                    "them into it, and leave weights out"
                )
            changes |= {"net": CUSTOM, "net_args": {}}
        if self.data_from is not None:
            own = self.distilled is not None
            changes["data_from"] = CUSTOM if own else os.fspath(self.data_from)  # type: ignore[arg-type]
        if described := self.describe():
            changes |= {"method": CUSTOM, "method_args": described}
        return config.with_changes(**changes)

    def describe(self) -> dict[str, Value]:
        """The objective or the stages as arguments of the method "custom"; empty without."""
        if self.objective is not None:
            return {"objective": describe_objective(self.objective)}
        return describe_stages(self.stages)

    def to_stages(self, plan: FitPlan) -> tuple[Stage, ...]:
        """The stages with objectives that are copies: what terms own is of one training. `plan` is
        that of an objective alone."""
        stages = self.stages
        if self.objective is not None:
            stages = (Stage("student", self.objective, plan),)
        return tuple(replace(s, objective=copy.deepcopy(s.objective)) for s in stages)

    def build(self, seed: int, data: RealData) -> tuple[nn.Module, NetSpec, dict[str, str]]:
        """A copy of the net on the device of the data, in training mode but for layers that were
        frozen in evaluation mode; its spec; and the fingerprint of its values."""
        assert self.net is not None
        given = as_module(self.net, seed, "kd_student", 0)
        refuse_lazy(given)
        check_fits(given, data.shape, len(data.classes))
        net = keep_hooks(copy_net(given), given)
        if not net.training:
            net.train()
        channels, height, _ = data.shape
        sizes = {"channels": channels, "size": height, "classes": len(data.classes)}
        origin = FACTORY if is_factory(self.net) else GIVEN
        found = {origin: checksum({**dict(net.named_parameters()), **dict(net.named_buffers())})}
        return net.to(data.device), NetSpec(CUSTOM, sizes, origin), found


NOTHING = GivenStudent()


def describe_stages(stages: Sequence[Stage]) -> dict[str, Value]:
    """A line for each stage: its terms, its plan where it is not the default, and its layers.

    >>> from kd_baselines.losses import CE, KD
    >>> describe_stages([Stage("student", CE() + KD(T=4), FitPlan(epochs=3), train=("fc",))])
    {'1 student': 'CE() + KD(T=4); epochs 3; train fc'}
    """
    found: dict[str, Value] = {}
    default = FitPlan()
    for number, stage in enumerate(stages, 1):
        parts = [describe_objective(stage.objective)]
        for f in fields(FitPlan):
            value = getattr(stage.plan, f.name)
            if value != getattr(default, f.name):
                parts.append(f"{f.name} {_describe_value(value)}")
        for name in ("train", "until", "multipliers", "multipliers_until"):
            if value := getattr(stage, name):
                parts.append(f"{name} {_describe_value(value)}")
        found[f"{number} {stage.name}"] = "; ".join(parts)
    return found


def describe_objective(objective: Objective | Term) -> str:
    """The terms of an objective with their arguments that are not the defaults, the same for equal
    objectives."""
    terms = objective.terms if isinstance(objective, Objective) else [objective]
    return " + ".join(map(_describe_term, terms))


def _describe_term(term: nn.Module) -> str:
    defaults = {k: p.default for k, p in inspect.signature(type(term)).parameters.items()}
    defaults["name"] = type(term).__name__.lower()
    parts = [
        f"{name}={_describe_value(value)}"
        for name, value in sorted(vars(term).items())
        if not name.startswith("_") and name not in ("training", "needs")
        if name not in defaults or _describe_value(value) != _describe_value(defaults[name])
    ]
    if state := term.state_dict():
        parts.append(f"tensors={checksum(state)[:16]}")
    return f"{type(term).__name__}({', '.join(parts)})"


def _describe_value(value: Any) -> str:
    """A value in words, equal ones alike; of an object of unknown content its name alone."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_describe_value(v)}" for k, v in value.items())
    if isinstance(value, tuple | list):
        return " ".join(map(_describe_value, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if value is None or isinstance(value, bool | int | float | str) or is_dataclass(value):
        return str(value)
    return str(getattr(value, "__qualname__", type(value).__qualname__))
