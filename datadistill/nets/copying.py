"""A copy of any net, for work that must not reach the caller's own.

`copy.deepcopy` refuses a module that holds a tensor of its last forward pass
(`self.features = ...`, pruning, the older `torch.nn.utils.weight_norm`), because that tensor has a
graph. Here such a tensor is copied without its graph: what follows from the parameters is computed
again by the next forward pass.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from datadistill.errors import UsageError


class _WithoutGraph(TorchFunctionMode):
    """`Tensor.__deepcopy__` of a tensor that has a graph copies its value."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            return memo.setdefault(id(tensor), tensor.detach().clone())
        return func(*args, **(kwargs or {}))


def bare_net(net: nn.Module) -> nn.Module:
    """The module inside `torch.compile`, `DataParallel` or `DistributedDataParallel`; any other one
    itself. Compiled code has no second derivative, and replicas are copies: the inner loop runs the
    module."""
    while True:
        if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
            net = net.module
        elif isinstance(inside := getattr(net, "_orig_mod", None), nn.Module):
            net = inside
        else:
            return net


def keep_hooks(copied: nn.Module, net: nn.Module) -> nn.Module:
    """Give the parameters of a copy of `bare_net(net)` the hooks of the net's own (which mask a
    gradient, say); a deep copy has none. Returns the copy."""
    for p, own in zip(copied.parameters(), bare_net(net).parameters(), strict=True):
        if not p.requires_grad:  # frozen: nothing to hook
            continue
        for hook in (own._backward_hooks or {}).values():
            p.register_hook(hook)
        for hook in (getattr(own, "_post_accumulate_grad_hooks", None) or {}).values():
            p.register_post_accumulate_grad_hook(hook)
    return copied


def copy_net(net: nn.Module) -> nn.Module:
    """A deep copy of `bare_net(net)`; tensors that it keeps of a forward pass are copied without
    their graph, and those made under `torch.inference_mode()` become ordinary ones."""
    with torch.inference_mode(False), _WithoutGraph():
        copied = copy.deepcopy(bare_net(net))
        for p in copied.parameters():
            if not p.is_leaf:  # of TorchScript, which copies with a graph to the original
                p.detach_().requires_grad_()
        return copied


class Called(Exception):
    """A layer was called inside `raise_on_calls`."""


@contextlib.contextmanager
def raise_on_calls(net: nn.Module) -> Iterator[None]:
    """Raise `Called` before any layer of this net runs. A copy of a net calls the original where a
    function closes over it (`self.f = lambda x: self.layer(x)`)."""
    layers = {id(m) for m in net.modules()}

    def refuse(module: nn.Module, args: Any) -> None:
        if id(module) in layers:
            raise Called

    handle = nn.modules.module.register_module_forward_pre_hook(refuse)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def refuse_original_layers(net: nn.Module) -> Iterator[None]:
    """Around a pass of a copy of `net`: UsageError where the copy calls a layer of the original."""
    try:
        with raise_on_calls(bare_net(net)):
            yield
    except Called:
        raise UsageError(
            "a function that the net keeps calls the layers of the module it was made in (self.f = "
            "lambda x: self.layer(x)), so a copy of the net would train nothing there; make it a "
            "method of the class"
        ) from None
