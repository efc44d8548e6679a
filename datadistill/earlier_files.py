"""Distilled sets as they were described before schema 4, where much stood in `origin` that now has
a field.

Files of schema 1 to 3, and checkpoints of that time, said by entries of `origin` where nets start,
what was asked of them and which images were held out, and gave the order of use step by step.
"""

from __future__ import annotations

from typing import Any

import torch

from datadistill.data.reference import DataReference
from datadistill.errors import DataError
from datadistill.nets.spec import FACTORY
from datadistill.runs.content import check_object, quote
from datadistill.synthetic.schedule import Schedule, check_batches

_MOVED = (
    *("source", "pool", "weights", "given", "factory", "fixed"),  # to start
    "attack",  # to objective
    *("validation", "holdout", "skip_bad", "parts", "data_fingerprint"),  # to data
)


def upgrade(values: dict[str, Any], schema: int) -> dict[str, Any]:
    """The values of a file, as one of schema 4 has them."""
    if schema >= 4:
        return values
    if early := [name for name in ("start", "objective", "data", "schedule") if name in values]:
        raise DataError(f"metadata has unknown {early} in schema {schema}; get the file again")
    values = {
        **values,
        **describe_by_origin(
            values["origin"], values["theta_0"] is not None, values["net"]["init"]
        ),
    }
    order = check_batches("order", values.pop("order"))
    return {
        **values,
        "schedule": Schedule.of(
            [torch.tensor(index, dtype=torch.long) for index in order]
        ).describe(),
    }


def describe_by_origin(origin: Any, fixed: bool, init: str) -> dict[str, Any]:
    """The descriptions of a set's start, objective and data, and the rest of its origin. `fixed`:
    whether the set has a theta_0; `init`: the net's initialization."""
    origin = check_object("origin", origin)
    return {
        "start": _start(origin, fixed or origin.get("fixed") is True, init),
        "objective": _objective(origin.get("attack")),
        "data": {
            **DataReference().describe(),
            **{
                k: origin[k]
                for k in ("dataset", "validation", "holdout", "skip_bad", "parts")
                if k in origin
            },
            "seed": origin.get("seed") or 0,
            "fingerprint": origin.get("data_fingerprint"),
        },
        "origin": {name: value for name, value in origin.items() if name not in _MOVED},
    }


def _start(origin: dict[str, Any], one: bool, init: str) -> dict[str, Any]:
    start = {"one": one, "source": origin.get("source"), "fingerprint": None}
    for kind in ("given", "weights", "factory"):
        if kind in origin:
            return {**start, "name": kind, "fingerprint": origin[kind]}
    if "pool" in origin or start["source"] is not None:
        return {**start, "name": "pool", "fingerprint": origin.get("pool")}
    return {**start, "name": "factory" if init == FACTORY else "draws"}


def _objective(attack: Any) -> dict[str, Any]:
    if attack is None:
        return {"name": "classification"}
    if not isinstance(attack, list) or len(attack) != 2 or not all(type(k) is int for k in attack):
        raise DataError(f"origin.attack is {quote(attack)}, wanted two classes")
    return {"name": "attack", "attacked": attack[0], "target": attack[1]}
