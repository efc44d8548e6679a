"""The fully connected nets of Hinton et al. for MNIST: ReLU layers with dropout.

    teacher   784 - 1200 - 1200 - 10, dropout 0.5 of hidden units and 0.2 of pixels
    student   784 -  800 -  800 - 10, no dropout: width=800, dropout=0.0, input_dropout=0.0

References: Hinton et al., Distilling the knowledge in a neural network, 2015,
https://arxiv.org/abs/1503.02531, section 3; Hinton et al., 2012, https://arxiv.org/abs/1207.0580
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from datadistill.nets.layers import check_images, check_whole
from datadistill.nets.layers import dropout as dropout_layer

__all__ = ["MLPDropout"]


class MLPDropout(nn.Module):
    """`depth` hidden layers of `width` units with ReLU and dropout, then one linear layer.

    2,395,210 parameters for the default, 1,276,810 with `width=800`, for 28 px, one channel and 10
    classes.

    Args:
        width: units of every hidden layer.
        depth: hidden layers; 0 gives a linear classifier.
        dropout: probability in [0, 1) of dropping a hidden unit while training.
        input_dropout: the same of a pixel.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        classes: int = 10,
        width: int = 1200,
        depth: int = 2,
        dropout: float = 0.5,
        input_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_images(channels, size, classes)
        check_whole("width", width)
        check_whole("depth", depth, least=0)
        layers = [dropout_layer(input_dropout)]
        inputs = channels * size * size
        for _ in range(depth):
            layers += [nn.Linear(inputs, width), nn.ReLU(), dropout_layer(dropout)]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, classes))

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        return self.layers(images.flatten(1))
