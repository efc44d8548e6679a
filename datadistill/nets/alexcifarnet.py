"""AlexCifarNet: the net of the CIFAR-10 experiments of Dataset Distillation.

It descends from Krizhevsky's cuda-convnet nets for CIFAR-10: two wide 5x5 convolutions, each with
local response normalization and an overlapping 3x3 / stride 2 pool, then three linear layers.

    32 px: conv 64@5x5 -> ReLU -> pool (16) -> LRN -> conv 64@5x5 -> ReLU -> LRN -> pool (8)
           -> 4096 -> 384 -> 192 -> K

References: Krizhevsky et al., ImageNet classification with deep convolutional neural networks,
2012; Wang et al., Dataset Distillation, 2018, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.nets.layers import check_images


class ResponseNorm(nn.Module):
    """Local response normalization over 4 neighbouring channels (alpha 0.001/9, beta 0.75, k 1).

    Equal to `torch.nn.LocalResponseNorm(4, 0.001 / 9, 0.75, 1)`, written as a sum of four slices:
    torch's pooling over channels has no deterministic gradient on CUDA, and takes longer to
    differentiate twice.
    """

    window, alpha, beta, k = 4, 0.001 / 9.0, 0.75, 1.0

    def forward(
        self, maps: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        channels = maps.shape[1]
        # channel c sees c-2, c-1, c, c+1; beyond the edge the squares are zero
        squares = F.pad(maps.square(), (0, 0, 0, 0, self.window // 2, (self.window - 1) // 2))
        total = squares[:, :channels]
        for shift in range(1, self.window):
            total = total + squares[:, shift : shift + channels]
        return maps / (self.k + self.alpha * total / self.window) ** self.beta


class AlexCifarNet(nn.Module):
    """The AlexNet-like CIFAR net of Wang et al. (2018).

    1,756,426 parameters for 32 px, three channels and 10 classes. The paper has it for 32 px only;
    here it takes any size, each pool halving the map (rounded up) and the first linear layer as
    wide as what is left.
    """

    def __init__(self, *, channels: int = 3, size: int = 32, classes: int = 10) -> None:
        super().__init__()
        check_images(channels, size, classes)
        side = (size + 3) // 4  # two pools of 3 / stride 2 / pad 1: ceil(ceil(size / 2) / 2)
        self.features = nn.Sequential(
            nn.Conv2d(channels, 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
            ResponseNorm(),
            nn.Conv2d(64, 64, 5, padding=2),
            nn.ReLU(),
            ResponseNorm(),
            nn.MaxPool2d(3, 2, padding=1),
        )
        self.classifier = nn.Sequential(
            nn.Linear(64 * side * side, 384),
            nn.ReLU(),
            nn.Linear(384, 192),
            nn.ReLU(),
            nn.Linear(192, classes),
        )

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.features(images).flatten(1))
