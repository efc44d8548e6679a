"""Taps: outputs and inputs of named layers of any net, in one forward.

A name is a module path of `net.named_modules()`:

    "layer3"        what the module returns
    "relu3:in"      what it is given (the values before that activation)
    "relu#2"        what its second call returns, for a module that the forward calls again and
                    again

A tap keeps a copy, made in the hook, and the net goes on with its own tensor. So nothing the net
does in place afterwards (ReLU(inplace=True), out += identity) reaches what was kept; the net
computes to the bit what it computes without taps; and a gradient of what was kept flows through the
copy to the layers below. The price is one copy of each tapped tensor.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from datadistill.errors import UsageError, suggest
from datadistill.nets.functional import call_with
from datadistill.nets.module_paths import find_path, modules_by_path
from datadistill.precision import whole

__all__ = ["Layer", "Outputs", "Reading", "cast_images", "layers", "logits_in", "read", "run"]


@dataclass(frozen=True)
class Reading:
    """A pure function of a layer's output, (B,...) to (B,...), each row of its own image alone:
    what a term reads of a teacher, so that a cache keeps that and not the whole output.

    Args:
        layer: its name, as above.
        what: names the function and its arguments. Readings with equal names are the same.
        function: of the layer's output; it need not keep a graph.

    Example:
        >>> import torch
        >>> pooled = Reading("layer3", "mean of pixels", lambda features: features.mean((2, 3)))
        >>> str(pooled), pooled(torch.ones(2, 3, 4, 4)).shape
        ('layer3 (mean of pixels)', torch.Size([2, 3]))
    """

    layer: str
    what: str
    function: Callable[[Tensor], Tensor] = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.layer} ({self.what})"

    def __call__(self, features: Tensor) -> Tensor:
        return self.function(features)


Layer = str | Reading
"""What is read of a net: a layer's output, or a function of it."""


def read(features: Mapping[Any, Tensor], wanted: Collection[Layer]) -> dict[Layer, Tensor]:
    """What is wanted of some outputs and readings: a reading that is not among them is computed
    from its layer's output."""
    return {
        one: features[one] if isinstance(one, str) or one in features else one(features[one.layer])
        for one in wanted
    }


@dataclass(frozen=True, eq=False)
class Outputs:
    """The logits (B,K) of one forward, None where they were not asked for, and the tapped tensors
    by name, with the readings of them."""

    logits: Float[Tensor, "b k"] | None
    features: Mapping[Layer, Tensor]


def layers(net: nn.Module) -> tuple[str, ...]:
    """The module paths that `run` can tap, in the order in which the net registers them."""
    return tuple(path for path in modules_by_path(net) if path)


def run(
    net: nn.Module,
    images: Float[Tensor, "b c h w"],
    names: Collection[Layer] = (),
    *,
    logits: bool = True,
    tensors: Mapping[str, Tensor] | None = None,
    classes: int | None = None,
) -> Outputs:
    """One forward with taps on named layers.

    The net is called as it is, in the mode it is in, with or without gradients as the caller has
    it; images get the type of its parameters. Its hooks are gone afterwards, whatever happens. One
    forward of a net at a time: a thread that calls the same net meanwhile would be tapped too.
    Compiled code has neither taps nor second derivatives, so a compiled net runs uncompiled where
    either is wanted.

    The logits of a net that returns more are its output's attribute or entry "logits"
    (transformers, GoogLeNet in training mode).

    Args:
        net: any module.
        images: (B,C,H,W), or whatever the net takes.
        names: of layers, as above, or readings of them. A plain name is a module's only call: where
            the forward calls it again, that is refused, and "#1", "#2" name the calls.
        logits: False stops the forward after the last tapped tensor, so that nothing more is
            computed. A forward that stops cannot see a later call of a plain name; run it once
            whole to have that refused.
        tensors: stand in for parameters and buffers of these names, as in
            `datadistill.nets.functional.call_with`.
        classes: of a net whose output is a tensor of so many logits in evaluation mode: a tuple in
            training mode then begins with them.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
        >>> out = run(net, torch.ones(5, 3), ["0", "1"])
        >>> torch.equal(out.features["0"].relu(), out.features["1"]), out.logits.shape
        (True, torch.Size([5, 2]))
    """
    tapped = dict.fromkeys(name if isinstance(name, str) else name.layer for name in names)
    places = {name: _Place.of(name, net) for name in tapped}
    found: dict[str, Tensor] = {}
    if not places and not logits:
        return Outputs(None, {})

    def stop_when_found() -> None:
        if not logits and len(found) == len(places):
            raise _Enough

    handles: list[RemovableHandle] = []
    try:
        for name, place in places.items():
            handles.append(_tap(name, place, found, stop_when_found))
        images = cast_images(net, images).clone()  # a first layer may work in place
        with _disable_compile(net) if places or images.requires_grad else nullcontext():
            result = net(images) if tensors is None else call_with(net, dict(tensors), (images,))
    except _Enough:
        result = None
    finally:
        for handle in handles:
            handle.remove()
    for name in places:
        if name not in found:
            raise UsageError(
                f"the forward of {type(net).__name__} ends without reaching layer {name!r} (it may "
                "use its parameters directly, or call it fewer times); tap the layer around it"
            )
    found = {name: whole(value) for name, value in found.items()}
    if not logits:
        return Outputs(None, read(found, names))
    result = logits_in(result, type(net).__name__, (len(images), classes))
    return Outputs(whole(result), read(found, names))


