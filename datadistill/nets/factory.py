"""Nets that a function of the user's own builds, each under a stream of its own.

    net=lambda: MyNet(width=32)            any function without arguments, a class, a
                                           functools.partial

A module's constructor is the only place that knows how the module starts: bare parameters,
parametrizations and buffers are drawn there. It draws from global generators, so torch's, numpy's
and Python's are seeded from the stream for the call and put back afterwards.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.copying import bare_net
from datadistill.streams import global_stream

NetFactory = Callable[[], nn.Module]


def is_factory(net: Any) -> TypeGuard[NetFactory]:
    """Whether `net` builds a module when it is called, and is none itself."""
    return callable(net) and not isinstance(net, nn.Module)


def make_net(factory: NetFactory, seed: int, name: str, *indices: int) -> nn.Module:
    """The net that a factory builds under the stream (seed, name, *indices).

    >>> first, again = (make_net(lambda: nn.Linear(2, 1), 0, "theta_0", 5) for _ in range(2))
    >>> torch.equal(first.weight, again.weight)
    True
    """
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise UsageError(
            f"net is {_name(factory)}, which cannot be called without arguments ({error}); pass a "
            "module, or a function that can: net=lambda: MyNet(...)"
        ) from None
    except ValueError:  # no signature to read
        pass
    with global_stream(seed, name, *indices, everything=True):
        net = factory()
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"net is {_name(factory)}, which returned {type(net).__name__}; wanted a torch module, "
            "or a function that builds one"
        )
    refuse_lazy(net)
    return bare_net(net)


def refuse_lazy(net: nn.Module) -> None:
    """UsageError for parameters that get their shapes in the first forward pass."""
    for parameter, value in net.named_parameters():
        if nn.parameter.is_lazy(value):
            raise UsageError(
                f"{parameter} has no shape yet; run one batch through the net first (in its "
                "factory, where there is one)"
            )


def as_module(net: nn.Module | NetFactory, seed: int, name: str, *indices: int) -> nn.Module:
    """A module as it is, or the one that a function builds under the stream."""
    return net if isinstance(net, nn.Module) else make_net(net, seed, name, *indices)


def check_draws(factory: NetFactory, seed: int, name: str) -> None:
    """Refuse a factory that is no distribution of nets: one stream gives two nets, or two streams
    the same."""
    first, again, other = (_values(make_net(factory, seed, name, 0, n)) for n in (0, 0, 1))
    if not _is_same(first, again):
        raise UsageError(
            f"net is {_name(factory)}, which builds another net at every call from the same seed, "
            "so no run could be repeated; draw from the global generators of torch, numpy or "
            "random, which are seeded before each call"
        )
    if _is_same(first, other):
        raise UsageError(
            f"net is {_name(factory)}, which builds the same values at every call, so many nets "
            "would be one; build the net inside of it without a seed of its own, or choose "
            'theta_0="given" for one net'
        )


def _values(net: nn.Module) -> dict[str, Tensor]:
    # copies: a factory may return the same module again, with other values
    named = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {name: value.detach().clone() for name, value in named.items()}


def _is_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def _name(factory: NetFactory) -> str:
    return str(getattr(factory, "__qualname__", None) or repr(factory))[:80]
