"""Mosaics: a stored image holds factor^2 images of a lower resolution.

Notation: n stored images s_i (C, H, W), each cut into f x f tiles of H/f x W/f pixels; image
j = t n + i is tile t of s_i, enlarged to H x W (bilinear). n is a multiple of the number of
classes, so that image j is of class j mod K like s_i.

Reference: Kim et al., Dataset condensation via efficient synthetic-data parameterization, 2022,
https://arxiv.org/abs/2205.14959 ("multi-formation")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from datadistill.errors import UsageError

__all__ = ["Mosaic"]

STORED = "mosaics"


@dataclass(frozen=True)
class Mosaic:
    """factor^2 images of each class in the bytes of one.

    Args:
        factor: tiles along a side, 2 or more; it divides the sides of the images.

    Example:
        >>> mosaic = Mosaic(2)
        >>> mosaic.count(ipc=1, shape=(1, 28, 28), classes=10)
        4
        >>> start = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 8)
        >>> tensors = mosaic.init(start, torch.Generator())
        >>> tensors["mosaics"].shape, mosaic.images(tensors, torch.tensor([3]))[0, 0, 0, 0]
        (torch.Size([1, 1, 8, 8]), tensor(3.))
    """

    factor: int = 2

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise UsageError(
                f"the factor of the mosaic is {self.factor}, wanted 2 or more; choose the decoder "
                "pixels for one image in each"
            )

    def count(self, ipc: int, shape: tuple[int, int, int], classes: int) -> int:
        _, h, w = shape
        if h % self.factor or w % self.factor:
            raise UsageError(
                f"images are {h}x{w}, which a mosaic of {self.factor}x{self.factor} does not "
                "divide; choose another factor, or bring the images to another size (--size)"
            )
        return ipc * self.factor**2

    def init(
        self, start: Float[Tensor, "m c h w"], generator: torch.Generator
    ) -> dict[str, Tensor]:
        m, c, h, w = start.shape
        f = self.factor
        small = F.interpolate(start, (h // f, w // f), mode="bilinear", antialias=True)
        tiles = small.view(f, f, m // f**2, c, h // f, w // f)
        return {STORED: tiles.permute(2, 3, 0, 4, 1, 5).reshape(m // f**2, c, h, w)}

    def images(
        self, tensors: Mapping[str, Tensor], index: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        stored = tensors[STORED]
        n, c, h, w = stored.shape
        f = self.factor
        tiles = stored.view(n, c, f, h // f, f, w // f).permute(2, 4, 0, 1, 3, 5).flatten(0, 2)
        return F.interpolate(tiles[index], (h, w), mode="bilinear")

    def describe(self) -> dict[str, Any]:
        return {"name": "mosaic", "factor": self.factor}