def logits_in(returned: Any, net: str, shape: tuple[int, int | None] = (0, None)) -> Tensor:
    """The logits in what a net returned: the tensor itself, an attribute or entry "logits", or the
    first of a tuple, where it has the shape (B,K) (K is None where unknown). `net` is named in the
    error."""
    found = returned
    if isinstance(returned, Mapping):
        found = returned.get("logits")
    elif not isinstance(returned, Tensor):
        found = getattr(returned, "logits", None)
        first = returned[0] if isinstance(returned, tuple | list) and returned else None
        if found is None and isinstance(first, Tensor) and tuple(first.shape) == shape:
            found = first
    if not isinstance(found, Tensor):
        raise UsageError(
            f"{net} returns a {type(returned).__name__}, wanted a tensor of logits; pass a net "
            "that returns its logits alone"
        )
    return found


def cast_images(net: object, images: Tensor) -> Tensor:
    """The images in the floating-point type of a net's parameters, through which gradients flow."""
    parameters = net.parameters() if isinstance(net, nn.Module) else ()
    own = next((p.dtype for p in parameters if p.is_floating_point()), images.dtype)
    if own == images.dtype or own.itemsize < 2 or not images.is_floating_point():
        return images
    return images if torch.is_autocast_enabled(images.device.type) else images.to(own)


def _disable_compile(net: nn.Module) -> AbstractContextManager[Any]:
    compiled = any(
        hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in net.modules()
    )
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


class _Enough(BaseException):
    """Every tap has its tensor. No `Exception`: a net's own handlers are not meant for it."""


@dataclass(frozen=True)
class _Place:
    """The place that a name points to: a module, its input or its output, of its n-th call (None:
    of its only one)."""

    module: nn.Module
    takes: bool
    call: int | None

    @classmethod
    def of(cls, name: str, net: nn.Module) -> _Place:
        rest, colon, side = name.partition(":")
        path, sharp, call = rest.partition("#")
        known = modules_by_path(net)
        plain = find_path(net, path)
        if path == "" or plain is None:
            raise UsageError(
                f"{type(net).__name__} has no layer {path!r}; {suggest(path, layers(net))}"
            )
        numbered = call.isascii() and call.isdigit() and int(call) >= 1
        if (colon and side != "in") or (sharp and not numbered):
            raise UsageError(
                f"the layer name {name!r} ends in what is no place; give {path!r} (its output), "
                f"'{path}:in' (its input), or '{path}#2' (of its second call)"
            )
        _refuse_hookless(net, known[plain], path)
        return cls(known[plain], bool(colon), int(call) if sharp else None)


def _refuse_hookless(net: nn.Module, module: nn.Module, path: str) -> None:
    if isinstance(module, torch.jit.ScriptModule) or isinstance(net, torch.jit.ScriptModule):
        raise UsageError(
            f"layer {path!r} is TorchScript, whose forward calls no hooks, so its output cannot be "
            "read; pass the module that it was scripted from, or a method without features"
        )
    if isinstance(net, nn.DataParallel) and len(net.device_ids) > 1:
        raise UsageError(
            f"layer {path!r} of a DataParallel net runs once on each of {len(net.device_ids)} "
            "devices; pass the module inside (net.module)"
        )


def _tap(
    name: str, place: _Place, found: dict[str, Tensor], on_found: Callable[[], None]
) -> RemovableHandle:
    """Hook one place: its tensor goes into `found`, then `on_found` is called."""
    calls = itertools.count(1)

    def record(value: Any) -> None:
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
                f"layer {name!r} {what} a {type(value).__name__}{size}, wanted one tensor; tap a "
                "layer inside or after it"
            )
        found[name] = value.clone()
        on_found()

    if place.takes:
        return place.module.register_forward_pre_hook(
            lambda _, given: record(given[0] if len(given) == 1 else given)
        )
    return place.module.register_forward_hook(lambda _, __, returned: record(returned))
