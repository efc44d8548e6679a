"""DenseNet-BC: every layer of a block reads what all layers before it made.

    conv1 3x3 with 2 k channels, then 3 dense blocks of n = (depth - 4) // 6 layers with a
    transition between; norm, ReLU, mean over pixels, one linear layer

    layer        BN -> ReLU -> conv 1x1 to 4 k -> BN -> ReLU -> conv 3x3 to k, beside its input
    transition   BN -> ReLU -> conv 1x1 to floor(compression * channels) -> 2x2 average pool

k is the growth. A DenseNet-BC has 6 n + 4 layers; another depth is rounded down, as the names of
the Born-Again paper need: DN-90-60 has 14 layers a block (its "DenseNet-7-1-2" has half of them),
DN-80-80 and DN-80-120 have 12.

Which printed numbers of parameters are reproduced (classes 10 or 100, three channels):

    net       printed                       here                       here, last_transition=True
    100-12    0.8M (Huang et al.)           0.77M                      -
    250-24    15.3M (Huang et al.)          15.3M                      -
    190-40    25.6M (Huang et al.)          25.6M                      -
    112-33    6.3M (table 1), 6.5M (text)   6.9M; with depth 106 6.3M  7.4M
    90-60     16.1M (T1), 22.4M (T4)        15.1M                      16.2M
    80-80     22.4M (T1)                    20.9M                      22.4M
    80-120    50.4M (T1)                    47.0M                      50.4M
    table 4, layers x 0.5, 2, 3, 4:
              21.2M, 13.7M, 12.9M, 12.6M    -                          21.3M, 13.7M, 13.0M, 12.6M
    table 4, compression x 0.5, 0.75, 1.5:
              5.1M, 10.1M, 80.5M            -                          12.4M, 14.1M, 21.9M

So the Born-Again nets have a third 1x1 convolution, after the last block: an inference of ours from
these counts. The 22.4M of table 4's teacher is 80-80's number, the 6.3M of 112-33 is that of
DenseNet-106-33 (named in the text) without that convolution. What else the nets of other
compression change is not known.

References: Huang et al., Densely connected convolutional networks, 2017,
https://arxiv.org/abs/1608.06993; Furlanello et al., Born-Again neural networks, 2018,
https://arxiv.org/abs/1805.04770
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.layers import check_images, check_whole
from datadistill.nets.layers import dropout as dropout_layer

__all__ = ["DenseNet", "DensePlan", "Transition"]


@dataclass(frozen=True)
class DensePlan:
    """Channels of a DenseNet-BC from its arguments.

    Args:
        depth: 10 or more; (depth - 4) // 6 layers a block.
        growth: channels that each layer adds.
        compression: in (0, 1]; what a transition keeps of the channels.
        first: channels of conv1; 0 takes twice the growth.
        last_transition: whether a 1x1 convolution stands after the last block too.

    Example:
        >>> plan = DensePlan(depth=90, growth=60, last_transition=True)
        >>> plan.layers, plan.conv1, plan.blocks, plan.hidden
        (14, 120, (960, 1320, 1500), (480, 660, 750))
    """

    depth: int
    growth: int
    compression: float = 0.5
    first: int = 0
    last_transition: bool = False

    def __post_init__(self) -> None:
        check_whole("depth", self.depth)
        check_whole("growth", self.growth)
        check_whole("first", self.first, least=0)
        if self.layers < 1:
            raise UsageError(
                f"depth is {self.depth}, but a DenseNet-BC has 6 n + 4 layers, n in a block; take "
                "at least 10, such as 40 or 100"
            )
        share = self.compression
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise UsageError(
                f"compression is {share!r}, but it must be above 0 and at most 1; 0.5 "
                "is the usual one"
            )
        if min(self.hidden) < 1:
            raise UsageError(
                f"a transition that keeps {share} of {min(self.blocks)} channels keeps none; "
                "raise compression"
            )

    @property
    def layers(self) -> int:
        """Layers of a block."""
        return (self.depth - 4) // 6

    @property
    def conv1(self) -> int:
        """Channels of the first convolution."""
        return self.first or 2 * self.growth

    @property
    def blocks(self) -> tuple[int, ...]:
        """Channels of each block's output."""
        return tuple(h + self.layers * self.growth for h in (self.conv1, *self._list_kept()[:2]))

    @property
    def hidden(self) -> tuple[int, ...]:
        """Channels behind each block's 1x1 convolution; of the last block's output, where it has
        none."""
        kept = self._list_kept()
        return (*kept[:2], kept[2] if self.last_transition else self.blocks[2])

    def _list_kept(self) -> list[int]:
        found, h = [], self.conv1
        for _ in range(3):
            h = math.floor(self.compression * (h + self.layers * self.growth))
            found.append(h)
        return found


