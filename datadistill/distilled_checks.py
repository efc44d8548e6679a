"""Checks that the parts of a distilled set fit together: images, labels, step sizes, order and
net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datadistill.data.normalization import Normalization
from datadistill.errors import DataError, suggest
from datadistill.innerloop.losses import LOSSES
from datadistill.nets import INITIALIZATIONS
from datadistill.nets.limits import MOST_TENSORS
from datadistill.nets.spec import CUSTOM, FACTORY, NetSpec, refuse_other_tensors
from datadistill.runs.content import check_class_names, quote
from datadistill.runs.set_record import check_origin
from datadistill.synthetic.schedule import Schedule

if TYPE_CHECKING:
    from datadistill.distilled import DistilledDataset


def check_set(d: DistilledDataset) -> None:
    """Refuse parts that do not fit together. The constructor calls this, so a file is checked
    too."""
    check_images(d.images, d.normalization, d.net)
    if d.loss not in LOSSES:
        raise DataError(f"loss is {quote(d.loss)}, wanted {' or '.join(LOSSES)}")
    check_labels(d.labels, len(d.images), d.classes, d.loss)
    _check_steps(d.step_sizes, d.schedule, len(d.images), d.tensors)
    check_origin("origin", d.origin)
    if d.norm not in ("batch", "frozen"):
        raise DataError(f"norm is {quote(d.norm)}, wanted batch or frozen")
    if d.net.init not in INITIALIZATIONS and (d.net.name, d.net.init) != (CUSTOM, FACTORY):
        init = d.net.init[:80]
        raise DataError(f"the initialization is {init!r}; {suggest(init, INITIALIZATIONS)}")
    for k, p in (d._theta_0 or {}).items():
        if not p.is_floating_point() or not bool(torch.isfinite(p).all()):
            raise DataError(f"theta_0 {k!r} is {p.dtype}, or not finite; wanted finite floats")
    if lacking := sorted(set(d.own) - d.carried.keys()):
        raise DataError(f"own has {quote(lacking[0])}, which is neither theta_0 nor a buffer")
    if d.net.name != CUSTOM:
        _check_carried(d)
        if d.net.args.get("classes") != len(d.classes):
            raise DataError(
                f"the net has {d.net.args.get('classes')} outputs for {len(d.classes)} classes"
            )


def _check_carried(d: DistilledDataset) -> None:
    """Refuse tensors that are not those of the set's net: all of its parameters, where the set
    holds them all."""
    theta_0, buffers = d._theta_0 or {}, d._buffers or {}
    whole = d._theta_0 is not None and d.is_complete
    net = d.net.shapes(len({**theta_0, **buffers}) if whole else MOST_TENSORS)
    parameters, others = dict(net.named_parameters()), dict(net.named_buffers())
    if d._theta_0 is not None:
        wanted = {k: p for k, p in parameters.items() if k not in buffers}
        if not whole:
            wanted = {k: p for k, p in wanted.items() if k in theta_0}
        refuse_other_tensors(theta_0, wanted, d.net.name, "theta_0")
    beside = {k: x for k, x in {**parameters, **others}.items() if k in buffers}
    refuse_other_tensors(buffers, beside, d.net.name, "buffer")


def check_images(images: Tensor, normalization: Normalization, net: NetSpec | None = None) -> None:
    """DataError unless the images are finite floats (N, C, H, W) for the normalization, and for the
    net."""
    if images.dim() != 4 or not images.numel() or not images.is_floating_point():
        raise DataError(
            f"images are {tuple(images.shape)} {images.dtype}, wanted floats (N, C, H, W), N >= 1"
        )
    if not bool(torch.isfinite(images).all()):
        first = int((~torch.isfinite(images)).flatten(1).any(1).nonzero()[0])
        raise DataError(
            f"images: image {first} has values that are not finite; wanted finite numbers"
        )
    shape = tuple(images.shape[1:])
    if shape[0] != normalization.channels:
        raise DataError(
            f"images have {shape[0]} channels, but the normalization is for "
            f"{normalization.channels}"
        )
    if net is None or net.name == CUSTOM:
        return
    own = tuple(net.args.get(name) for name in ("channels", "size", "size"))
    if shape != own:
        sides, wanted = ("x".join(map(str, of)) for of in (shape, own))
        raise DataError(f"images are {sides}, but the net {net.name} takes {wanted}")


def check_labels(
    labels: Tensor, n: int, classes: Sequence[str], loss: str = "cross-entropy"
) -> None:
    """DataError unless the labels are n int64 below the number of classes, or n rows of
    probabilities; for a squared error n rows of finite numbers."""
    k = len(check_class_names(classes))
    if loss == "squared-error":
        if labels.shape != (n, k) or not labels.is_floating_point():
            raise DataError(
                f"labels are {tuple(labels.shape)} {labels.dtype} for a squared error; wanted "
                f"({n}, {k}) floats"
            )
        if not bool(torch.isfinite(labels).all()):
            raise DataError("labels have values that are not finite; wanted finite numbers")
        return
    if labels.is_floating_point():
        if labels.shape != (n, k):
            raise DataError(
                f"labels are {tuple(labels.shape)}, wanted ({n}, {k}): one row an image, "
                "one class a column"
            )
        if not bool((labels >= 0).all()) or not bool(((labels.sum(1) - 1).abs() < 1e-3).all()):
            raise DataError("labels are not probabilities: each row must be 0 or more and sum to 1")
    elif labels.dtype != torch.int64 or labels.shape != (n,):
        raise DataError(
            f"labels are {tuple(labels.shape)} {labels.dtype}, wanted {n} int64 or "
            f"({n}, {k}) floats"
        )
    elif n and not 0 <= int(labels.min()) <= int(labels.max()) < k:
        raise DataError(
            f"labels reach {int(labels.min())}..{int(labels.max())}, wanted 0..{k - 1}: "
            "one name a class"
        )


def schedule_of(order: Sequence[Tensor] | Schedule) -> Schedule:
    """The schedule of an order of use; DataError for one without a step."""
    if isinstance(order, Schedule):
        return order
    if not len(order):
        raise DataError("order has no step, wanted one or more")
    return Schedule.of([torch.as_tensor(index).long() for index in order])


def _check_steps(
    step_sizes: Tensor, schedule: Schedule, n: int, tensors: tuple[str, ...] | None
) -> None:
    T = schedule.steps
    if step_sizes.dim() not in (1, 2) or len(step_sizes) != T:
        raise DataError(
            f"step_sizes are {tuple(step_sizes.shape)} for {T} steps; wanted ({T},) or "
            f"({T}, P), T >= 1"
        )
    if not step_sizes.is_floating_point():
        raise DataError(f"step_sizes are {step_sizes.dtype}, wanted floats")
    if not bool((torch.isfinite(step_sizes) & (step_sizes > 0)).all()):
        bad = float(step_sizes[~(torch.isfinite(step_sizes) & (step_sizes > 0))][0])
        raise DataError(f"step_sizes has {bad}, but each must be positive and finite")
    if step_sizes.dim() == 2 and len(tensors or ()) != step_sizes.shape[1]:
        raise DataError(
            f"step_sizes has {step_sizes.shape[1]} columns and {len(tensors or ())} tensor names"
        )
    if schedule.minibatch is not None and len(schedule.batches[0]) != n:
        raise DataError(
            f"minibatches are drawn from {len(schedule.batches[0])} images, but there are {n}"
        )
    for t, index in enumerate(schedule.batches):
        if index.dim() != 1 or not len(index) or not 0 <= int(index.min()) <= int(index.max()) < n:
            raise DataError(
                f"order of step {t} is {index.tolist()[:10]}, wanted indices of the {n} images"
            )
