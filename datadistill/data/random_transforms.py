"""The random transforms of augmentation strategies, with the strengths of the papers.

A transform draws its parameters and applies a pure function of `transforms` to images. All are
differentiable in the images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from datadistill.data import transforms

ZOOM = math.log(1.25)


@dataclass(frozen=True)
class Draws:
    """Random numbers of one call.

    Args:
        batch: the images of the call.
        number: 1 draw for all of them, or one for each.
        generator: on any device, as a rule the CPU.
    """

    batch: Float[Tensor, "n c h w"]
    number: int
    generator: torch.Generator

    def uniform(self, low: float, high: float) -> Float[Tensor, " k"]:
        unit = torch.rand(
            self.number,
            generator=self.generator,
            device=self.generator.device,
            dtype=torch.float64,  # one draw whatever the images' type
        )
        return (low + (high - low) * unit).to(self.batch)

    def integers(self, low: int, high: int) -> Tensor:
        """From low to high, both included."""
        drawn = torch.randint(
            low, high + 1, (self.number,), generator=self.generator, device=self.generator.device
        )
        return drawn.to(self.batch.device)

    def choose(self, count: int) -> int:
        """One of so many, for the whole batch."""
        return int(
            torch.randint(count, (1,), generator=self.generator, device=self.generator.device)
        )


Transform = Callable[[Tensor, Draws], Tensor]


def color(images: Tensor, draws: Draws) -> Tensor:
    """Brightness +- 0.5, then saturation x [0, 2], then contrast x [0.5, 1.5]. On images of one
    channel saturation does nothing."""
    images = transforms.change_brightness(images, draws.uniform(-0.5, 0.5))
    images = transforms.change_saturation(images, draws.uniform(0, 2))
    return transforms.change_contrast(images, draws.uniform(0.5, 1.5))


def color_frepo(images: Tensor, draws: Draws) -> Tensor:
    """Brightness +- 0.25, then contrast and saturation x exp([-0.25, 0.25])."""
    images = transforms.change_brightness(images, draws.uniform(-0.25, 0.25))
    images = transforms.change_contrast(images, draws.uniform(-0.25, 0.25).exp())
    return transforms.change_saturation(images, draws.uniform(-0.25, 0.25).exp())


def crop(images: Tensor, draws: Draws) -> Tensor:
    """Move by up to an eighth of a side; zeros come in."""
    y, x = (round_half_up(side / 8) for side in images.shape[-2:])
    return transforms.move(images, draws.integers(-y, y), draws.integers(-x, x))


def translate(images: Tensor, draws: Draws) -> Tensor:
    """As `crop`, along a row only."""
    x = round_half_up(images.shape[-1] / 8)
    right = draws.integers(-x, x)
    return transforms.move(images, torch.zeros_like(right), right)


def crop_dc(images: Tensor, draws: Draws) -> Tensor:
    """Move by up to 4 pixels; the mean of the batch comes in."""
    mean = draws.batch.mean((0, 2, 3), keepdim=True)
    return transforms.move(images - mean, draws.integers(-4, 4), draws.integers(-4, 4)) + mean


def crop_frepo(images: Tensor, draws: Draws) -> Tensor:
    """Zoom by a factor of 0.8 to 1.25, uniform in its logarithm, to a random place."""
    factor = draws.uniform(-ZOOM, ZOOM).exp()
    room = (factor - 1).abs()  # what there is to move in, half a side being 1
    matrix = transforms.zoom(factor, room * draws.uniform(-1, 1), room * draws.uniform(-1, 1))
    return transforms.warp(images, matrix, "border")


def translate_frepo(images: Tensor, draws: Draws) -> Tensor:
    """Move by up to an eighth of a side, by parts of pixels too; the border's pixels come in."""
    x, y = draws.uniform(-0.25, 0.25), draws.uniform(-0.25, 0.25)  # half a side is 1
    return transforms.warp(images, transforms.zoom(torch.ones_like(x), x, y), "border")


