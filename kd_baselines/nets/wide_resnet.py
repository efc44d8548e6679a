"""Wide residual nets, WRN-depth-widen: the nets of attention transfer and of most tables since.

    conv 16@3x3, then 3 groups of n = (depth - 4) / 6 blocks with 16, 32, 64 times `widen` channels;
    groups 2 and 3 halve the map; norm, ReLU, mean over pixels, one linear layer

    block: BN -> ReLU -> conv 3x3 -> BN -> ReLU -> dropout -> conv 3x3, added to the block's input;
    where the number of channels changes, to a 1x1 convolution of the first ReLU instead

Parameters for three channels and 10 classes: WRN-16-1 0.18M, WRN-16-2 0.69M, WRN-40-1 0.56M,
WRN-40-2 2.24M, WRN-28-10 36.5M.

References: Zagoruyko and Komodakis, Wide residual networks, 2016, https://arxiv.org/abs/1605.07146;
the same, Paying more attention to attention, 2017, https://arxiv.org/abs/1612.03928
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.layers import check_images, check_whole
from datadistill.nets.layers import dropout as dropout_layer

__all__ = ["CIFAR_WIDE_RESNETS", "WideResNet"]

REPDISTILLER = {
    "block1": "group1",
    "block2": "group2",
    "block3": "group3",
    "bn1": "norm",
    "fc": "classifier",
}
"""Names of RepDistiller's modules -> the names here."""


class WideBlock(nn.Module):
    """Two 3x3 convolutions, each after a norm and a ReLU, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.dropout = dropout_layer(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
        )

    def forward(
        self, maps: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs height_out width_out"]:
        active = F.relu(self.norm1(maps))
        # a projection sees the activated maps, an identity the maps themselves
        beside = maps if isinstance(self.shortcut, nn.Identity) else self.shortcut(active)
        return beside + self.conv2(self.dropout(F.relu(self.norm2(self.conv1(active)))))


class WideResNet(nn.Module):
    """A wide residual net for small images of any size.

    Modules: `conv1`, `group1`, `group2`, `group3` (whose outputs attention transfer compares),
    `norm`, `classifier`. 691,674 parameters for the default, three channels and 10 classes,
    whatever the size.

    Args:
        depth: 6 n + 4 for n = 1, 2, ... blocks a group: 10, 16, 22, 28, 34, 40, ...
        widen: factor on the channels.
        dropout: probability in [0, 1) of dropping a number between the convolutions of a block
            while training.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        depth: int = 16,
        widen: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_images(channels, size, classes)
        check_whole("depth", depth)
        check_whole("widen", widen)
        blocks, rest = divmod(depth - 4, 6)
        if blocks < 1 or rest:
            raise UsageError(
                f"depth is {depth}, but a wide residual net has 6 n + 4 layers; take 10, 16, "
                "22, 28, 34 or 40"
            )
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        groups = []
        inputs = 16
        for base, stride in [(16, 1), (32, 2), (64, 2)]:
            outputs = base * widen
            first = WideBlock(inputs, outputs, stride, dropout)
            groups.append(
                nn.Sequential(
                    first, *(WideBlock(outputs, outputs, 1, dropout) for _ in range(blocks - 1))
                )
            )
            inputs = outputs
        self.group1, self.group2, self.group3 = groups
        self.norm = nn.BatchNorm2d(inputs)
        self.classifier = nn.Linear(inputs, classes)

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        h = self.group3(self.group2(self.group1(self.conv1(images))))
        return self.classifier(F.relu(self.norm(h)).mean((2, 3)))

    @staticmethod
    def to_own_name(name: str) -> str:
        """The name here of a tensor of a RepDistiller checkpoint; any other name stays.

        >>> WideResNet.to_own_name("block2.layer.0.convShortcut.weight")
        'group2.0.shortcut.weight'
        """
        module, dot, rest = name.partition(".")
        if module.startswith("block"):
            rest = rest.removeprefix("layer.").replace("bn", "norm")
            rest = rest.replace("convShortcut", "shortcut")
        return REPDISTILLER.get(module, module) + dot + rest


def _wide(depth: int, widen: int, *, channels: int, size: int, classes: int) -> WideResNet:
    return WideResNet(channels=channels, size=size, classes=classes, depth=depth, widen=widen)


CIFAR_WIDE_RESNETS = {
    f"wrn_{depth}_{widen}": partial(_wide, depth, widen)
    for depth, widen in ((16, 1), (16, 2), (40, 1), (40, 2))
}
"""The nets of RepDistiller by its names; its checkpoints load by `to_own_name`."""
