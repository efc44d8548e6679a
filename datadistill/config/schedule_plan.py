"""The schedule of a learning rate over epochs. No torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Literal

from datadistill.config.plans import SgdPlan
from datadistill.config.values import check_range, quote
from datadistill.errors import UsageError

__all__ = ["Precision", "Schedule", "SchedulePlan", "check_schedule"]

Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class SchedulePlan(SgdPlan):
    """The training of a net on images, with a schedule of the learning rate."""

    milestones: tuple[int, ...] = ()
    """Epochs after which the learning rate is multiplied by `decay_factor`, once each: 60 120
    160."""
    schedule: Schedule = "constant"
    """Of the learning rate, from epoch to epoch: constant (but for decay_epochs or milestones), or
    falling to 0 by the end, linear or as a cosine."""
    warmup: int = 0
    """Epochs over which the learning rate rises to its value in equal steps; of 5, from a fifth."""
    nesterov: bool = False
    """Whether the momentum of SGD is Nesterov's."""
    precision: Precision = "float32"
    """Of the net's passes: float32, or bfloat16 by autocast; weights, losses and steps are float32
    in both."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_schedule(self)


def check_schedule(config: Any, prefix: str = "") -> None:
    """Refuse the fields of a `SchedulePlan`, with a prefix before each name, that do not fit
    together."""
    name = {f.name: prefix + f.name for f in fields(SchedulePlan)}
    value: dict[str, Any] = {own: getattr(config, there, None) for own, there in name.items()}
    check_range(config, (name["warmup"],), least=0)
    epochs, milestones = value["epochs"], value["milestones"]
    typed = " ".join(map(str, milestones))
    if any(later <= earlier for earlier, later in pairwise((0, *milestones))):
        raise UsageError(
            f"{name['milestones']} are {typed}; give epochs from 1 on, each later than the one "
            "before"
        )
    if milestones and milestones[-1] >= epochs:
        kept = " ".join(str(epoch) for epoch in milestones if epoch < epochs)
        raise UsageError(
            f"{name['milestones']} are {typed}, but {name['epochs']} is {epochs}; train for more, "
            f"or give those before the end ({kept or 'none'})"
        )
    if value["warmup"] > epochs:
        raise UsageError(
            f"{name['warmup']} is {value['warmup']}, but {name['epochs']} is {epochs}; give fewer "
            "epochs of warm-up"
        )
    falls = [own for own in ("decay_epochs", "milestones") if value[own]]
    if value["schedule"] != "constant":
        falls.append("schedule")
    if len(falls) > 1:
        both = " and ".join(f"{name[own]} ({quote(value[own])})" for own in falls)
        rest = "decay_epochs None, milestones () or schedule constant takes one out"
        raise UsageError(f"the learning rate falls by {both}; take one of them ({rest})")
    momentum = config.momentum if value["momentum"] is None else value["momentum"]
    if value["nesterov"] and (value["optimizer"] != "sgd" or momentum == 0):
        raise UsageError(
            f"{name['nesterov']} is True, but {name['optimizer']} is {value['optimizer']} with "
            f"momentum {momentum:g}; it is a form of SGD's momentum: take sgd with a momentum "
            f"above 0, or {name['nesterov']} False"
        )
