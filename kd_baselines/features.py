"""Taps: outputs and inputs of named layers of any net, in one forward.

A name is a module path of `net.named_modules()`:

    "layer3"        what the module returns
    "relu3:in"      what it is given (the values before that activation)
    "relu#2"        what its second call returns, for a module that the forward calls again and again

A tap keeps a copy, made in the hook, and the net goes on with its own tensor. So nothing the net does in place
afterwards (ReLU(inplace=True), out += identity) reaches what was kept; the net computes to the bit what it
computes without taps; and a gradient of what was kept flows through the copy to the layers below. The price is
one copy of each tapped tensor.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from datadistill.errors import UsageError, nearest

__all__ = ["Outputs", "layers", "run"]


@dataclass(frozen=True, eq=False)
class Outputs:
    """What one forward gave.

    Args:
        logits: what the net returned, (B,K); None where it was not asked for.
        features: the tapped tensors by name, in the order asked for.
    """

    logits: Float[Tensor, "b k"] | None
    features: Mapping[str, Tensor]


def layers(net: nn.Module) -> tuple[str, ...]:
    """The module paths that `run` can tap, in the order in which the net registers them.

    Example:
        >>> layers(nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 2)))
        ('0', '0.0', '0.1', '1')
    """
    return tuple(path for path, _ in net.named_modules() if path)


def run(
    net: nn.Module,
    images: Float[Tensor, "b c h w"],
    names: Collection[str] = (),
    *,
    logits: bool = True,
    tensors: Mapping[str, Tensor] | None = None,
) -> Outputs:
    """One forward with taps on named layers.

    The net is called as it is, in the mode it is in, with or without gradients as the caller has it. Its hooks
    are gone afterwards, whatever happens. One forward of a net at a time: a thread that calls the same net
    meanwhile would be tapped too.

    Args:
        net: any module.
        images: (B,C,H,W), or whatever the net takes.
        names: of layers, as above. A plain name is a module's only call: where the forward calls it again,
            that is refused, and "#1", "#2" name the calls.
        logits: False stops the forward after the last tapped tensor, so that nothing more is computed. A
            forward that stops cannot see a later call of a plain name; run it once whole to have that refused.
        tensors: stand in for parameters and buffers of these names, as in `torch.func.functional_call`.

    Returns:
        The logits, or None, and the features by name.

    Raises:
        UsageError: an unknown name (near ones are listed first), a layer that the forward never calls or
            calls again, or one whose output (input) is not a single tensor.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
        >>> out = run(net, torch.ones(5, 3), ["0", "1"])
        >>> torch.equal(out.features["0"].relu(), out.features["1"]), out.logits.shape
        (True, torch.Size([5, 2]))
    """
    places = {name: _Place.of(name, net) for name in dict.fromkeys(names)}
    found: dict[str, Tensor] = {}
    if not places and not logits:
        return Outputs(None, found)

    def enough() -> None:
        if not logits and len(found) == len(places):
            raise _Enough

    handles: list[RemovableHandle] = []
    try:
        for name, place in places.items():
            handles.append(_tap(name, place, found, enough))
        result = net(images) if tensors is None else functional_call(net, dict(tensors), (images,))
    except _Enough:
        result = None
    finally:
        for handle in handles:
            handle.remove()
    for name in places:
        if name not in found:
            raise UsageError(
                f"the forward of {type(net).__name__} ends without reaching layer {name!r} (it may use its "
                "parameters directly, or call it fewer times); tap the layer around it"
            )
    if not logits:
        return Outputs(None, {name: found[name] for name in places})
    if not isinstance(result, Tensor):
        raise UsageError(
            f"{type(net).__name__} returns a {type(result).__name__}, wanted a tensor of logits; pass a net "
            "that returns its logits alone"
        )
    return Outputs(result, {name: found[name] for name in places})


class _Enough(BaseException):
    """Every tap has its tensor. No `Exception`: a net's own handlers are not meant for it."""


@dataclass(frozen=True)
class _Place:
    """Where a name points: a module, its input or its output, of its n-th call (None: of its only one)."""

    module: nn.Module
    takes: bool
    call: int | None

    @classmethod
    def of(cls, name: str, net: nn.Module) -> _Place:
        rest, colon, side = name.partition(":")
        path, sharp, call = rest.partition("#")
        known = dict(net.named_modules())
        if path == "" or path not in known:
            raise UsageError(f"{type(net).__name__} has no layer {path!r}; {nearest(path, layers(net))}")
        numbered = call.isascii() and call.isdigit() and int(call) >= 1
        if (colon and side != "in") or (sharp and not numbered):
            raise UsageError(
                f"the layer name {name!r} ends in what is no place; give {path!r} (its output), '{path}:in' "
                f"(its input), or '{path}#2' (of its second call)"
            )
        return cls(known[path], bool(colon), int(call) if sharp else None)


def _tap(name: str, place: _Place, found: dict[str, Tensor], enough: Callable[[], None]) -> RemovableHandle:
    """Hook one place: its tensor goes into `found`, then `enough` is called."""
    calls = itertools.count(1)

    def see(value: Any) -> None:
        call = next(calls)
        if place.call is None and call > 1:
            path, colon, side = name.partition(":")
            raise UsageError(
                f"layer {path!r} is called more than once in a forward; say which call: "
                f"'{path}#1{colon}{side}', '{path}#2{colon}{side}', ..., or tap the layer around it"
            )
        if call != (place.call or 1):
            return
        if not isinstance(value, Tensor):
            what = "is given" if place.takes else "returns"
            size = f" of {len(value)}" if isinstance(value, tuple | list | dict) else ""
            raise UsageError(
                f"layer {name!r} {what} a {type(value).__name__}{size}, wanted one tensor; tap a layer inside "
                "or after it"
            )
        found[name] = value.clone()
        enough()

    if place.takes:
        return place.module.register_forward_pre_hook(
            lambda _, given: see(given[0] if len(given) == 1 else given)
        )
    return place.module.register_forward_hook(lambda _, __, returned: see(returned))