def cutout(images: Tensor, draws: Draws) -> Tensor:
    """Zero a rectangle of half the sides, its centre anywhere in the image."""
    height, width = (round_half_up(side / 2) for side in images.shape[-2:])
    y = draws.integers(0, images.shape[-2] - height % 2)
    x = draws.integers(0, images.shape[-1] - width % 2)
    return transforms.cut_out(images, y - height // 2, x - width // 2, height, width)


def cutout_frepo(images: Tensor, draws: Draws) -> Tensor:
    """Zero a rectangle of a quarter of the sides, all of it in the image."""
    height, width = (side // 4 for side in images.shape[-2:])
    y = draws.integers(0, images.shape[-2] - height)
    x = draws.integers(0, images.shape[-1] - width)
    return transforms.cut_out(images, y, x, height, width)


def flip(images: Tensor, draws: Draws) -> Tensor:
    """Mirror left to right with probability one half."""
    return transforms.mirror(images, draws.uniform(0, 1) < 0.5)


def scale(images: Tensor, draws: Draws) -> Tensor:
    """Stretch each axis by a factor of its own: 1 / factor uniform in [1 / 1.2, 1.2]; zeros come
    in."""
    x, y = draws.uniform(1 / 1.2, 1.2), draws.uniform(1 / 1.2, 1.2)
    return transforms.warp(images, transforms.scaling(x, y))


def scale_dc(images: Tensor, draws: Draws) -> Tensor:
    """Stretch each axis by a factor of its own, uniform in [0.8, 1.2]; zeros come in."""
    x, y = draws.uniform(0.8, 1.2), draws.uniform(0.8, 1.2)
    return transforms.warp(images, transforms.scaling(1 / x, 1 / y))


def rotate(images: Tensor, draws: Draws, padding: Literal["zeros", "border"] = "zeros") -> Tensor:
    """Rotate by up to 15 degrees."""
    height, width = images.shape[-2:]
    matrix = transforms.rotation(draws.uniform(-15, 15), height, width)
    return transforms.warp(images, matrix, padding)


def rotate_dc(images: Tensor, draws: Draws) -> Tensor:
    """Rotate by up to 45 degrees; the mean of the batch, over its channels too, comes in."""
    height, width = images.shape[-2:]
    matrix = transforms.rotation(draws.uniform(-45, 45), height, width)
    mean = draws.batch.mean()
    return transforms.warp(images - mean, matrix) + mean


def round_half_up(value: float) -> int:
    """As the published code rounds.

    >>> round_half_up(2.5)
    3
    """
    return int(value + 0.5)


@dataclass(frozen=True)
class Family:
    """The transforms of one paper.

    Args:
        rule: which of the named ones a call applies. "one": one at random; "each": one at random,
            another for each image where each has a draw of its own; "all": every one, in order;
            "always": those of `ALWAYS`, and one of the others at random.
        transforms: by name.
        least: the smallest side of an image that a transform does something sensible to; 1 where it
            is not named.
    """

    rule: Literal["one", "each", "all", "always"]
    transforms: Mapping[str, Transform]
    least: Mapping[str, int]


ALWAYS = ("flip", "color", "cutout")
"""In IDC these are applied in any case, cutout after the one that is drawn."""

DSA: dict[str, Transform] = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "scale": scale,
    "rotate": rotate,
}
FREPO: dict[str, Transform] = {
    "flip": flip,
    "color": color_frepo,
    "crop": crop_frepo,
    "rotate": partial(rotate, padding="border"),
    "translate": translate_frepo,
    "cutout": cutout_frepo,
}
FAMILIES = {
    "dsa": Family("one", DSA, {"crop": 4, "cutout": 2}),
    "all": Family("all", DSA, {"crop": 4, "cutout": 2}),
    "idc": Family(
        "always", {**DSA, "translate": translate}, {"crop": 4, "translate": 4, "cutout": 2}
    ),
    "dc": Family("each", {"crop": crop_dc, "scale": scale_dc, "rotate": rotate_dc}, {"crop": 5}),
    "frepo": Family("one", FREPO, {"cutout": 4}),
}
