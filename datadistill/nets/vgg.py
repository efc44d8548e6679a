"""VGG-11 in its CIFAR form: eight 3x3 convolutions, five 2x2 pools, one linear layer.

    64 - pool - 128 - pool - 256 256 - pool - 512 512 - pool - 512 512 - pool - linear

Five pools take 32 px to 1 px. Images under 32 px are zero-padded to 32 px by the first convolution
(28 px: padding 3 instead of 1), as the dataset-condensation papers do; above, the linear layer
takes the whole last map (size // 32 px wide).

Reference: Simonyan and Zisserman, Very deep convolutional networks, 2015,
https://arxiv.org/abs/1409.1556
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from datadistill.nets.layers import NORMS, check_choice, check_images, padding_up_to
from datadistill.nets.layers import dropout as dropout_layer

# channels of the convolutions before each pool
STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class VGG11(nn.Module):
    """VGG-11 for small images: 9,231,114 parameters for 32 px, three channels and 10 classes with
    batch norm. `norm` is `batch`, `instance` (a GroupNorm of one channel a group) or `none`;
    `dropout` in [0, 1) drops an input of the linear layer while training."""

    def __init__(
        self,
        *,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_images(channels, size, classes)
        check_choice("norm", norm, ["batch", "instance", "none"])
        padding = 1 + padding_up_to(32, size)
        side = max(size, 32) // 32
        layers: list[nn.Module] = []
        inputs = channels
        for stage in STAGES:
            for outputs in stage:
                layers += [
                    nn.Conv2d(inputs, outputs, 3, padding=padding),
                    NORMS[norm](outputs),
                    nn.ReLU(),
                ]
                inputs, padding = outputs, 1
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            dropout_layer(dropout), nn.Linear(512 * side * side, classes)
        )

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.features(images).flatten(1))
