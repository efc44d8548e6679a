"""A multilayer perceptron: linear layers with ReLU between them, on the flattened image."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from datadistill.nets.layers import check_images, check_whole


class MLP(nn.Module):
    """`depth` hidden layers of `width` units with ReLU, then one linear layer; depth 0 is a linear
    classifier. 118,282 parameters for 28 px, one channel and 10 classes."""

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        classes: int = 10,
        width: int = 128,
        depth: int = 2,
    ) -> None:
        super().__init__()
        check_images(channels, size, classes)
        check_whole("width", width)
        check_whole("depth", depth, least=0)
        layers: list[nn.Module] = []
        inputs = channels * size * size
        for _ in range(depth):
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, classes))

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        return self.layers(images.flatten(1))
