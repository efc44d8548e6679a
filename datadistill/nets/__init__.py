"""Architectures by name.

    net = build("lenet", channels=1, size=28, classes=10)

A net is any `nn.Module` from images (B, channels, size, size) to logits (B, classes); nothing in
the library needs it to come from here. To add one, add a file and a line to `NETS`. A name that is
not in `NETS` is looked up in the tables of `OTHER_TABLES`.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from torch import nn

from datadistill.errors import UsageError, is_out_of_memory, suggest
from datadistill.nets.alexcifarnet import AlexCifarNet
from datadistill.nets.alexnet import AlexNet
from datadistill.nets.batchnorm import has_batchnorm, reestimate
from datadistill.nets.convnet import ConvNet
from datadistill.nets.initialization import INITIALIZATIONS, draw
from datadistill.nets.lenet import LeNet
from datadistill.nets.limits import limit_size
from datadistill.nets.mlp import MLP
from datadistill.nets.resnet import ResNet18
from datadistill.nets.torchvision_net import torchvision_net
from datadistill.nets.vgg import VGG11
from datadistill.streams import global_stream

__all__ = [
    "INITIALIZATIONS",
    "MLP",
    "NETS",
    "OTHER_TABLES",
    "VGG11",
    "AlexCifarNet",
    "AlexNet",
    "ConvNet",
    "LeNet",
    "ResNet18",
    "all_nets",
    "arguments",
    "build",
    "draw",
    "find_net",
    "has_batchnorm",
    "reestimate",
]

NETS: dict[str, Callable[..., nn.Module]] = {
    "lenet": LeNet,
    "alexcifarnet": AlexCifarNet,
    "alexnet": AlexNet,
    "convnet": ConvNet,
    "mlp": MLP,
    "resnet18": ResNet18,
    "vgg11": VGG11,
    "torchvision": torchvision_net,
}
OTHER_TABLES = ("kd_baselines.nets:KD_NETS",)
"""Tables of more nets, each a module and the name of a dictionary in it; imported when they are
needed."""


def all_nets() -> dict[str, Callable[..., nn.Module]]:
    """Every net by name: `NETS` and the tables of `OTHER_TABLES`."""
    found: dict[str, Callable[..., nn.Module]] = {}
    for path in OTHER_TABLES:
        found.update(pkgutil.resolve_name(path))
    return {**found, **NETS}


def find_net(name: str) -> Callable[..., nn.Module]:
    """The constructor of the net of this name."""
    if name in NETS:
        return NETS[name]
    known = all_nets()
    if name not in known:
        found = f"there is no net called {name!r}"
        raise UsageError(f"{found}; {suggest(str(name), known, 'datadistill.nets.all_nets()')}")
    return known[name]


def arguments(name: str) -> dict[str, Any]:
    """The arguments that a net takes besides `channels`, `size` and `classes`, with their defaults.

    >>> arguments("mlp")
    {'width': 128, 'depth': 2}
    """
    parameters = inspect.signature(find_net(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in ("channels", "size", "classes")}


def build(name: str, *, channels: int, size: int, classes: int, **args: Any) -> nn.Module:
    """A new net from (B, channels, size, size) to (B, classes) on the default device, in training
    mode.

    Its parameters are the same at every call, and torch's global generators are left as they were:
    a run draws its theta_0 with `draw`, from a stream of its own.

    Args:
        name: a key of `all_nets()`.
        channels: colour channels of the images, at least 1.
        size: side of the images in pixels; not every net takes every size.
        classes: number of logits, at least 1.
        **args: the net's own arguments; `arguments(name)` lists them.

    Raises:
        UsageError: an unknown name or argument, a value out of range, a size the net does not work
            for, or a net of more tensors than any (see `datadistill.nets.limits`).
        OutOfMemory: it takes more than the machine's memory.

    Example:
        >>> net = build("convnet", channels=3, size=32, classes=10, depth=2)
        >>> sum(p.numel() for p in net.parameters())
        233610
    """
    known = arguments(name)
    for argument in args:
        if argument not in known:
            own = suggest(argument, known) if known else "it takes only channels, size and classes"
            raise UsageError(f"the net {name} has no argument called {argument!r}; {own}")
    every = {"channels": channels, "size": size, "classes": classes, **args}
    with global_stream(0, "build"), limit_size(name, every):
        try:
            return find_net(name)(**every)
        except (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            told = ", ".join(f"{key} {value!r:.40}" for key, value in every.items())
            raise UsageError(
                f"the net {name} cannot be built with {told}: {str(error)[:200]}"
            ) from error
