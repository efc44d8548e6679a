"""VGG for CIFAR without hidden linear layers: vgg8, vgg11, vgg13, vgg16, vgg19.

    blocks of 64, 128, 256, 512, 512 channels: 3x3 convolutions with a bias and a norm, a ReLU after
    each; a 2x2 max pool after the first three blocks; mean over pixels, one linear layer

vgg8 has one convolution a block. Names of modules are those of RepDistiller, so that its
checkpoints load as they are. `relu1` to `relu4`, after the last four blocks, are what its feature
methods compare. From 64 pixels on there is a fourth pool.

References: Simonyan and Zisserman, Very deep convolutional networks, 2015,
https://arxiv.org/abs/1409.1556; Tian et al., Contrastive representation distillation, 2020,
https://arxiv.org/abs/1910.10699
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.layers import check_images

__all__ = ["CIFAR_VGGS", "CifarVGG"]

WIDTHS = (64, 128, 256, 512, 512)


class CifarVGG(nn.Module):
    """Five blocks of convolutions for images of 8 px or more.

    Modules: `block0` to `block4` (whose last is a norm), `relu0` to `relu4`, `classifier`.

    Args:
        convolutions: number of them in each block.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        convolutions: tuple[int, int, int, int, int] = (1, 1, 1, 1, 1),
    ) -> None:
        super().__init__()
        check_images(channels, size, classes)
        if size < 8:
            raise UsageError(
                f"a vgg was asked for images of {size} px, which three pools leave nothing of; "
                "resize the images to 8 px or more"
            )
        self.pools = 4 if size >= 64 else 3
        inputs = channels
        for n, (number, outputs) in enumerate(zip(convolutions, WIDTHS, strict=True)):
            layers: list[nn.Module] = []
            for _ in range(number):
                convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
                layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
                inputs = outputs
            self.add_module(f"block{n}", nn.Sequential(*layers[:-1]))
            self.add_module(f"relu{n}", layers[-1])
        self.classifier = nn.Linear(inputs, classes)

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        h = images
        for n in range(len(WIDTHS)):
            h = self.get_submodule(f"relu{n}")(self.get_submodule(f"block{n}")(h))
            if n < self.pools:
                h = F.max_pool2d(h, 2)
        return self.classifier(h.mean((2, 3)))


def _vgg(
    convolutions: tuple[int, int, int, int, int], *, channels: int, size: int, classes: int
) -> CifarVGG:
    return CifarVGG(channels=channels, size=size, classes=classes, convolutions=convolutions)


CIFAR_VGGS = {
    "vgg8": partial(_vgg, (1, 1, 1, 1, 1)),
    "cifar-vgg11": partial(_vgg, (1, 1, 2, 2, 2)),
    "vgg13": partial(_vgg, (2, 2, 2, 2, 2)),
    "vgg16": partial(_vgg, (2, 2, 3, 3, 3)),
    "vgg19": partial(_vgg, (2, 2, 4, 4, 4)),
}
"""The nets of RepDistiller by its names, but for its vgg11, whose name another net has."""
