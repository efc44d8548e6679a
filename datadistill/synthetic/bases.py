"""Images as combinations of a few learned images that all classes share.

Notation: B bases b_k (C, H/d, W/d) and a row of coefficients c_j (B,) for each image,

    x_j = enlarge(sum_k c_jk b_k)                                     bilinear, to H x W

In the bytes of ipc images of each of K classes there is room for the bases and

    M = floor((ipc K C H W - B C H W / d^2) / (K B))                  rows of each class

References: Deng and Russakovsky, Remember the past: distilling datasets into addressable memories
for neural networks, 2022, https://arxiv.org/abs/2206.02916
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

__all__ = ["Bases"]


@dataclass(frozen=True)
class Bases:
    """Bases that all classes share, and coefficients for each image.

    Args:
        bases: B, 1 or more.
        downsample: d, by which bases are smaller than the images; it divides their sides.
        random: whether bases and coefficients start at random (Xavier uniform, as published); else
            at the principal components of the start images, which is their nearest combination.

    Example:
        >>> bases = Bases(bases=4)
        >>> bases.count(ipc=1, shape=(1, 28, 28), classes=10)
        176
        >>> tensors = bases.init(torch.ones(6, 1, 8, 8), torch.Generator())
        >>> tensors["bases"].shape, bases.images(tensors, torch.tensor([0, 5])).mean().round()
        (torch.Size([4, 1, 4, 4]), tensor(1.))
    """

    bases: int = 16
    downsample: int = 2
    random: bool = False

    def __post_init__(self) -> None:
        for name in ("bases", "downsample"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"{name} of the decoder bases is {getattr(self, name)}, wanted 1 or more"
                )

    def count(self, ipc: int, shape: tuple[int, int, int], classes: int) -> int:
        c, h, w = shape
        d = self.downsample
        if h % d or w % d:
            raise UsageError(
                f"images are {h}x{w}, which a downsample of {d} does not divide; choose another"
            )
        pixels = c * h * w
        left = ipc * classes * pixels - self.bases * pixels // d**2
        rows = left // (classes * self.bases)
        if rows < 1:
            raise UsageError(
                f"{self.bases} bases of {h // d}x{w // d} pixels leave no room for an image of "
                f"each of {classes} classes in the bytes of {ipc} images a class; lower bases, or "
                "raise ipc or downsample"
            )
        return rows

    def init(
        self, start: Float[Tensor, "m c h w"], generator: torch.Generator
    ) -> dict[str, Tensor]:
        m, c, h, w = start.shape
        size = (h // self.downsample, w // self.downsample)
        if self.random:
            coefficients, bases = torch.empty(m, self.bases), torch.empty(self.bases, c, *size)
            for tensor in (coefficients, bases):
                torch.nn.init.xavier_uniform_(tensor, generator=generator)
            return {"bases": bases.to(start), "coefficients": coefficients.to(start)}
        small = F.interpolate(start, size, mode="bilinear", antialias=True).flatten(1)
        u, s, v = torch.linalg.svd(small.double().cpu(), full_matrices=False)
        s = s.sqrt()
        lacking = max(0, self.bases - len(s))  # fewer images or pixels than bases
        coefficients = F.pad((u * s)[:, : self.bases], (0, lacking))
        rows = F.pad((s[:, None] * v)[: self.bases], (0, 0, 0, lacking))
        return {
            "bases": rows.view(self.bases, c, *size).to(start),
            "coefficients": coefficients.to(start),
        }

    def images(
        self, tensors: Mapping[str, Tensor], index: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        bases = tensors["bases"]
        small = torch.tensordot(tensors["coefficients"][index], bases, dims=1)
        if self.downsample == 1:
            return small
        return F.interpolate(small, scale_factor=self.downsample, mode="bilinear")

    def describe(self) -> dict[str, Any]:
        return {
            "name": "bases",
            "bases": self.bases,
            "downsample": self.downsample,
            "random": self.random,
        }
