"""ResNet-18 in its CIFAR form: a 3x3 stem of stride 1 and no pooling before the residual stages.

    conv 64@3x3, then 4 stages of 2 basic blocks with 64, 128, 256, 512 channels (64 is the width);
    stages 2 to 4 halve the map; mean over pixels; one linear layer

Reference: He et al., Deep residual learning for image recognition, 2016,
https://arxiv.org/abs/1512.03385
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.layers import NORMS, check_choice, check_images, check_whole

SMALLEST_WITH_INSTANCE_NORM = 9  # px: 9 -> 5 -> 3 -> 2; at 8 px the last map is 1 px


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape
    changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = NORMS[norm](outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = NORMS[norm](outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), NORMS[norm](outputs)
            )

    def forward(
        self, maps: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs height_out width_out"]:
        h = F.relu(self.norm1(self.conv1(maps)))
        h = self.norm2(self.conv2(h))
        return F.relu(h + self.shortcut(maps))


class ResNet18(nn.Module):
    """ResNet-18 for small images: 11,173,962 parameters for three channels and 10 classes, whatever
    the size. `norm` is `batch` or `instance` (a GroupNorm of one channel a group), which wants at
    least 9 px. `width` is the channels of the first stage, 64 in the paper; the others have 2, 4
    and 8 times as many."""

    def __init__(
        self,
        *,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        norm: str = "batch",
        width: int = 64,
    ) -> None:
        super().__init__()
        check_images(channels, size, classes)
        check_whole("width", width)
        check_choice("norm", norm, ["batch", "instance"])
        if norm == "instance" and size < SMALLEST_WITH_INSTANCE_NORM:
            raise UsageError(
                f"resnet18 with instance norm was asked for images of {size} px, which leaves a "
                "map of 1 px that the norm sets to zero; it works from "
                f"{SMALLEST_WITH_INSTANCE_NORM} px on: resize the images, or take norm='batch'"
            )
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm1 = NORMS[norm](width)
        self.stages = nn.Sequential()
        inputs = width
        for times, stride in [(1, 1), (2, 2), (4, 2), (8, 2)]:
            outputs = times * width
            blocks = (
                BasicBlock(inputs, outputs, stride, norm),
                BasicBlock(outputs, outputs, 1, norm),
            )
            self.stages.append(nn.Sequential(*blocks))
            inputs = outputs
        self.classifier = nn.Linear(inputs, classes)

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        h = F.relu(self.norm1(self.conv1(images)))
        return self.classifier(self.stages(h).mean((2, 3)))
