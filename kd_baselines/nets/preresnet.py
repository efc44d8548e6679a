"""Pre-activation residual nets for small images: norm and ReLU stand before each convolution.

    conv1 3x3 with 16 channels, then 3 groups of n units with 16, 32, 64 times `widen` channels
    inside; groups 2 and 3 halve the map; norm, ReLU, mean over pixels, one linear layer

    basic        BN -> ReLU -> conv 3x3 -> BN -> ReLU -> conv 3x3              depth = 6 n + 2
    bottleneck   BN -> ReLU -> conv 1x1 -> BN -> ReLU -> conv 3x3 -> BN -> ReLU
                 -> conv 1x1 to four times the channels inside                 depth = 9 n + 2

Each is added to the unit's input; where the number of channels or the side changes, to a 1x1
convolution of the first ReLU instead. Parameters for three channels and 10 classes: bottleneck 164
1.7M, 1001 10.3M (the papers print 1.7M and 10.2M), basic 110 1.7M.

Reference: He et al., Identity mappings in deep residual networks, 2016,
https://arxiv.org/abs/1603.05027
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.layers import check_choice, check_images, check_whole

__all__ = ["PreActivationUnit", "PreResNet", "width_of"]

UNITS = {"basic": ((3, 3), 6), "bottleneck": ((1, 3, 1), 9)}  # kernels; layers of three such units


class PreActivationUnit(nn.Module):
    """Convolutions, each after a norm and a ReLU, beside a shortcut.

    Args:
        inputs: channels before it.
        inside: channels of all convolutions but the last.
        outputs: channels after it.
        kernels: sides of the convolutions' kernels.
        stride: of the first 3x3 convolution and of the shortcut.
    """

    def __init__(
        self, inputs: int, inside: int, outputs: int, kernels: tuple[int, ...], stride: int = 1
    ) -> None:
        super().__init__()
        self.shortcut = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
        )
        widths = [inputs, *[inside] * (len(kernels) - 1), outputs]
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) for w in widths[:-1])
        strided = kernels.index(3)
        self.convs = nn.ModuleList(
            nn.Conv2d(
                widths[i],
                widths[i + 1],
                k,
                stride=stride if i == strided else 1,
                padding=k // 2,
                bias=False,
            )
            for i, k in enumerate(kernels)
        )

    def forward(
        self, maps: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs height_out width_out"]:
        h = F.relu(self.norms[0](maps))
        # a projection sees the activated maps, an identity the maps themselves
        beside = maps if isinstance(self.shortcut, nn.Identity) else self.shortcut(h)
        h = self.convs[0](h)
        for norm, conv in zip(list(self.norms)[1:], list(self.convs)[1:], strict=True):
            h = conv(F.relu(norm(h)))
        return beside + h


class PreResNet(nn.Module):
    """A pre-activation ResNet.

    Modules: `conv1`, `group1`, `group2`, `group3`, `norm`, `classifier`.

    Args:
        depth: 9 n + 2 with bottleneck units (29, 164, 1001), 6 n + 2 with basic ones (20, 56, 110).
        widen: factor on the channels of the groups, above 0; fractions are rounded.
        kind: `bottleneck` or `basic`.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        depth: int = 29,
        widen: float = 1.0,
        kind: Literal["bottleneck", "basic"] = "bottleneck",
    ) -> None:
        super().__init__()
        check_images(channels, size, classes)
        check_whole("depth", depth)
        check_choice("kind", kind, UNITS)
        kernels, layers = UNITS[kind]
        units, rest = divmod(depth - 2, layers)
        if units < 1 or rest:
            raise UsageError(
                f"depth is {depth}, but a pre-activation ResNet of {kind} units has {layers} n + 2 "
                f"layers; take {layers + 2}, {3 * layers + 2} or {18 * layers + 2}"
            )
        inputs = 16
        self.conv1 = nn.Conv2d(channels, inputs, 3, padding=1, bias=False)
        groups = []
        for base, stride in [(16, 1), (32, 2), (64, 2)]:
            inside = width_of("widen", widen, base)
            outputs = inside * (4 if kind == "bottleneck" else 1)
            first = PreActivationUnit(inputs, inside, outputs, kernels, stride)
            rest_of = (
                PreActivationUnit(outputs, inside, outputs, kernels) for _ in range(units - 1)
            )
            groups.append(nn.Sequential(first, *rest_of))
            inputs = outputs
        self.group1, self.group2, self.group3 = groups
        self.norm = nn.BatchNorm2d(inputs)
        self.classifier = nn.Linear(inputs, classes)

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        h = self.group3(self.group2(self.group1(self.conv1(images))))
        return self.classifier(F.relu(self.norm(h)).mean((2, 3)))


def width_of(name: str, factor: float, base: int) -> int:
    """`factor` times `base` channels, rounded."""
    number = not isinstance(factor, bool) and isinstance(factor, int | float)
    if not number or not 0 < factor < float("inf") or round(factor * base) < 1:
        raise UsageError(
            f"{name} is {factor!r}, times {base} channels; it must be a number that "
            "leaves 1 or more"
        )
    return round(factor * base)
