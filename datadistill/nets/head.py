"""The head of a net: its last linear or convolution layer, and what that layer gets.

    logits = W phi(x) + b                       phi(x): (D,) features of an image x

A frozen body makes the features, which then need to be computed once. Where the layer gets a map
(SqueezeNet: a 1x1 convolution on 13x13), phi is the mean over space; the mean of the layer's
outputs is the layer's output on the mean.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from datadistill.errors import UsageError
from datadistill.nets.copying import copy_net
from datadistill.nets.functional import call_with
from datadistill.nets.logits import refuse_no_logits
from datadistill.nets.weights import last_layer
from datadistill.streams import global_stream

CHUNK = 16 * 224 * 224
"""Pixels of the images that go through a body at once."""
CPU_CHUNK = 64 * 28 * 28
"""The same for small images on a CPU: with 32 channels each map stays within 8 MB. Larger ones are
mapped by the allocator anew each time, at half the speed."""
TOLERANCE = 1e-3
"""Largest difference of logits, relative to their range, that is taken for rounding."""
TRIED = 16
"""Images on which a net with another head is compared with the head."""
_LARGE = 100.0
"""Times the largest logit: a bias that no image takes below 0."""


def head_input(
    net: nn.Module,
    images: Float[Tensor, "n c h w"],
    theta: Mapping[str, Tensor] | None = None,
) -> Float[Tensor, "n d"]:
    """What the last layer of a net gets of images, differentiable in them; in evaluation mode,
    without dropout (the authors of distribution matching leave the net in training mode).

    Args:
        net: any module. It is not changed.
        images: as the net takes them.
        theta: parameters by name in the place of the net's own.

    Raises:
        UsageError: a net whose last linear or convolution layer is not used as a layer, or gets
            something else than a tensor of all images.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> head_input(net, torch.ones(5, 1, 2, 2)).shape
        torch.Size([5, 3])
    """
    name = last_layer(net)
    head = net.get_submodule(name)
    seen: list[Any] = []
    handle = head.register_forward_pre_hook(lambda _, args: seen.append(args[0] if args else None))
    try:
        # a layer of the body may work in place, or draw in evaluation mode too
        with _in_evaluation(net), global_stream(0, "evaluation", 0, everything=True):
            if theta is None:
                net(images.clone())
            else:
                call_with(net, dict(theta), (images.clone(),))
    finally:
        handle.remove()
    found = seen[-1] if seen else None
    if not isinstance(found, Tensor) or found.dim() < 2 or len(found) != len(images):
        what = "nothing" if found is None else getattr(found, "shape", type(found).__name__)
        raise UsageError(
            f"the last layer of the net, {name or 'the net itself'}, gets {what} of {len(images)} "
            "images, wanted one row or map of features for each; pass a net whose last linear or "
            "convolution layer makes the logits"
        )
    if isinstance(head, _ConvNd):
        return found.flatten(2).mean(2)
    return found if found.dim() == 2 else found.flatten(1, -2).mean(1)


@torch.no_grad()
def features_of(
    net: nn.Module,
    images: Float[Tensor, "n c h w"],
    theta: Mapping[str, Tensor] | None = None,
    pixels: int = CHUNK,
) -> Float[Tensor, "n d"]:
    """`head_input` without a graph, on images of so many pixels at a time."""
    return torch.cat([head_input(net, x, theta) for x in _chunks(images, pixels)])


def head_logits(
    net: nn.Module, features: Float[Tensor, "n d"], theta: Mapping[str, Tensor] | None = None
) -> Float[Tensor, "n k"]:
    """The last layer's output on features; `theta` in the place of the net's own parameters."""
    name = last_layer(net)
    head = net.get_submodule(name)
    if isinstance(head, _ConvNd):
        features = features[(...,) + (None,) * len(head.kernel_size)]
    of_head = f"{name}." if name else ""
    own = {k.removeprefix(of_head): p for k, p in (theta or {}).items() if k.startswith(of_head)}
    logits: Tensor = call_with(head, own, (features,))
    return logits.flatten(1)


@torch.no_grad()
def is_linear_head(net: nn.Module, images: Float[Tensor, "n c h w"]) -> bool:
    """Whether the logits of a net are its last layer's output on `head_input`: tried on images.
    SqueezeNet's are not, as ReLU and a mean over space follow the layer.

    Example:
        >>> body = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> images = torch.randn(3, 1, 2, 2)
        >>> is_linear_head(body, images), is_linear_head(nn.Sequential(body, nn.Sigmoid()), images)
        (True, False)
    """
    head = net.get_submodule(last_layer(net))
    if isinstance(head, _ConvNd) and any(k != 1 for k in head.kernel_size):
        return False
    return _is_near(logits_of(net, images), head_logits(net, features_of(net, images)))


def require_linear_head(net: nn.Module, images: Float[Tensor, "n c h w"], instead: str) -> None:
    """Refuse a net that `is_linear_head` finds none in, on the first images; `instead` is what to
    choose."""
    if not is_linear_head(net, images[:TRIED]):
        raise UsageError(
            "the net's logits are not the output of its last layer on features averaged over space "
            f"(SqueezeNet has ReLU behind that layer); choose {instead}"
        )


def check_linear_head(net: nn.Module, images: Float[Tensor, "n c h w"], classes: int) -> None:
    """Refuse, before one is trained, a net that cannot take a linear head for so many classes: a
    random one is put into a copy."""
    features = features_of(net, images)
    draws = torch.Generator().manual_seed(0)
    weight = torch.randn(classes, features.shape[1], generator=draws).to(features)
    put_linear_head(net, weight, weight.new_ones(classes), images)


@torch.no_grad()
def put_linear_head(
    net: nn.Module,
    weight: Float[Tensor, "k d"],
    bias: Float[Tensor, " k"],
    images: Float[Tensor, "n c h w"],
) -> nn.Module:
    """A copy of a net whose last layer is a linear head that was trained on `head_input`.

    Where ReLU follows the layer (SqueezeNet), the same large number is added to every bias, so that
    ReLU passes all logits on; a softmax is the same for logits that are shifted together. Images
    are those that this is tried on.

    Raises:
        UsageError: a net whose logits are not such a head's, shifted or not.
    """
    trained = copy_net(net)
    name = last_layer(trained)
    head: Any = trained.get_submodule(name)
    if len(head.weight) != len(weight):
        raise UsageError(
            f"the net's last layer {name} makes {len(head.weight)} logits, and there are "
            f"{len(weight)} classes; put a layer of {len(weight)} in its place first, of any values"
        )
    wanted = features_of(trained, images) @ weight.T + bias
    why = "the logits are not that layer's output on its input"
    if head.bias is None:
        why = "it has no bias"
    elif head.weight.flatten(1).shape == weight.shape:
        head.weight.copy_(weight.view_as(head.weight))
        for shift in (0.0, _LARGE * float(wanted.abs().max())):
            head.bias.copy_(bias + shift)
            if _is_near(logits_of(trained, images) - shift, wanted):
                return trained
    raise UsageError(
        f"a linear head cannot take the place of the net's last layer {name} "
        f"{tuple(head.weight.shape)}, the one that it registers last: {why}; learn a set for that "
        "net instead (--space pixels --train head, or the name of the layer that makes the logits)"
    )


def _is_near(found: Tensor, wanted: Tensor) -> bool:
    size = float(wanted.abs().max())
    return found.shape == wanted.shape and float((found - wanted).abs().max()) <= TOLERANCE * size


@torch.no_grad()
def logits_of(net: nn.Module, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
    """The logits in evaluation mode, computed in chunks."""
    with _in_evaluation(net):
        found = [net(x.clone()) for x in _chunks(images)]
    refuse_no_logits(found[0], mode="evaluation")
    return torch.cat(found)


def _chunks(images: Tensor, pixels: int = CHUNK) -> tuple[Tensor, ...]:
    return images.split(max(1, pixels // math.prod(images.shape[2:])))


@contextlib.contextmanager
def _in_evaluation(net: nn.Module) -> Iterator[None]:
    """Every layer in evaluation mode, for a while."""
    modes = [(m, m.training) for m in net.modules()]
    try:
        net.eval()
        yield
    finally:
        for m, training in modes:
            m.training = training
