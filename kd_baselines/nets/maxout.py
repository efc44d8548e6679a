"""Maxout layers and the convolutional maxout net that FitNets and their teachers are made of.

A maxout unit is the largest of k linear functions of its input, its pieces:

    h_i(x) = max over j = 1..k of (w_ij . x + b_ij)

so a layer of n units has k n weight vectors and k n biases. There is no other non-linearity.

Reference: Goodfellow et al., Maxout networks, 2013, https://arxiv.org/abs/1302.4389
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.layers import check_images, check_whole, padding_up_to
from datadistill.nets.layers import dropout as dropout_layer

__all__ = ["WHOLE", "MaxoutConv2d", "MaxoutLayer", "MaxoutLinear", "MaxoutNet"]

WHOLE = 0  # a pool over the whole map


class MaxoutConv2d(nn.Module):
    """The maximum over `pieces` convolutions; 1 is a plain convolution.

    All pieces are one convolution `linear` with `pieces * outputs` channels; piece j of unit i is
    its channel `j * outputs + i`. Where pieces are equal, each gets an equal share of the gradient.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, padding: int = 0, pieces: int = 2
    ) -> None:
        super().__init__()
        for name, value in {
            "inputs": inputs,
            "outputs": outputs,
            "kernel": kernel,
            "pieces": pieces,
        }.items():
            check_whole(name, value)
        check_whole("padding", padding, least=0)
        self.pieces = pieces
        self.linear = nn.Conv2d(inputs, pieces * outputs, kernel, padding=padding)

    def forward(
        self, maps: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs height_out width_out"]:
        return self.linear(maps).unflatten(1, (self.pieces, -1)).amax(1)


class MaxoutLinear(nn.Module):
    """The maximum over `pieces` linear functions; piece j of unit i is row `j * outputs + i` of
    `linear`."""

    def __init__(self, inputs: int, outputs: int, pieces: int = 2) -> None:
        super().__init__()
        for name, value in {"inputs": inputs, "outputs": outputs, "pieces": pieces}.items():
            check_whole(name, value)
        self.pieces = pieces
        self.linear = nn.Linear(inputs, pieces * outputs)

    def forward(self, values: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        return self.linear(values).unflatten(1, (self.pieces, -1)).amax(1)


@dataclass(frozen=True)
class MaxoutLayer:
    """One line of a table of layers: a maxout convolution and the max pool after it.

    Args:
        outputs: units.
        kernel: side of the convolution's window.
        padding: zero pixels on each side.
        pieces: linear functions a unit.
        pool: side of the pool's window; 1 is no pool, `WHOLE` the whole map.
        stride: of the pool; its last window may stand over the edge, as in cuda-convnet.
    """

    outputs: int
    kernel: int = 3
    padding: int = 1
    pieces: int = 2
    pool: int = 1
    stride: int = 1

    def side(self, side: int) -> int:
        """The side of the map that comes out for one that goes in.

        >>> MaxoutLayer(8, kernel=8, padding=0, pool=4, stride=2).side(28)  # 28 -> 21 -> 10
        10
        """
        side = side + 2 * self.padding - self.kernel + 1
        return 1 if self.pool == WHOLE else -(-(side - self.pool) // self.stride) + 1


class MaxoutNet(nn.Module):
    """Maxout convolutions with max pools, then at most one maxout layer, then one linear layer.

    Modules: `convs.0`, `convs.1`, ... (each a convolution and its pool, so that what `convs.1`
    gives is pooled where the layer has a pool; `convs.1.0` gives it before), `fc`, `classifier`.
    Images smaller than `least` are zero-padded to it by the first convolution, so every size has
    the maps of the paper's or larger ones.

    Args:
        layers: the convolutions, in order.
        least: side of the images that the layers were made for.
        fc: units of the fully connected maxout layer; 0 leaves it out.
        fc_pieces: its pieces.
        dropout: probability in [0, 1) of dropping an input of each layer after the first while
            training.
        input_dropout: the same of the first layer, the pixels.
    """

    def __init__(
        self,
        *,
        channels: int,
        size: int,
        classes: int,
        layers: Sequence[MaxoutLayer],
        least: int,
        fc: int = 0,
        fc_pieces: int = 2,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_images(channels, size, classes)
        check_whole("fc", fc, least=0)
        check_whole("fc_pieces", fc_pieces)
        if not layers:
            raise UsageError("a maxout net has no layer; pass at least one convolution")
        first = replace(layers[0], padding=layers[0].padding + padding_up_to(least, size))
        self.convs = nn.Sequential()
        inputs, side = channels, size
        for layer in (first, *layers[1:]):
            conv = MaxoutConv2d(inputs, layer.outputs, layer.kernel, layer.padding, layer.pieces)
            before = side + 2 * layer.padding - layer.kernel + 1
            inputs, side = layer.outputs, layer.side(side)
            if layer.pool == 1:
                self.convs.append(nn.Sequential(conv))
            else:
                whole = layer.pool == WHOLE
                pool = nn.MaxPool2d(
                    before if whole else layer.pool,
                    1 if whole else layer.stride,
                    ceil_mode=not whole,
                )
                self.convs.append(nn.Sequential(conv, pool))
        features = inputs * side * side
        self.fc = MaxoutLinear(features, fc, fc_pieces) if fc else nn.Identity()
        self.classifier = nn.Linear(fc or features, classes)
        self.input_dropout = dropout_layer(input_dropout)
        self.dropout = dropout_layer(dropout)

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        h = self.input_dropout(images)
        for i, conv in enumerate(self.convs):
            h = conv(self.dropout(h) if i else h)
        h = self.dropout(h.flatten(1))
        if isinstance(self.fc, MaxoutLinear):
            h = self.dropout(self.fc(h))
        return self.classifier(h)
