"""Checks of a pool, its file's among them: counts, classes, accuracies and tensors fit together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from datadistill.errors import DataError, suggest
from datadistill.nets import INITIALIZATIONS
from datadistill.nets.spec import CUSTOM, FACTORY, refuse_other_tensors
from datadistill.pool_from_modules import pooled_tensors
from datadistill.runs.content import (
    Check,
    check_class_names,
    check_object,
    check_text,
    check_whole,
    optional,
    quote,
)
from datadistill.runs.header import DTYPES

if TYPE_CHECKING:
    from datadistill.pool import Pool

PLAIN: dict[str, Check] = {
    **dict.fromkeys(("nets", "validation_nets", "held_out"), partial(check_whole, least=1)),
    **dict.fromkeys(("dataset", "data_fingerprint"), check_text),
    "record": optional(check_object),
    "epochs": optional(partial(check_whole, least=1)),
}
"""Fields of plain values: their checks."""


def check_pool(pool: Pool) -> tuple[list[str], list[str]]:
    """Refuse what does not fit together; the names of parameters and of buffers."""
    for name, check in PLAIN.items():
        check(name, getattr(pool, name))
    k = len(check_class_names(pool.classes))
    custom = pool.net.name == CUSTOM
    if pool.net.init not in INITIALIZATIONS and not (custom and pool.net.init == FACTORY):
        init = pool.net.init[:80]
        raise DataError(f"the initialization is {init!r}; {suggest(init, INITIALIZATIONS)}")
    args = pool.net.args
    if not custom and (
        args.get("classes") != k or args.get("channels") != pool.normalization.channels
    ):
        raise DataError(
            f"the net has {args.get('classes')} outputs and {args.get('channels')} channels for "
            f"{k} classes and {pool.normalization.channels} channels of images"
        )
    found = pool.accuracies
    if len(found) != pool.total or not all(
        type(a) in (int, float) and 0 <= a <= 100 for a in found
    ):
        raise DataError(
            f"accuracies are {quote(list(found))}, wanted {pool.total} numbers from 0 to 100"
        )
    names = _check_own_names(pool) if custom else _check_names(pool)
    for name, x in pool.tensors.items():
        if not bool(torch.isfinite(x).all()):
            n = int((~torch.isfinite(x)).reshape(pool.total, -1).any(1).nonzero()[0])
            raise DataError(
                f"tensor {name!r} of net {n} is not finite; train the pool again, or get it again"
            )
    return names


def _check_names(pool: Pool) -> tuple[list[str], list[str]]:
    """Names, shapes and dtypes of a net of this library are those of its architecture."""
    parameters, buffers = pooled_tensors(pool.net.shapes(len(pool.tensors)))
    axes = _leading_axes(pool)
    wanted = {k: x.new_empty(*axes, *x.shape) for k, x in {**parameters, **buffers}.items()}
    refuse_other_tensors(pool.tensors, wanted, pool.net.name)
    if pool.buffers is not None and set(pool.buffers) != set(buffers):
        raise DataError(
            f"buffers are {quote(list(pool.buffers))}, wanted {quote(list(buffers))} of the net "
            f"{pool.net.name}; leave them out"
        )
    return list(parameters), list(buffers)


def _leading_axes(pool: Pool) -> tuple[int, ...]:
    """The axes of every tensor in front of the net's own."""
    return (pool.total,) if pool.epochs is None else (pool.total, pool.epochs + 1)


def _check_own_names(pool: Pool) -> tuple[list[str], list[str]]:
    """A module of the user's own is not at hand: its tensors are of as many nets."""
    if pool.buffers is None:
        raise DataError(
            "the nets are modules of the user's own, and which of their tensors are buffers is "
            "missing (buffers); get the file again"
        )
    parameters = [name for name in pool.tensors if name not in pool.buffers]
    if not parameters or len(parameters) + len(pool.buffers) != len(pool.tensors):
        raise DataError(
            f"buffers are {quote(list(pool.buffers))} of {len(pool.tensors)} tensors, wanted names "
            "of some of them; get the file again"
        )
    for name, x in pool.tensors.items():
        axes = _leading_axes(pool)
        if x.dtype not in DTYPES or x.shape[: len(axes)] != axes:
            along = "" if pool.epochs is None else f", at {pool.epochs + 1} epochs along the second"
            raise DataError(
                f"tensor {name!r} is {x.dtype} {tuple(x.shape)}, wanted real numbers of "
                f"{pool.total} nets along the first axis{along}"
            )
    return parameters, list(pool.buffers)
