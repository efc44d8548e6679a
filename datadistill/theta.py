"""The tensors of a net, by name, as functions of them take and give them; several nets have a
leading axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.copying import copy_net

Theta = dict[str, Tensor]


def stack(thetas: Sequence[Theta]) -> Theta:
    """Several nets' parameters along a leading axis; a single net stays as it is."""
    if len(thetas) == 1:
        return thetas[0]
    return {name: torch.stack([theta[name] for theta in thetas]) for name in thetas[0]}


def unstack(theta: Theta, nets: int) -> list[Theta]:
    """The inverse of `stack`."""
    return (
        [theta] if nets == 1 else [{name: p[n] for name, p in theta.items()} for n in range(nets)]
    )


def in_channels_last(theta: Mapping[str, Tensor]) -> Theta:
    """One net's parameters with the weights of convolutions in channels-last memory: on a CPU that
    halves the time of a large batch. Values stay the same up to rounding, and gradients pass
    through."""
    return {
        k: p.contiguous(memory_format=torch.channels_last) if p.dim() == 4 else p
        for k, p in theta.items()
    }


def trainable(net: nn.Module) -> tuple[str, ...]:
    """Names of the parameters that require a gradient, in the net's order."""
    return tuple(name for name, p in net.named_parameters() if p.requires_grad)


def frozen_tensors(net: nn.Module) -> Theta:
    """Buffers and frozen parameters of a net, by name."""
    frozen = {name: p.detach() for name, p in net.named_parameters() if not p.requires_grad}
    return {**frozen, **{name: b.detach() for name, b in net.named_buffers()}}


@torch.no_grad()
def put(net: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Write values of parameters and buffers into a net, by name, and return the net; other names
    or shapes are refused."""
    own: Theta = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    for name, value in tensors.items():
        if name not in own or own[name].shape != value.shape:
            found = f"{tuple(own[name].shape)}" if name in own else "missing"
            raise UsageError(
                f"the net's tensor {name!r} is {found}, wanted {tuple(value.shape)}; pass a net of "
                "the same architecture"
            )
    for name, value in tensors.items():
        own[name].copy_(value)
    return net


def net_with(net: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a net with other values of some parameters and buffers."""
    return put(copy_net(net), tensors)


def shapes_of(theta: Theta) -> dict[str, torch.Size]:
    """The shapes, by name."""
    return {name: p.shape for name, p in theta.items()}


def is_same(a: Theta, b: Theta) -> bool:
    """Whether two nets have the same tensors, with the same values on any device."""
    return shapes_of(a) == shapes_of(b) and all(torch.equal(a[k].cpu(), b[k].cpu()) for k in a)
