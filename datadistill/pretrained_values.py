"""Pretrained values by reference: a set's file names the weights that its steps start from, and
does not hold them.

What the weights give is every parameter and every buffer of the net's state, less what is the set's
own (a fresh last layer, BatchNorm statistics that were re-estimated). The set has the checksum of
these values, so that whoever passes weights is told whether they are the right ones.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor, nn

from datadistill.errors import DataError, UsageError
from datadistill.nets.copying import copy_net
from datadistill.nets.trained_parameters import select_trained
from datadistill.nets.weights import read_weights
from datadistill.runs.tensors import checksum, is_finite
from datadistill.theta import Theta, frozen_tensors, put, trainable

if TYPE_CHECKING:
    from datadistill.distilled_start import InitialValues

TORCHVISION = "torchvision "
"""What the name of weights begins with that torchvision publishes: model and enum follow."""


def name_of(source: str) -> str:
    """The name of weights as a set's file has it: without the folder, which is of one machine."""
    return source if source.startswith(TORCHVISION) else Path(source).name


def checksum_of(values: Mapping[str, Tensor]) -> str:
    """The checksum of a net's tensors; of complex ones, of their parts."""
    named = {name: value.detach() for name, value in values.items()}
    return checksum(
        {name: torch.view_as_real(v) if v.is_complex() else v for name, v in named.items()}
    )


def given_values(net: nn.Module, own: Collection[str] = ()) -> Theta:
    """The values of a net that weights give: its parameters and the buffers that it keeps, less
    those of the set's `own`, counts of batches, and buffers with values that are not finite (a mask
    is part of the architecture)."""
    left_out = {*own, *names_not_kept(net)}
    named = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {
        name: value.detach()
        for name, value in named.items()
        if name not in left_out and not name.endswith("num_batches_tracked") and is_finite(value)
    }


def names_not_kept(net: nn.Module) -> set[str]:
    """Names of the buffers that a net does not keep in its state (`persistent=False`)."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in net.named_modules()
        for name in module._non_persistent_buffers_set
    }


def finite_copies(tensors: Mapping[str, Tensor]) -> Theta | None:
    """Copies of the tensors that a file can hold; None where there are none."""
    found = {k: x.clone() for k, x in tensors.items() if is_finite(x)}
    return found or None


def load_theta_0(
    d: InitialValues,
    weights: str | os.PathLike[str] | nn.Module,
    net: nn.Module | None = None,
    download: bool = True,
) -> tuple[Theta, Theta | None]:
    """theta_0 and what goes with it, of a set whose file names its weights. The arguments are those
    of `load_net`."""
    module = load_net(d, weights, net, download=download)
    theta_0 = {k: module.get_parameter(k).detach().clone() for k in trainable(module)}
    return theta_0, finite_copies(frozen_tensors(module))


def load_net(
    d: InitialValues,
    weights: str | os.PathLike[str] | nn.Module,
    net: nn.Module | None = None,
    *,
    download: bool = True,
    any_values: bool = False,
    hint: str = "",
) -> nn.Module:
    """The net of a set for one net's values, with the values of the weights and the set's own.

    Args:
        d: the set.
        weights: a file, "imagenet", or a net with the values.
        net: the architecture, for a set that was learned with a module of the user's own.
        download: whether torchvision's weights may be fetched.
        any_values: take others than the set was learned for.
        hint: the end of the sentence that refuses them.

    Raises:
        DataError: weights that do not fit the net, or other ones than the set was learned for.
    """
    fresh: tuple[str, ...] = ()
    if isinstance(weights, nn.Module):
        module, name = copy_net(weights), "the net's values"
    else:
        module = d.build() if net is None else copy_net(net)
        found = read_weights(weights, module, model=d.net.model, download=download)
        theta, buffers, fresh = found.fit(module, fresh_last=d.start.kind == "weights")
        put(module, {**theta, **buffers})
        name = found.source
    select_trained(module, d.trained)
    digest = checksum_of(given_values(module, {*d.own, *fresh}))
    own, is_own = d.own_values, digest == d.start.fingerprint
    if not (d.by_reference or d.own):  # its file holds all of them
        given = {k: p for k, p in module.named_parameters() if k not in fresh}
        is_own = all(torch.equal(x, given[k]) for k, x in d.carried.items() if k in given)
        own = {k: x for k, x in d.carried.items() if is_own or k in fresh}
    if not is_own and not any_values:
        refuse_other_values(d, f"{name} ({digest[:19]}...)", hint)
    return put(module, own)


def is_given_by(d: InitialValues, net: nn.Module) -> bool:
    """Whether a net has the values that the set was learned for, but for the set's own."""
    return checksum_of(given_values(net, d.own)) == d.start.fingerprint


def describe(d: InitialValues) -> str:
    """The weights that a set names, and how to pass them."""
    named = d.start.weights
    digest = f"{(d.start.fingerprint or '')[:19]}..."
    if named is None:
        return f"the values of a net of your own ({digest}); pass that net (net=)"
    if named.startswith(TORCHVISION):
        return f"{named} ({digest}); pass --weights imagenet, or their file"
    return f"{named} ({digest}); pass that file (--weights FILE)"


def refuse_incomplete(d: InitialValues) -> NoReturn:
    """UsageError that names the weights a set lacks, and says how to pass them."""
    raise UsageError(
        f"the set starts from pretrained values, which its file names and does not hold: "
        f"{describe(d)}"
    )


def refuse_other_values(d: InitialValues, found: str, hint: str = "") -> NoReturn:
    """DataError that says what was found in the place of the values a set was learned for."""
    raise DataError(f"{found} is not what the set was learned for: {describe(d)}{hint}")
