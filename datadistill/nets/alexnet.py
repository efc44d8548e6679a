"""AlexNet, in the two forms that the distillation papers use.

Below 64 px, the small-image form of the dataset-condensation papers: five convolutions, three 2x2
pools, one linear layer. Images under 32 px are zero-padded to 32 px by the first convolution (28
px: padding 4).

    32 px: conv 128@5x5 -> pool (16) -> conv 192@5x5 -> pool (8) -> conv 256@3x3 -> conv 192@3x3
           -> conv 192@3x3 -> pool (4) -> 3072 -> K

From 64 px on, torchvision's single-tower AlexNet. Its adaptive pooling is left out: at 224 px it is
the identity, and on smaller images it only repeats pixels, so the first linear layer is here as
wide as the last map (256x6x6 at 224 px, 256x1x1 at 64 px). At 224 px with three channels the state
dict is torchvision's, name by name and shape by shape, so its pretrained weights load.

References: Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014,
https://arxiv.org/abs/1404.5997; Zhao et al., Dataset Condensation with Gradient Matching, 2021,
https://arxiv.org/abs/2006.05929
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from datadistill.nets.layers import check_images, padding_up_to
from datadistill.nets.layers import dropout as dropout_layer

LARGE = 64  # px from which torchvision's form is used: the smallest size its pools leave a pixel of


class AlexNet(nn.Module):
    """AlexNet for any size: the small-image form below 64 px, torchvision's from 64 px on.

    1,872,202 parameters for 32 px, three channels and 10 classes; 61,100,840 for 224 px and 1000
    classes. `dropout` in [0, 1) drops an input of a linear layer while training: of the two hidden
    ones from 64 px on (torchvision has 0.5), of the only one below.
    """

    def __init__(
        self, *, channels: int = 3, size: int = 32, classes: int = 10, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_images(channels, size, classes)
        build = large_form if size >= LARGE else small_form
        self.features, self.classifier = build(channels, size, classes, dropout)

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.features(images).flatten(1))


def small_form(
    channels: int, size: int, classes: int, dropout: float
) -> tuple[nn.Sequential, nn.Sequential]:
    """Convolutions and classifier for images under 64 px."""
    extra = padding_up_to(32, size)
    side = (size + 2 * extra) // 8
    features = nn.Sequential(
        nn.Conv2d(channels, 128, 5, padding=2 + extra),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(128, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(192, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 192, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(192, 192, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    return features, nn.Sequential(dropout_layer(dropout), nn.Linear(192 * side * side, classes))


def large_form(
    channels: int, size: int, classes: int, dropout: float
) -> tuple[nn.Sequential, nn.Sequential]:
    """Convolutions and classifier for images of 64 px and more, laid out and named as
    torchvision's."""
    side = (size + 2 * 2 - 11) // 4 + 1  # 224 px: 55
    for _ in range(3):
        side = (side - 3) // 2 + 1  # 55 -> 27 -> 13 -> 6
    features = nn.Sequential(
        nn.Conv2d(channels, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )
    classifier = nn.Sequential(
        dropout_layer(dropout),
        nn.Linear(256 * side * side, 4096),
        nn.ReLU(),
        dropout_layer(dropout),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Linear(4096, classes),
    )
    return features, classifier
