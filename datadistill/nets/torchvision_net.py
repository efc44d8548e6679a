"""torchvision's classifiers, for a number of classes of your own.

    net = build("torchvision", channels=3, size=112, classes=20, model="squeezenet1_0")

The module is torchvision's own, and its state dict has torchvision's names, so published weights
load. Changed is only what stands in the way of differentiating through its training: dropout is off
unless asked for, stochastic depth is off, and no activation works in place. Attention and hard
sigmoids have second derivatives where any net has them (innerloop/second_derivatives.py).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from datadistill.errors import UsageError, suggest
from datadistill.nets.layers import check_images
from datadistill.nets.layers import dropout as dropout_layer

# in training mode their output is no tensor of logits
WITH_EXTRA_HEADS = ("googlenet", "inception_v3")
MAXVIT_STEP = 224  # its last stage has a pixel for 32 of the image, and squares of 7

_FITTING: set[tuple[str, int, int]] = set()
"""Model, size and classes of nets that were found to fit, which takes longer than building one."""


def models() -> tuple[str, ...]:
    """The names of torchvision's classifiers that work here."""
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    return tuple(name for name in names if name not in WITH_EXTRA_HEADS)


def torchvision_net(
    *,
    channels: int = 3,
    size: int = 224,
    classes: int = 1000,
    model: str = "squeezenet1_0",
    dropout: float = 0.0,
) -> nn.Module:
    """A classifier of torchvision with `classes` logits and random parameters, in training mode.

    Every dropout layer has probability `dropout` (torchvision's own defaults differ by model; Wang
    et al. have none). Stochastic depth is off: it would draw other layers when a step is replayed.
    Pretrained values: `nets.weights.read_weights`.

    Args:
        channels: colour channels of the images; these nets take 3.
        size: side of the images in pixels. Most models take any of 32 px or more, Swin
            transformers too; a vision transformer is built for the size, a multiple of its
            patches; MaxViT takes multiples of 224.
        classes: number of logits.
        model: a name of `torchvision.models` that classifies images; `models()` lists them.
        dropout: probability in [0, 1) of dropping an input while training.
    """
    check_images(channels, size, classes)
    if channels != 3:
        raise UsageError(
            f"torchvision's {model} was asked for with {channels} channel(s); it takes 3: load the "
            "images with --channels 3"
        )
    import torchvision

    if model in WITH_EXTRA_HEADS:
        raise UsageError(
            f"torchvision's {model} has extra heads that are trained with it; wanted a net with "
            "logits alone: take another one, such as squeezenet1_0, resnet18 or mobilenet_v2"
        )
    known = models()
    if model not in known:
        close = suggest(str(model), known)
        hint = (
            close
            if close.startswith("did")
            else "for example squeezenet1_0, alexnet, resnet18, vgg11"
        )
        raise UsageError(
            f"torchvision has no classifier called {model!r}; {hint.split(' (known')[0]} "
            "(torchvision.models.list_models() has all)"
        )
    dropout_layer(dropout)  # refuses a probability out of range before anything is built
    net: nn.Module = torchvision.models.get_model(
        model, weights=None, num_classes=classes, **_size_of(model, size)
    )
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Dropout):
            net.set_submodule(name, dropout_layer(dropout))
        elif isinstance(module, torchvision.ops.StochasticDepth):
            module.p = 0.0
        elif getattr(module, "inplace", False):
            module.inplace = False
    if (model, size, classes) not in _FITTING:
        _check_size(net, model, size, classes)
        _FITTING.add((model, size, classes))
    return net


def _size_of(model: str, size: int) -> dict[str, Any]:
    """The argument by which torchvision builds a net for images of a size, where it takes one."""
    step = MAXVIT_STEP if model.startswith("maxvit") else 1
    if model.startswith("vit_"):
        step = int(model.rpartition("_")[2])  # vit_b_16 has patches of 16 px
    if size % step:
        nearest = max(step, round(size / step) * step)
        raise UsageError(
            f"torchvision's {model} does not take images of {size} px, but of multiples of {step}; "
            f"choose --size {nearest}, or another model"
        )
    if model.startswith("vit_"):
        return {"image_size": size}
    return {"input_size": (size, size)} if model.startswith("maxvit") else {}


def _check_size(net: nn.Module, model: str, size: int, classes: int) -> None:
    """Run two images through the net on the meta device, where nothing is computed but shapes."""
    tensors: dict[str, Tensor] = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    shapes: dict[str, Any] = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
    net.eval()
    try:
        images = torch.zeros(2, 3, size, size, device="meta")
        found = torch.func.functional_call(net, shapes, (images,)).shape
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        raise UsageError(
            f"torchvision's {model} does not take images of {size} px ({str(error)[:120]}); "
            "choose a larger --size, 224 px in doubt, or another model"
        ) from error
    finally:
        net.train()
    if found != (2, classes):
        raise UsageError(
            f"torchvision's {model} makes {tuple(found)} of 2 images, wanted (2, {classes})"
        )
