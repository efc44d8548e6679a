"""A call of a net with other tensors in the place of its own.

`torch.func.functional_call` puts tensors in by name and its own back afterwards, name by name. A
layer that is registered under two names (`self.again = self.layer`) has one place for two names:
torch fills it twice, takes what it put in first for the layer's own, and leaves that in the net.
Here every place is filled once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def call_with(
    net: nn.Module, tensors: dict[str, Tensor], args: Any = (), kwargs: Mapping[str, Any] = {}
) -> Any:
    """`torch.func.functional_call`: parameters and buffers by name; those that the net replaces on
    its way are put into `tensors`. One that the net has in several places is put into all of them.

    Raises:
        ValueError: `tensors` has two values for one tensor of the net.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 1, bias=False))
        >>> net.again = net[0]
        >>> own = net[0].weight
        >>> call_with(net, {"0.weight": torch.tensor([[3.0]])}, (torch.ones(1, 1),))
        tensor([[9.]])
        >>> net.again.weight is own
        True
    """
    shared = find_shared(net)
    placed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for place in shared.get(name, (name,)):
            if placed.setdefault(place, tensor) is not tensor:
                raise ValueError(f"two values for {place}, which has several names; give one")
    try:
        return torch.func.functional_call(net, placed, args, dict(kwargs), tie_weights=False)
    finally:
        tensors.update({name: placed[shared.get(name, (name,))[0]] for name in tensors})


def find_shared(net: nn.Module) -> dict[str, tuple[str, ...]]:
    """Every name of the parameters and buffers that have several -> one name for each place where
    the tensor stands: two of a weight that two layers share, one of a weight in a layer that has
    two names."""
    first: dict[int, str] = {}  # of each layer, the first of its names
    names: dict[int, list[str]] = {}  # of each tensor
    places: dict[int, dict[str, None]] = {}
    for prefix, module in net.named_modules(remove_duplicate=False):
        layer = first.setdefault(id(module), prefix)
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None:
                names.setdefault(id(tensor), []).append(_join(prefix, name))
                places.setdefault(id(tensor), {})[_join(layer, name)] = None
    several = {key: all_names for key, all_names in names.items() if len(all_names) > 1}
    return {name: tuple(places[key]) for key, all_names in several.items() for name in all_names}


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
