"""Parts that several architectures share: checks of arguments, the choice of normalization,
padding.

Every net takes square images (B, channels, size, size) and returns logits (B, classes). No
activation works in place, so that each net can be differentiated twice and mapped with
`torch.vmap`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError, suggest


def instance_norm(channels: int) -> nn.Module:
    """Instance normalization with a learned scale and shift, as a GroupNorm of one channel a
    group."""
    return nn.GroupNorm(channels, channels)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": instance_norm,
    "group": lambda channels: nn.GroupNorm(4, channels),
    "none": lambda channels: nn.Identity(),
}


class AveragePool(nn.AvgPool2d):
    """2x2 average pooling.

    On a CPU it is computed as a convolution of each channel, whose values and gradients are the
    same to the last bit (a quarter is exact, and the four values are added in the same order); for
    32 channels forward and backward take a quarter of the time.
    """

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h/2 w/2"]:
        channels = images.shape[1]
        # a convolution of one channel alone adds in another order
        if images.device.type != "cpu" or images.dtype != torch.float32 or channels == 1:
            return super().forward(images)
        quarters = torch.full((channels, 1, 2, 2), 0.25)
        return F.conv2d(images, quarters, stride=2, groups=channels)


MOST = {"depth": 2000}
"""The largest values of arguments that count layers; of others it is 2^24."""


def check_whole(name: str, value: object, least: int = 1) -> int:
    """`value` if it is a whole number of at least `least` and at most `MOST`; else a UsageError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(
            f"{name} is {value!r}; it must be a whole number of at least {least}: change {name}"
        )
    if value > (most := MOST.get(name, 2**24)):
        raise UsageError(f"{name} is {value:.4g}; it must be at most {most}: change {name}")
    return value


def check_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """`value` if it is one of `choices`; else a UsageError that names the nearest one."""
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        raise UsageError(f"{name} is {value!r}; {suggest(str(value), choices)}")
    return value


def check_images(channels: int, size: int, classes: int) -> None:
    """Refuse a number of channels, an image side or a number of classes below 1."""
    check_whole("channels", channels)
    check_whole("size", size)
    check_whole("classes", classes)


def dropout(p: float) -> nn.Module:
    """Dropout with probability `p` in [0, 1); the identity at 0, so that no random number is asked
    for."""
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p < 1:
        raise UsageError(
            f"dropout is {p!r}; it must be a number in [0, 1): change dropout (0 turns it off)"
        )
    return nn.Dropout(p) if p > 0 else nn.Identity()


def padding_up_to(least: int, size: int) -> int:
    """Zero pixels to add on each side so that an image of `size` px is at least `least` px wide."""
    return max(0, (least - size + 1) // 2)
