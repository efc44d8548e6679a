"""Nets that a set is tested on.

A set learned for random initializations: held-out draws of the same scheme, from a stream of their
own. For pretrained nets: the held-out part of the pool. For one fixed initialization: that one.
"""

from __future__ import annotations

import os
import warnings

import torch
from torch import nn

from datadistill.config.choices import Value, read_value
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError, list_some
from datadistill.nets import arguments
from datadistill.nets.copying import copy_net
from datadistill.nets.factory import NetFactory, as_module, check_draws, is_factory
from datadistill.nets.fits import check_fits
from datadistill.nets.spec import CUSTOM, FACTORY, NetSpec
from datadistill.nets.trained_parameters import ALL, EVERY, HEAD, NORM, select_trained
from datadistill.pool import Pool
from datadistill.starts import Built, Fixed, InitialDistribution, Pretrained, random_start
from datadistill.theta import put, trainable

SIZES = ("channels", "size", "classes")
HELD_OUT = "held_out_theta_0"
SELECTION = "selection_theta_0"


def start_of(
    d: DistilledDataset,
    net: str | nn.Module | NetFactory | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    pool: Pool | str | os.PathLike[str] | None = None,
    part: str = "held_out",
    *,
    fresh: bool = False,
    init: str | None = None,
) -> tuple[nn.Module, InitialDistribution]:
    """The module and the distribution of theta_0 to test a set with.

    Args:
        d: the set.
        net: another architecture, by name or as a module, or a function without arguments that
            builds one; default: the one the set was learned with.
        seed: stream of the draws.
        device: where both go.
        pool: for a set that was learned for pretrained nets.
        part: of the pool: "held_out", "validation" or "train".
        fresh: draws also for a set that was learned for one fixed initialization.
        init: the scheme of the draws; default: the set's.
    """
    module = net_of(d, net).to(device)
    if d.theta_0 is not None and d.is_for(module):
        put(module, d.buffers or {})
    if d.theta_0 is not None and not fresh:
        if d.is_for(module):
            return module, Fixed({k: p.to(device) for k, p in d.theta_0.items()})
        warnings.warn(
            f"the set was learned for one fixed initialization of {d.net.name}; on another "
            "architecture expect about chance accuracy",
            stacklevel=3,
        )
    return module, find_any_start(d, module, seed, pool, part, net, init)


def with_values_of(
    d: DistilledDataset, net: str | nn.Module | NetFactory | None
) -> DistilledDataset:
    """The set with the pretrained values of a net, where its file names values and does not hold
    them."""
    return d.with_weights(net) if isinstance(net, nn.Module) and not d.is_complete else d


def find_any_start(
    d: DistilledDataset,
    module: nn.Module,
    seed: int = 0,
    pool: Pool | str | os.PathLike[str] | None = None,
    part: str = "held_out",
    asked: str | nn.Module | NetFactory | None = None,
    init: str | None = None,
) -> InitialDistribution:
    """The distribution of theta_0, also for a set that carries one: baselines are tested on many
    nets. `asked` is what `module` was made of by `net_of`, `init` the scheme of the draws, by
    default the set's.

    Nets that started from given weights or values have only one: that of the set.
    """
    device = next(module.parameters()).device
    if pool is not None:
        stacked = fitting_pool(pool, d, module).part(part)
        return Pretrained({k: x.to(device) for k, x in stacked.items()}, trained=trainable(module))
    if d.theta_0 is not None and d.is_for(module) and d.start.kind in ("weights", "given"):
        return Fixed({k: p.to(device) for k, p in d.theta_0.items()})
    if d.start.kind == "pool":
        raise UsageError(
            f"the set was learned for nets pretrained on {d.start.source}, and no pool of such "
            "nets was given; pass the pool it was learned with (--pool FILE_OR_DIR)"
        )
    name = HELD_OUT if part == "held_out" else SELECTION
    if is_factory(asked):
        check_draws(asked, seed, name)
        return Built(asked, module, seed, name)
    if d.start.kind == "factory" and not isinstance(asked, str):
        raise UsageError(
            "the set was learned for nets as a function of the user's own builds them, and "
            "held-out nets are built by it too; pass that function: net=lambda: MyNet(...)"
        )
    spec = spec_of(d, asked) if asked is None or isinstance(asked, str) else None
    init = init or ("default" if d.net.init == FACTORY else d.net.init)
    return random_start(module, init, seed, name, spec)


