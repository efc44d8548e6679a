"""ShuffleNet for CIFAR: RepDistiller's `ShuffleV1` (3 groups) and `ShuffleV2` (1x).

    both    conv 1x1 to 24 channels, norm, ReLU; 3 layers, each of which halves the map in its first
            block; mean over pixels, one linear layer
    V1      240, 480, 960 channels in 4, 8, 4 blocks
            block: grouped conv 1x1 -> BN -> ReLU -> shuffle -> conv 3x3 of each channel alone -> BN
            -> ReLU -> grouped conv 1x1 -> BN, added to the input; a block that halves the map
            stands beside the input's 3x3 mean pool instead
    V2      116, 232, 464 channels in 4, 8, 4 blocks, then conv 1x1 to 1024, norm, ReLU
            block: half of the channels pass as they are, the other half goes through conv 1x1 ->
            BN -> ReLU -> conv 3x3 of each channel alone -> BN -> conv 1x1 -> BN -> ReLU; then
            shuffle

In both the ReLU after the 3x3 convolution and other details are those of RepDistiller, as are the
names of modules, so that its checkpoints load as they are. `layer1`, `layer2` and `layer3` are what
its feature methods compare.

References: Zhang et al., ShuffleNet, 2018, https://arxiv.org/abs/1707.01083; Ma et al., ShuffleNet
V2, 2018, https://arxiv.org/abs/1807.11164; Tian et al., Contrastive representation distillation,
2020, https://arxiv.org/abs/1910.10699
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.nets.layers import check_images

__all__ = ["ShuffleNetV1", "ShuffleNetV2"]

FIRST = 24
BLOCKS = (4, 8, 4)
Maps = Float[Tensor, "batch channels height width"]


def shuffle_channels(maps: Maps, groups: int) -> Maps:
    """Channel c of group g becomes channel g of group c.

    >>> shuffle_channels(torch.arange(6.0).view(1, 6, 1, 1), 2).flatten().tolist()
    [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
    """
    return maps.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def _each_alone(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)


class BlockV1(nn.Module):
    """Two grouped 1x1 convolutions around a 3x3 one of each channel alone."""

    def __init__(self, inputs: int, outputs: int, halves: bool, groups: int) -> None:
        super().__init__()
        # a block that halves the map has the input's own channels beside those it makes
        made = outputs - inputs if halves else outputs
        middle = made // 4
        self.halves, self.groups = halves, 1 if inputs == FIRST else groups
        self.conv1 = nn.Conv2d(inputs, middle, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = _each_alone(middle, 2 if halves else 1)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, made, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(made)

    def forward(self, maps: Maps) -> Maps:
        h = shuffle_channels(self.bn1(self.conv1(maps)).relu(), self.groups)
        h = self.bn3(self.conv3(self.bn2(self.conv2(h)).relu()))
        if self.halves:
            return torch.cat([h, F.avg_pool2d(maps, 3, stride=2, padding=1)], 1).relu()
        return (h + maps).relu()


class ShuffleNetV1(nn.Module):
    """ShuffleNet with 3 groups, for small images of any size.

    Modules: `conv1`, `bn1`, `layer1`, `layer2`, `layer3`, `linear`.
    """

    def __init__(self, *, channels: int = 3, size: int = 32, classes: int = 10) -> None:
        super().__init__()
        check_images(channels, size, classes)
        self.conv1 = nn.Conv2d(channels, FIRST, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(FIRST)
        layers, inputs = [], FIRST
        for number, outputs in zip(BLOCKS, (240, 480, 960), strict=True):
            first = BlockV1(inputs, outputs, True, groups=3)
            more = [BlockV1(outputs, outputs, False, groups=3) for _ in range(number - 1)]
            layers.append(nn.Sequential(first, *more))
            inputs = outputs
        self.layer1, self.layer2, self.layer3 = layers
        self.linear = nn.Linear(inputs, classes)

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        h = self.bn1(self.conv1(images)).relu()
        h = self.layer3(self.layer2(self.layer1(h)))
        return self.linear(h.mean((2, 3)))


class BlockV2(nn.Module):
    """Half of the channels as they are, the other half convolved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = _each_alone(half, 1)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, maps: Maps) -> Maps:
        kept, h = maps.chunk(2, 1)
        h = self.bn2(self.conv2(self.bn1(self.conv1(h)).relu()))
        return shuffle_channels(torch.cat([kept, self.bn3(self.conv3(h)).relu()], 1), 2)


class HalvingV2(nn.Module):
    """The input twice, both convolved to half of the channels and half of the map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1 = _each_alone(inputs, 2)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = _each_alone(half, 2)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, maps: Maps) -> Maps:
        left = self.bn2(self.conv2(self.bn1(self.conv1(maps)))).relu()
        right = self.bn4(self.conv4(self.bn3(self.conv3(maps)).relu()))
        return shuffle_channels(torch.cat([left, self.bn5(self.conv5(right)).relu()], 1), 2)


class ShuffleNetV2(nn.Module):
    """ShuffleNet V2 1x, for small images of any size.

    Modules: `conv1`, `bn1`, `layer1`, `layer2`, `layer3`, `conv2`, `bn2`, `linear`.
    """

    def __init__(self, *, channels: int = 3, size: int = 32, classes: int = 10) -> None:
        super().__init__()
        check_images(channels, size, classes)
        self.conv1 = nn.Conv2d(channels, FIRST, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(FIRST)
        layers, inputs = [], FIRST
        for number, outputs in zip(BLOCKS, (116, 232, 464), strict=True):
            more = [BlockV2(outputs) for _ in range(number - 1)]
            layers.append(nn.Sequential(HalvingV2(inputs, outputs), *more))
            inputs = outputs
        self.layer1, self.layer2, self.layer3 = layers
        self.conv2 = nn.Conv2d(inputs, 1024, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1024)
        self.linear = nn.Linear(1024, classes)

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        h = self.bn1(self.conv1(images)).relu()
        h = self.bn2(self.conv2(self.layer3(self.layer2(self.layer1(h))))).relu()
        return self.linear(h.mean((2, 3)))
