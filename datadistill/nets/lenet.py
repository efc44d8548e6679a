"""LeNet-5 with ReLU and max pooling: the net of the MNIST experiments.

    28 px: pad 2 -> conv 6@5x5 (28) -> pool (14) -> conv 16@5x5 (10) -> pool (5)
           -> 400 -> 120 -> 84 -> K
    32 px: the same without the padding

References: LeCun et al., Gradient-based learning applied to document recognition, 1998;
Wang et al., Dataset Distillation, 2018, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.layers import check_images

PADDING = {28: 2, 32: 0}  # both give a first map of 28 px


class LeNet(nn.Module):
    """LeNet-5 for images of 28 or 32 px: 61,706 parameters for one channel and 10 classes."""

    def __init__(self, *, channels: int = 1, size: int = 28, classes: int = 10) -> None:
        super().__init__()
        check_images(channels, size, classes)
        if size not in PADDING:
            raise UsageError(
                f"lenet was asked for images of {size} px; it works for 28 and 32 px: resize the "
                "images, or take a net that works for any size (convnet, mlp, "
                "alexcifarnet, resnet18)"
            )
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=PADDING[size])
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        h = F.max_pool2d(F.relu(self.conv1(images)), 2)
        h = F.max_pool2d(F.relu(self.conv2(h)), 2)
        h = F.relu(self.fc1(h.flatten(1)))
        h = F.relu(self.fc2(h))
        return self.fc3(h)
