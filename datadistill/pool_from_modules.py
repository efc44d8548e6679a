"""A pool of trained modules that are at hand: their tensors, the check that they are nets of one
architecture, and the pool's parts.

The first nets are for learning, the next for validation during a run, the last are held out. Each
is in one part, as no two have the same values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.data import RealData, Split
from datadistill.errors import DataError, UsageError
from datadistill.nets.copying import bare_net, copy_net
from datadistill.nets.fits import check_fits
from datadistill.nets.spec import CUSTOM, NetSpec
from datadistill.objectives import predictions
from datadistill.pretrained_values import checksum_of
from datadistill.runs.header import DTYPES
from datadistill.theta import Theta

LEAST = 3
"""One net for each part."""


def arguments_of(
    modules: Sequence[nn.Module],
    data: RealData,
    held_out: int | None = None,
    validation_nets: int | None = None,
    dataset: str | None = None,
) -> dict[str, Any]:
    """The arguments of a `Pool` of these modules; see `Pool.of`."""
    nets = check_modules(modules)
    if not isinstance(data, RealData):
        raise UsageError(
            f"data is {data!r:.80}, wanted the images that the nets are for; pass "
            "dd.load(NAME), or RealData.from_tensors(...)"
        )
    if not len(data.validation):
        raise DataError(
            f"{data.name} leaves no image to judge the nets by (validation); hold some out"
        )
    check_fits(nets[0], data.shape, len(data.classes))
    counts = share_out(len(nets), held_out, validation_nets)
    tensors, buffers = _stack(nets)
    return {
        "tensors": tensors,
        "buffers": buffers,
        **counts,
        "net": NetSpec(CUSTOM, {}, "default"),
        "dataset": data.name if dataset is None else dataset,
        "classes": data.classes,
        "normalization": data.normalization,
        "accuracies": [_accuracy(net, data.validation) for net in nets],
        "data_fingerprint": data.fingerprint,
    }


def check_modules(modules: Sequence[nn.Module]) -> list[nn.Module]:
    """The modules as a list; UsageError for fewer than three, for what is no module, and for two of
    different architectures or with the same values."""
    for n, net in enumerate(modules):
        if not isinstance(net, nn.Module):
            raise UsageError(f"net {n} is {net!r:.80}, wanted trained torch modules")
    nets = [bare_net(net) for net in modules]
    if len(nets) < LEAST:
        raise UsageError(
            f"there are {len(nets)} nets, but a pool has {LEAST} or more: one at least to learn "
            "with, one for validation, one held out for testing; pass more nets"
        )
    first, seen = _describe(nets[0]), dict[str, int]()
    for n, net in enumerate(nets):
        found = _describe(net)
        if other := [k for k in {**first, **found} if first.get(k) != found.get(k)]:
            k = other[0]
            raise UsageError(
                f"the nets are not alike: {k} is {first.get(k, 'missing')} in net 0 and "
                f"{found.get(k, 'missing')} in net {n}; pass nets of one architecture"
            )
        values = checksum_of({name: p.cpu() for name, p in net.named_parameters()})
        if seen.setdefault(values, n) != n:
            raise UsageError(
                f"nets {seen[values]} and {n} have the same values, so a held-out net could be one "
                "that was learned on; pass each net once"
            )
    return nets


def share_out(nets: int, held_out: int | None, validation_nets: int | None) -> dict[str, int]:
    """How many nets each part has: about a fifth are held out, one in twenty is for validation.

    >>> share_out(3, None, None)
    {'nets': 1, 'validation_nets': 1, 'held_out': 1}
    >>> share_out(40, None, None)
    {'nets': 30, 'validation_nets': 2, 'held_out': 8}
    """
    held_out = max(1, round(nets / 5)) if held_out is None else held_out
    validation_nets = max(1, round(nets / 20)) if validation_nets is None else validation_nets
    left = nets - held_out - validation_nets
    if min(held_out, validation_nets, left) < 1:
        raise UsageError(
            f"of {nets} nets {held_out} would be held out and {validation_nets} be for validation, "
            f"which leaves {left} to learn with; each part has 1 or more"
        )
    return {"nets": left, "validation_nets": validation_nets, "held_out": held_out}


def pooled_tensors(net: nn.Module) -> tuple[Theta, Theta]:
    """The parameters and the buffers of a net that a pool holds: all, less buffers with values that
    are not finite (a mask is part of the architecture). UsageError for tensors that no file holds.

    >>> [list(tensors) for tensors in pooled_tensors(nn.BatchNorm1d(2))]
    [['weight', 'bias'], ['running_mean', 'running_var', 'num_batches_tracked']]
    """
    for name, x in [*net.named_parameters(), *net.named_buffers()]:
        if x.dtype not in DTYPES:
            raise UsageError(
                f"{name} of the net is {x.dtype}, and a pool's file holds no such tensor"
            )
    buffers = {
        name: b.detach()
        for name, b in net.named_buffers()
        if b.is_meta or bool(torch.isfinite(b).all())
    }
    return {name: p.detach() for name, p in net.named_parameters()}, buffers


def _describe(net: nn.Module) -> dict[str, str]:
    """The class of each layer, each tensor's shape and kind, and the settings of PyTorch's own
    layers (eps, momentum, dropout's p), by name."""
    pooled_tensors(net)  # refuses what no file holds
    found = {
        name or "the net": f"a {type(m).__module__}.{type(m).__qualname__}"
        for name, m in net.named_modules()
    }
    for name, p in net.named_parameters():
        found[name] = f"{'trained' if p.requires_grad else 'frozen'} {p.dtype} {tuple(p.shape)}"
    for name, b in net.named_buffers():
        found[name] = f"a buffer {b.dtype} {tuple(b.shape)}"
    for name, m in net.named_modules():
        if type(m).__module__.startswith("torch.nn."):
            found[f"the settings of {name or 'the net'}"] = f"({m.extra_repr()})"
    return found


def _stack(nets: Sequence[nn.Module]) -> tuple[dict[str, Tensor], list[str]]:
    """Parameters and buffers of all nets along a leading axis, on the CPU, and the names of the
    buffers. A buffer that is finite in no net must be the same in all (a mask), and is left out."""
    each = [{**dict(net.named_parameters()), **dict(net.named_buffers())} for net in nets]
    tensors = {k: torch.stack([one[k].detach().cpu() for one in each]) for k in each[0]}
    buffers = []
    for name, _ in nets[0].named_buffers():
        values = tensors[name]
        if bool(torch.isfinite(values.reshape(len(nets), -1)).all(1).any()):
            buffers.append(name)
            continue
        if not torch.equal(values, values[:1].expand_as(values)):
            raise DataError(f"the buffer {name} is not finite in any net; pass nets that are whole")
        del tensors[name]
    return tensors, buffers


def _accuracy(net: nn.Module, split: Split) -> float:
    """Percent of a split that a net classifies right in evaluation mode, where the net is."""
    copied = copy_net(net)
    device = next(copied.parameters()).device
    found, labels, _ = predictions(copied, dict(copied.named_parameters()), split.to(device))
    return 100.0 * int((found == labels).sum()) / len(labels)
