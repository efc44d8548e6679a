"""The residual nets of CIFAR: resnet8 to resnet110, and resnet8x4 and resnet32x4 of 4 times the
channels.

    conv 3x3, norm, ReLU, then 3 layers of n = (depth - 2) / 6 blocks with 16, 32, 64 channels;
    layers 2 and 3 halve the map; mean over pixels, one linear layer

    block: conv 3x3 -> BN -> ReLU -> conv 3x3 -> BN, added to the block's input, then ReLU; where
    the number of channels changes, to a 1x1 convolution of the input with a norm

Names of modules are those of RepDistiller, so that its checkpoints load as they are. `layer1`,
`layer2` and `layer3` are what its feature methods compare. Its nets of 4 times the channels have 32
in the first convolution, not 64.

References: He et al., Deep residual learning, 2016, https://arxiv.org/abs/1512.03385, section 4.2;
Tian et al., Contrastive representation distillation, 2020, https://arxiv.org/abs/1910.10699
"""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.layers import check_images, check_whole

__all__ = ["CIFAR_RESNETS", "CifarResNet"]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each with a norm, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            project = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(project, nn.BatchNorm2d(outputs))

    def forward(
        self, maps: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs height_out width_out"]:
        h = self.bn2(self.conv2(self.bn1(self.conv1(maps)).relu()))
        return (self.downsample(maps) + h).relu()


class CifarResNet(nn.Module):
    """A residual net for small images of any size.

    Modules: `conv1`, `bn1`, `layer1`, `layer2`, `layer3`, `fc`.

    Args:
        depth: 6 n + 2 for n = 1, 2, ... blocks a layer: 8, 14, 20, 32, 44, 56, 110, ...
        widths: channels of the first convolution and of the three layers.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        depth: int = 20,
        widths: tuple[int, int, int, int] = (16, 16, 32, 64),
    ) -> None:
        super().__init__()
        check_images(channels, size, classes)
        check_whole("depth", depth)
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise UsageError(
                f"depth is {depth}, but a residual net of CIFAR has 6 n + 2 layers; take 8, 14, "
                "20, 32, 44, 56 or 110"
            )
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        layers = []
        for n in range(3):
            inputs, outputs = widths[n], widths[n + 1]
            first = ResidualBlock(inputs, outputs, stride=1 if n == 0 else 2)
            more = [ResidualBlock(outputs, outputs, stride=1) for _ in range(blocks - 1)]
            layers.append(nn.Sequential(first, *more))
        self.layer1, self.layer2, self.layer3 = layers
        self.fc = nn.Linear(widths[3], classes)

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        h = self.bn1(self.conv1(images)).relu()
        h = self.layer3(self.layer2(self.layer1(h)))
        return self.fc(h.mean((2, 3)))


def _resnet(
    depth: int, widths: tuple[int, int, int, int], *, channels: int, size: int, classes: int
) -> CifarResNet:
    return CifarResNet(channels=channels, size=size, classes=classes, depth=depth, widths=widths)


CIFAR_RESNETS = {
    f"resnet{depth}": partial(_resnet, depth, (16, 16, 32, 64))
    for depth in (8, 14, 20, 32, 44, 56, 110)
} | {f"resnet{depth}x4": partial(_resnet, depth, (32, 64, 128, 256)) for depth in (8, 32)}
"""The nets of RepDistiller by its names."""