def fitting_pool(
    pool: Pool | str | os.PathLike[str], d: DistilledDataset, module: nn.Module
) -> Pool:
    """The pool, read where it is a path; UsageError where its nets are not those the set is for."""
    if not isinstance(pool, Pool | str | os.PathLike):
        raise UsageError(
            f"pool is a {type(pool).__name__}, wanted a Pool or its file; of trained modules "
            "dd.Pool.of([net, ...], data=...) makes one"
        )
    found = pool if isinstance(pool, Pool) else Pool.load(pool)
    source, fingerprint = d.start.source, d.start.fingerprint if d.start.kind == "pool" else None
    if source is not None and found.dataset != source:
        raise UsageError(
            f"the nets of the pool were trained on {found.dataset}, and the set is for nets "
            f"trained on {source}; pass the pool it was learned with"
        )
    if tuple(found.classes) != d.classes:
        raise DataError(
            f"the pool's nets know the classes {list_some(found.classes)}, the set has "
            f"{list_some(d.classes)}; pass the pool it was learned with"
        )
    if fingerprint not in (None, found.fingerprint):
        raise UsageError(
            "this is another pool than the set was learned with, and nets that it holds out may be "
            "nets that the set was learned on; pass the pool it was learned with"
        )
    if different := found.find_differences(module):
        name, shapes = next(iter(different.items()))
        raise UsageError(
            f"the pool holds nets of {found.net.name} with other tensors than the set's "
            f"{d.net.name} ({name} is {shapes}); pass the pool it was learned with"
        )
    return found


def spec_of(d: DistilledDataset, net: str | None = None) -> NetSpec:
    """The architecture of a name for the images of a set; by its own net's name, or without one,
    that of the set. Arguments may follow, as in "convnet:width=128,norm=batch"; they are put over
    those of the set's net, where it is of the same name."""
    name, colon, typed = (net or d.net.name).partition(":")
    own = {} if name != d.net.name else d.net.args
    if name == d.net.name and not colon:
        return d.net
    pairs = [pair.partition("=") for pair in typed.split(",")] if colon else []
    for argument, equals, value in pairs:
        if not (argument and equals and value):
            raise UsageError(
                f"net is {net!r}, wanted a name, or a name and arguments such as "
                "convnet:width=128,depth=4"
            )
        if argument in SIZES:
            raise UsageError(f"net is {net!r}, but {argument} is that of the images; leave it out")
    channels, size, _ = d.images.shape[1:]
    typed_args = {argument: read_value(value) for argument, _, value in pairs}
    sizes = {"channels": channels, "size": size, "classes": len(d.classes)}
    return NetSpec(name, {**own, **typed_args, **sizes}, d.net.init)


def net_name(d: DistilledDataset, net: str | nn.Module | NetFactory | None) -> str:
    """The name of a tested architecture."""
    return spec_of(d, net).name if net is None or isinstance(net, str) else CUSTOM


def net_arguments(
    d: DistilledDataset, net: str | nn.Module | NetFactory | None
) -> dict[str, Value]:
    """The arguments of a tested architecture, defaults among them; none of a module."""
    name = net_name(d, net)
    if name == CUSTOM:
        return {}
    every = {**arguments(name), **spec_of(d, net if isinstance(net, str) else None).args}
    return {argument: value for argument, value in every.items() if argument not in SIZES}


def net_of(d: DistilledDataset, net: str | nn.Module | NetFactory | None = None) -> nn.Module:
    """A new module for the test, so that moving it does not reach the caller's."""
    if net is None or net == d.net.name:
        return d.build()
    if isinstance(net, str):
        other = spec_of(d, net).build()
        # names of parameters are those of the set's own architecture
        return select_trained(
            other, d.trained if {ALL, HEAD, NORM}.issuperset(d.trained) else EVERY
        )
    own = as_module(net, 0, HELD_OUT, 0, 0)
    check_fits(own, tuple(d.images.shape[1:]), len(d.classes))
    return select_trained(copy_net(own), d.trained)