class DenseLayer(nn.Module):
    """A bottleneck layer, concatenated to its input."""

    def __init__(self, inputs: int, growth: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.dropout = dropout_layer(dropout)

    def forward(
        self, maps: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs height width"]:
        inside = self.dropout(self.conv1(F.relu(self.norm1(maps))))
        return torch.cat([maps, self.dropout(self.conv2(F.relu(self.norm2(inside))))], 1)


class Transition(nn.Module):
    """BN, ReLU and a 1x1 convolution, and where `pool` a 2x2 average pool."""

    def __init__(self, inputs: int, outputs: int, pool: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.dropout = dropout_layer(dropout)
        self.pool = nn.AvgPool2d(2) if pool else nn.Identity()

    def forward(
        self, maps: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs height_out width_out"]:
        return self.pool(self.dropout(self.conv(F.relu(self.norm(maps)))))


class DenseNet(nn.Module):
    """A DenseNet-BC for small images, of at least 4 px; depth to last_transition are `DensePlan`'s.

    Modules: `conv1`, `block1`, `transition1`, `block2`, `transition2`, `block3`, `transition3` (the
    identity unless `last_transition`), `norm`, `classifier`. 176,122 parameters for the default,
    three channels and 10 classes, whatever the size. `dropout` in [0, 1) drops a number after each
    convolution but the first while training.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        depth: int = 40,
        growth: int = 12,
        compression: float = 0.5,
        first: int = 0,
        last_transition: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_pooled(channels, size, classes)
        plan = DensePlan(depth, growth, compression, first, last_transition)
        self.conv1 = nn.Conv2d(channels, plan.conv1, 3, padding=1, bias=False)
        inputs = (plan.conv1, *plan.hidden[:2])
        parts: list[nn.Module] = []
        for i, (given, made, kept) in enumerate(
            zip(inputs, plan.blocks, plan.hidden, strict=True), 1
        ):
            widths = range(given, made, growth)
            compresses = i < 3 or last_transition
            parts += [
                nn.Sequential(*(DenseLayer(w, growth, dropout) for w in widths)),
                Transition(made, kept, i < 3, dropout) if compresses else nn.Identity(),
            ]
        (
            self.block1,
            self.transition1,
            self.block2,
            self.transition2,
            self.block3,
            self.transition3,
        ) = parts
        self.norm = nn.BatchNorm2d(plan.hidden[2])
        self.classifier = nn.Linear(plan.hidden[2], classes)

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        h = self.transition1(self.block1(self.conv1(images)))
        h = self.transition3(self.block3(self.transition2(self.block2(h))))
        return self.classifier(F.relu(self.norm(h)).mean((2, 3)))


def check_pooled(channels: int, size: int, classes: int) -> None:
    """Refuse what no net can have, and images that two pools of 2 px leave nothing of."""
    check_images(channels, size, classes)
    if size < 4:
        raise UsageError(
            f"images of {size} px are halved twice, so they must be at least 4 px; raise size"
        )
