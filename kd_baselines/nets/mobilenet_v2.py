"""MobileNetV2 for CIFAR, of half the channels: RepDistiller's `MobileNetV2` (T = 6, width 0.5).

    conv 3x3 of stride 2, 7 groups of inverted residual blocks, conv 1x1 to 1280 channels, mean over
    pixels, one linear layer; norm and ReLU after the first and the last convolution

    block: conv 1x1 to T times the channels -> BN -> ReLU -> conv 3x3 of each channel alone -> BN ->
    ReLU -> conv 1x1 -> BN, added to the block's input where the shape is the same

Groups and strides are the paper's, except that the second group does not halve the map, and ReLU6
is ReLU. Names of modules are those of RepDistiller, so that its checkpoints load as they are.
`blocks.1`, `blocks.2`, `blocks.4` and `blocks.6` are what its feature methods compare.

References: Sandler et al., MobileNetV2, 2018, https://arxiv.org/abs/1801.04381, table 2; Tian et
al., Contrastive representation distillation, 2020, https://arxiv.org/abs/1910.10699
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.layers import check_images, check_whole

__all__ = ["MobileNetV2"]

# channels, blocks, stride of the first
GROUPS = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
LAST = 1280


class InvertedResidual(nn.Module):
    """A wide convolution of each channel alone between two narrow ends."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = inputs * expand
        self.has_shortcut = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 3, stride=stride, padding=1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(
        self, maps: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs height_out width_out"]:
        h = self.conv(maps)
        return maps + h if self.has_shortcut else h


class MobileNetV2(nn.Module):
    """MobileNetV2 for small images of any size.

    Modules: `conv1`, `blocks` (7 groups), `conv2`, `classifier`.

    Args:
        expand: T, by which a block widens its input; the first group has 1.
        width: factor on the channels, but for the last 1280; above 0.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        expand: int = 6,
        width: float = 0.5,
    ) -> None:
        super().__init__()
        check_images(channels, size, classes)
        check_whole("expand", expand)
        if not (math.isfinite(width) and int(16 * width) >= 1):
            raise UsageError(f"width is {width}, which leaves no channel; give 0.5, or 1")
        inputs = int(32 * width)
        self.conv1 = _with_norm(nn.Conv2d(channels, inputs, 3, stride=2, padding=1, bias=False))
        groups = []
        for n, (base, number, stride) in enumerate(GROUPS):
            blocks = []
            for k in range(number):
                outputs = int(base * width)
                blocks.append(
                    InvertedResidual(
                        inputs, outputs, stride if k == 0 else 1, 1 if n == 0 else expand
                    )
                )
                inputs = outputs
            groups.append(nn.Sequential(*blocks))
        self.blocks = nn.ModuleList(groups)
        last = int(LAST * max(width, 1.0))
        self.conv2 = _with_norm(nn.Conv2d(inputs, last, 1, bias=False))
        self.classifier = nn.Sequential(nn.Linear(last, classes))

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        h = self.conv1(images)
        for group in self.blocks:
            h = group(h)
        return self.classifier(self.conv2(h).mean((2, 3)))


def _with_norm(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())
