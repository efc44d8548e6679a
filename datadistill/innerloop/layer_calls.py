"""The calls of layers and torch functions in one forward pass, each kept so that it can be run
again alone.

    y = f(z)        one call: z its floating point inputs and parameters, y its floating point
                    outputs

Layers come in the order in which they finish, so that a layer follows the layers inside it. This is
for naming the one that has no second derivative, or a wrong one; it keeps a copy of every input.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from datadistill.innerloop.second_derivatives import TwiceDifferentiable
from datadistill.nets.functional import call_with
from datadistill.streams import global_stream

CUTS = ("detach", "detach_", "numpy", "tolist", "item")  # what leaves the graph


@dataclass
class Call:
    """One call in a forward pass.

    Args:
        path: of the layer in the net, "" for the net itself.
        kind: the layer's class, or the function's name.
        inputs: z, detached copies.
        run: z -> y, differentiable in z; random numbers are the same at every call.
        inside: the torch functions that a layer calls itself, not by way of layers inside it.
        cuts: ways of leaving the graph among them, such as "detach".
        delegates: whether it is a sequence of layers and computes nothing itself.
    """

    path: str
    kind: str
    inputs: list[Tensor]
    run: Callable[[list[Tensor]], list[Tensor]]
    inside: list[Call] = field(default_factory=list)
    cuts: list[str] = field(default_factory=list)
    delegates: bool = False


def record_calls(
    net: nn.Module,
    tensors: Mapping[str, Tensor],
    images: Tensor,
    mode: contextlib.AbstractContextManager[Any],
) -> tuple[list[Call], Any]:
    """Run the net once with these parameters and buffers, and keep the calls of layers in the order
    in which they finish, the net's own last. Also returns the net's output."""
    recorder = _Recorder(mode)
    handles = []
    for path, module in net.named_modules():
        handles.append(
            module.register_forward_pre_hook(recorder.begin(path), with_kwargs=True, prepend=True)
        )
        handles.append(module.register_forward_hook(recorder.end, always_call=True))
    try:
        with (
            torch.enable_grad(),
            mode,
            TwiceDifferentiable(net),
            recorder,
            global_stream(0, "layer_calls"),
        ):
            out = call_with(net, {k: _leaf(x) for k, x in tensors.items()}, (_leaf(images),))
    finally:
        for handle in handles:
            handle.remove()
    return recorder.calls, out


def record_function(
    function: Callable[..., Any],
    args: Any,
    kwargs: Any,
    mode: contextlib.AbstractContextManager[Any],
) -> Call:
    """The call of a function, with copies of its arguments."""
    name = str(getattr(function, "__name__", type(function).__name__))
    inputs, rebuild = _split((args, kwargs))

    def run(values: list[Tensor]) -> list[Tensor]:
        again_args, again_kwargs = rebuild(values)
        with mode, TwiceDifferentiable(), global_stream(0, "layer_calls"):
            return _floating(function(*again_args, **again_kwargs))

    return Call("", name, inputs, run)


class _Recorder(TorchFunctionMode):
    """Hooks for layers, and a mode that sees torch's functions, for one forward pass."""

    def __init__(self, mode: contextlib.AbstractContextManager[Any]) -> None:
        super().__init__()
        self.mode = mode
        self.calls: list[Call] = []
        self.open: list[Call] = []

    def begin(self, path: str) -> Callable[..., None]:
        def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
            with torch._C.DisableTorchFunction():
                self.open.append(self._layer(path, module, args, kwargs))

        return begin

    def end(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.open:
            self.calls.append(self.open.pop())

    def _layer(self, path: str, module: nn.Module, args: Any, kwargs: Any) -> Call:
        own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        inputs, rebuild = _split((args, kwargs, own))

        def run(values: list[Tensor]) -> list[Tensor]:
            again_args, again_kwargs, again_own = rebuild(values)
            with self.mode, TwiceDifferentiable(module), global_stream(0, "layer_calls"):
                return _floating(call_with(module, again_own, again_args, again_kwargs))

        delegates = type(module).forward is nn.Sequential.forward
        return Call(path, type(module).__name__, inputs, run, delegates=delegates)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = str(getattr(func, "__name__", ""))
        if not self.open or name in ("__get__", "__set__", "_set_grad_enabled"):
            if self.open and func == torch.Tensor.data.__get__:  # type: ignore[attr-defined]
                self.open[-1].cuts.append("data")
            return func(*args, **kwargs)
        here = self.open[-1]
        if name in CUTS:
            here.cuts.append(name)
        elif any(
            isinstance(x, Tensor) and x.requires_grad for x in pytree.tree_leaves((args, kwargs))
        ):
            call = record_function(func, args, kwargs, self.mode)
            call.path = here.path
            here.inside.append(call)
        return func(*args, **kwargs)


def list_own_functions(outputs: list[Tensor]) -> list[str]:
    """Names of the autograd functions written in Python that computed these outputs."""
    names: list[str] = []
    for node in graph_nodes([y.grad_fn for y in outputs]):
        written = getattr(node, "_forward_cls", None)
        if written is not None and written.__name__ not in names:
            names.append(written.__name__)
    return names


def graph_nodes(roots: list[Any]) -> Iterator[Any]:
    """Every node of a graph once, from its ends."""
    seen: set[Any] = set()
    ahead = [node for node in roots if node is not None]
    while ahead:
        node = ahead.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        ahead += [before for before, _ in node.next_functions if before is not None]


def _split(nest: Any) -> tuple[list[Tensor], Callable[[list[Tensor]], Any]]:
    """The floating point tensors of a nest, detached copies, and the nest made of others in their
    place."""
    leaves, spec = pytree.tree_flatten(nest)
    leaves = [x.detach().clone() if isinstance(x, Tensor) else x for x in leaves]
    places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor) and x.is_floating_point()]

    def rebuild(values: list[Tensor]) -> Any:
        # copies, for a call may write to what it is given
        again = [x.clone() if isinstance(x, Tensor) else x for x in leaves]
        for i, value in zip(places, values, strict=True):
            again[i] = value.clone()
        return pytree.tree_unflatten(again, spec)

    return [leaves[i] for i in places], rebuild


def _floating(outputs: Any) -> list[Tensor]:
    return [
        y for y in pytree.tree_leaves(outputs) if isinstance(y, Tensor) and y.is_floating_point()
    ]


def _leaf(x: Tensor) -> Tensor:
    x = x.detach().clone()
    return x.requires_grad_() if x.is_floating_point() else x
