"""ConvNet: the net of the dataset-condensation papers ("ConvNet-3" or "ConvNetD3" at depth 3).

    depth blocks of  conv width@3x3 -> norm -> activation -> 2x2 pool,  then one linear layer

With `growth` 2 each block has twice the channels of the one before: FRePo's net is width 128,
growth 2, norm none.

A block whose map is already 1 px does not pool, so any depth fits any size.

References: Gidaris and Komodakis, Dynamic few-shot visual learning without forgetting, 2018,
https://arxiv.org/abs/1804.09458; Zhao et al., Dataset Condensation with Gradient Matching, 2021,
https://arxiv.org/abs/2006.05929
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.layers import NORMS, AveragePool, check_choice, check_images, check_whole

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "leakyrelu": nn.LeakyReLU,
}
POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "avg": AveragePool,
    "max": lambda: nn.MaxPool2d(2),
    "none": nn.Identity,
}


class ConvNet(nn.Module):
    """The convolutional net of the dataset-condensation papers, for any image size.

    320,010 parameters for 32 px, three channels and 10 classes.

    Args:
        depth: number of blocks, at least 1.
        width: channels of the first block; a multiple of 4 for `norm="group"`.
        norm: `instance` (a GroupNorm of one channel a group), `batch`, `group` (4 groups), `layer`
            (over channels and pixels) or `none`; all with a learned scale and shift.
        pooling: `avg`, `max` or `none`; windows of 2x2.
        activation: `relu`, `sigmoid` or `leakyrelu` (slope 0.01).
        first_padding: zero padding of the first convolution; 3 on 28 px images gives the 32 px map
            that the papers use for MNIST.
        growth: factor of the channels from one block to the next, a whole number.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        depth: int = 3,
        width: int = 128,
        norm: str = "instance",
        pooling: str = "avg",
        activation: str = "relu",
        first_padding: int = 1,
        growth: int = 1,
    ) -> None:
        super().__init__()
        check_images(channels, size, classes)
        check_whole("depth", depth)
        check_whole("width", width)
        check_whole("first_padding", first_padding, least=1)
        check_whole("growth", growth)
        check_choice("norm", norm, [*NORMS, "layer"])
        check_choice("pooling", pooling, POOLINGS)
        check_choice("activation", activation, ACTIVATIONS)
        if norm == "group" and width % 4:
            raise UsageError(
                f"width is {width}, which 4 groups do not divide; take a multiple of 4"
            )
        check_whole("width in the last block", width * growth ** min(depth - 1, 24))
        layers: list[nn.Module] = []
        side, inputs, outputs = size + 2 * (first_padding - 1), channels, width
        for block in range(depth):
            if norm == "instance" and side == 1:
                shallower = f"depth={block} or " if block else ""
                raise UsageError(
                    f"block {block + 1} of this convnet sees a map of 1 px, which instance norm "
                    f"zeroes; take {shallower}norm='layer' for images of {size} px"
                )
            padding = first_padding if block == 0 else 1
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=padding))
            layers.append(
                nn.LayerNorm([outputs, side, side]) if norm == "layer" else NORMS[norm](outputs)
            )
            layers.append(ACTIVATIONS[activation]())
            if pooling != "none" and side > 1:
                layers.append(POOLINGS[pooling]())
                side //= 2
            inputs, outputs = outputs, outputs * growth
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(inputs * side * side, classes)

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.features(images).flatten(1))
