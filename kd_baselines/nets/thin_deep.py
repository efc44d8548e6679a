"""A thin deep student and a wide shallow teacher: plain ReLU convolutions for small experiments
with hints.

    thin-cnn   depth x [conv width@3x3 -> ReLU], 2x2 max pools in between, one linear layer
    wide-cnn   conv width -> pool -> conv 2 width -> pool -> conv 2 width -> pool, one linear layer

There is no norm unless asked for: with PyTorch's own initialization the signal of a plain ReLU net
shrinks in every layer, so the deep net trains badly or not at all by gradient descent from scratch,
which is what hints are for. The teacher has the 1:2:2 of the maxout net that taught the FitNets.

Reference: Romero et al., FitNets, 2015, https://arxiv.org/abs/1412.6550, section 2.2
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.layers import NORMS, check_choice, check_images, check_whole
from datadistill.nets.layers import dropout as dropout_layer

__all__ = ["PlainCNN", "ends_of_groups", "thin_cnn", "wide_cnn"]


def ends_of_groups(depth: int, pools: int) -> tuple[int, ...]:
    """Indices of the convolutions that a pool follows: `depth` in `pools` groups, as equal as can
    be.

    >>> ends_of_groups(12, 3), ends_of_groups(8, 3), ends_of_groups(4, 0)
    ((3, 7, 11), (2, 5, 7), ())
    """
    return tuple(-(-depth * (i + 1) // pools) - 1 for i in range(pools))


class PlainCNN(nn.Module):
    """3x3 convolutions with ReLU, max pools after some, one linear layer on the whole last map.

    Modules: `convs.0`, `convs.1`, ... (each a convolution, its norm, a ReLU and its pool, where it
    has one), `classifier`.

    Args:
        size: side of the images in pixels; every pool halves it, rounded down.
        widths: channels of each convolution.
        pooled: indices of the convolutions with a 2x2 max pool.
        norm: `none` or `batch`.
        dropout: probability in [0, 1) of dropping an input of the linear layer while training.
    """

    def __init__(
        self,
        *,
        channels: int,
        size: int,
        classes: int,
        widths: Sequence[int],
        pooled: Sequence[int],
        norm: str = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_images(channels, size, classes)
        check_choice("norm", norm, ["none", "batch"])
        if size >> len(pooled) < 1:
            raise UsageError(
                f"{len(pooled)} pools leave nothing of an image of {size} px; take images of at "
                f"least {1 << len(pooled)} px, or fewer pools"
            )
        self.convs = nn.Sequential()
        inputs, side = channels, size
        for i, outputs in enumerate(widths):
            parts = [nn.Conv2d(inputs, outputs, 3, padding=1), NORMS[norm](outputs), nn.ReLU()]
            if i in pooled:
                parts.append(nn.MaxPool2d(2))
                side //= 2
            self.convs.append(nn.Sequential(*parts))
            inputs = outputs
        self.dropout = dropout_layer(dropout)
        self.classifier = nn.Linear(inputs * side * side, classes)

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.dropout(self.convs(images).flatten(1)))

    def as_sequential(self) -> nn.Sequential:
        """The same modules as a Sequential, for `kd_baselines.hausdorff.lipschitz_bound`."""
        return nn.Sequential(self.convs, self.dropout, nn.Flatten(), self.classifier)


def thin_cnn(
    *,
    channels: int = 1,
    size: int = 28,
    classes: int = 10,
    width: int = 16,
    depth: int = 12,
    pools: int = 3,
    norm: str = "none",
) -> PlainCNN:
    """A thin deep student of `depth` convolutions: 27,130 parameters for 28 px, one channel and 10
    classes. There are `pools` 2x2 max pools, one at the end of each of as many groups of
    convolutions; no more than leave a pixel of the image."""
    check_whole("width", width)
    check_whole("depth", depth)
    check_whole("pools", pools, least=0)
    if pools > depth:
        raise UsageError(
            f"pools is {pools}, but there are {depth} convolutions to pool; take at most {depth}"
        )
    return PlainCNN(
        channels=channels,
        size=size,
        classes=classes,
        widths=[width] * depth,
        pooled=ends_of_groups(depth, pools),
        norm=norm,
    )


def wide_cnn(
    *,
    channels: int = 1,
    size: int = 28,
    classes: int = 10,
    width: int = 64,
    norm: str = "none",
    dropout: float = 0.0,
) -> PlainCNN:
    """A wide shallow teacher of three convolutions: 233,610 parameters for 28 px, one channel and
    10 classes. The first convolution has `width` channels, the other two twice as many; `size` is
    at least 8."""
    check_whole("width", width)
    return PlainCNN(
        channels=channels,
        size=size,
        classes=classes,
        widths=[width, 2 * width, 2 * width],
        pooled=(0, 1, 2),
        norm=norm,
        dropout=dropout,
    )
