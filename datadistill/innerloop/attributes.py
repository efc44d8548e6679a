"""Attributes that forward passes leave in a module: features that are kept, counters, lists that
grow, hidden states.

Attributes that are neither parameters nor buffers belong to one net: nets that are trained one
after another in the same module each have theirs, and the caller's are as they were when the loop
is over.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

_OF_EVERY_MODULE = frozenset(nn.Module().__dict__)
_CONTAINERS = (list, dict, set, deque)
Attributes = list[tuple[nn.Module, dict[str, Any]]]


def _own_attributes(module: nn.Module) -> dict[str, Any]:
    return {k: v for k, v in module.__dict__.items() if k not in _OF_EVERY_MODULE}


def _containers(value: Any, seen: set[int]) -> Iterator[Any]:
    """The containers that a value is, or holds."""
    if isinstance(value, SimpleNamespace):
        value = value.__dict__
    if id(value) in seen or not isinstance(value, (*_CONTAINERS, tuple)):
        return
    seen.add(id(value))
    if isinstance(value, _CONTAINERS):
        yield value
    for inner in list(value.values() if isinstance(value, dict) else value):
        yield from _containers(inner, seen)


def _copy_value(value: Any) -> Any:
    """A value that a pass may write to: tensors and containers are copied."""
    if isinstance(value, Tensor):
        return value if _is_of_vmap(value) or value.requires_grad else value.clone()
    if isinstance(value, dict):
        return (
            type(value)({k: _copy_value(v) for k, v in value.items()})
            if type(value) is dict
            else value
        )
    return (
        type(value)(map(_copy_value, value)) if type(value) in (list, tuple, set, deque) else value
    )


def _is_of_vmap(value: Any) -> bool:
    """Whether a tensor was made inside of vmap, and is of no use outside."""
    return isinstance(value, Tensor) and torch._C._functorch.is_batchedtensor(value)


def take_attributes(net: nn.Module) -> Attributes:
    """Copies of the attributes of all modules of a net."""
    return [(m, {k: _copy_value(v) for k, v in _own_attributes(m).items()}) for m in net.modules()]


def put_attributes(attributes: Attributes) -> None:
    """Put them in place."""
    for module, own in attributes:
        for name in _own_attributes(module).keys() - own.keys():
            del module.__dict__[name]
        module.__dict__.update(own)


@contextlib.contextmanager
def keep_attributes(net: nn.Module) -> Iterator[None]:
    """Undo, after the block, what forward passes do to a net's attributes and to containers that
    stand there; an attribute that a pass made stays, without its graph.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> with keep_attributes(net):
        ...     net.features = net(torch.zeros(1, 1))
        >>> net.features.requires_grad
        False
    """
    before = [(m, _own_attributes(m)) for m in net.modules()]
    seen: set[int] = set()
    inside = [
        (c, c.copy()) for _, own in before for v in own.values() for c in _containers(v, seen)
    ]
    for m, own in before:
        # a tensor that is neither parameter nor buffer may be written in place
        for name, value in own.items():
            if isinstance(value, Tensor) and not value.requires_grad:
                m.__dict__[name] = value.clone()
    try:
        yield
    finally:
        for m, own in before:
            made = {k: v for k, v in _own_attributes(m).items() if k not in own}
            for name in [k for k, v in made.items() if any(map(_is_of_vmap, tree_leaves(v)))]:
                del m.__dict__[name], made[name]
            m.__dict__.update(own, **tree_map_only(Tensor, Tensor.detach, made))
        for container, content in inside:
            container.clear()
            if isinstance(container, dict | set):
                container.update(content)
            else:
                container.extend(content)
