"""VGG-9 and VGG-4: the teacher and the student of the Jacobian-matching experiments.

    VGG-9   64 M 128 M 256 256 M 512 512 M 512 512 M   8 convolutions
    VGG-4   64 M 128 M 512 M                           3 convolutions

and then the mean over pixels and one linear layer. Convolutions are 3x3 with a norm and a ReLU, M
is a 2x2 max pool. Nine and four count the layers with weights. The channels follow VGG's rule
(doubled after a pool, at most 512; the student goes to 512 at once); whether they are the paper's
to the digit was not checked.

References: Srinivas and Fleuret, Knowledge transfer with Jacobian matching, 2018,
https://arxiv.org/abs/1803.00443; Simonyan and Zisserman, 2015, https://arxiv.org/abs/1409.1556
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from datadistill.nets.layers import NORMS, check_choice, check_images, check_whole
from datadistill.nets.layers import dropout as dropout_layer

__all__ = ["SmallVGG", "vgg4", "vgg9"]

# channels before each pool, as multiples of the width
STAGES9 = ((1,), (2,), (4, 4), (8, 8), (8, 8))
STAGES4 = ((1,), (2,), (8,))


class SmallVGG(nn.Module):
    """Stages of convolutions with a pool after each, the mean over pixels, one linear layer.

    Modules: `convs.0`, `convs.1`, ... (each a convolution, its norm, a ReLU and, at the end of a
    stage, the pool), `classifier`. A pool on a map of 1 px is left out, so every size works.

    In training mode batch norm lets each image change the logits of the others, so that a gradient
    with respect to one image is not that of its own logits alone; `norm="none"` has no such effect.

    Args:
        stages: channels of the convolutions before each pool, as multiples of `width`.
        width: channels of the first convolution.
        norm: `batch` or `none`.
        dropout: probability in [0, 1) of dropping an input of the linear layer while training.
    """

    def __init__(
        self,
        *,
        channels: int,
        size: int,
        classes: int,
        stages: Sequence[Sequence[int]],
        width: int = 64,
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_images(channels, size, classes)
        check_whole("width", width)
        check_choice("norm", norm, ["batch", "none"])
        self.convs = nn.Sequential()
        inputs, side = channels, size
        for stage in stages:
            for i, multiple in enumerate(stage):
                outputs = multiple * width
                parts = [nn.Conv2d(inputs, outputs, 3, padding=1), NORMS[norm](outputs), nn.ReLU()]
                if i == len(stage) - 1 and side > 1:
                    parts.append(nn.MaxPool2d(2))
                    side //= 2
                self.convs.append(nn.Sequential(*parts))
                inputs = outputs
        self.dropout = dropout_layer(dropout)
        self.classifier = nn.Linear(inputs, classes)

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.dropout(self.convs(images).mean((2, 3))))


def vgg9(
    *,
    channels: int = 3,
    size: int = 32,
    classes: int = 10,
    width: int = 64,
    norm: str = "batch",
    dropout: float = 0.0,
) -> SmallVGG:
    """VGG-9, the teacher: 9,277,284 parameters for three channels and 100 classes with batch norm.
    `width` 16 makes a net for MNIST: 579,498 parameters for one channel and 10 classes."""
    return SmallVGG(
        channels=channels,
        size=size,
        classes=classes,
        stages=STAGES9,
        width=width,
        norm=norm,
        dropout=dropout,
    )


def vgg4(
    *,
    channels: int = 3,
    size: int = 32,
    classes: int = 10,
    width: int = 64,
    norm: str = "batch",
    dropout: float = 0.0,
) -> SmallVGG:
    """VGG-4, the student: 718,692 parameters for three channels and 100 classes with batch norm.
    `width` 16 makes a net for MNIST: 43,434 parameters for one channel and 10 classes."""
    return SmallVGG(
        channels=channels,
        size=size,
        classes=classes,
        stages=STAGES4,
        width=width,
        norm=norm,
        dropout=dropout,
    )
