"""ZCA whitening: features of an image made uncorrelated by a symmetric matrix.

    z       the d = C H W features of an image, by kind (below)
    S       their covariance over the training images, S = V diag(lambda) V^T
    W       = V diag((lambda + r)^(-1/2)) V^T
    y       = W (z - m)

Whitened training images have the covariance V diag(lambda / (lambda + r)) V^T. The literature has
three kinds, whose images cannot be exchanged:

    kind         z                                     m      S by    r
    zca-kip      (x - mean of x) / ||x - mean of x||   0      n       regularization * tr(S) / d
    zca-frepo    (x - mean) / std of each channel      mean   n       regularization * tr(S) / d
    zca-kornia   x in 0..1                             mean   n - 1   regularization

zca-kip takes an image's own mean and its own norm away; KIP, RememberThePast and RaT-BPTT use it
with 0.1, for SVHN with 100. zca-frepo is that of FRePo and RCIG with 0.1. zca-kornia is kornia's
`ZCAWhitening(eps=0.1)`, which MTT, TESLA, FTD, DATM and DD-Ranking use.

W depends on no sign of an eigenvector, as each stands in it twice. It is computed in float64,
stored in float32, and applied in float64. The published methods have many more images than
features; fewer leave directions in which W is the regularization alone, and are refused.

References: Nguyen et al., Dataset Distillation with Infinitely Wide Convolutional Networks, 2021,
https://arxiv.org/abs/2107.13034; Zhou et al., Dataset Distillation using Neural Feature Regression,
2022, https://arxiv.org/abs/2206.00719; Cazenavette et al., Dataset Distillation by Matching
Training Trajectories, 2022, https://arxiv.org/abs/2203.11932
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from datadistill.config.mean_std import MeanAndStd
from datadistill.config.zca import LEAST, MOST
from datadistill.data.normalization import NEAR, NORMALIZATIONS, Normalization
from datadistill.errors import DataError
from datadistill.runs.content import (
    Check,
    accept,
    check_fields,
    check_list,
    check_number,
    check_text,
    check_whole,
)
from datadistill.torch_defaults import use_library_defaults

BLOCK = 1024
"""Images that are whitened at a time, in float64."""
FLAT = 1e-5
"""Deviation of the pixels of an image below which it has no contrast that could be scaled to 1."""


@dataclass(frozen=True, repr=False, eq=False)
class ZcaNormalization(Normalization):
    """Prepares images for a net by ZCA whitening; call it on yours. Made by `measure_zca`.

    Args:
        mean, std, size, channels: as in `Normalization`.
        regularization: what the kind makes r of.
        images: the training images that it was measured on.
        data: 'sha256:' and the digest of their pixels. Whitenings of one kind, regularization and
            data are equal, though another number of threads rounds the matrix otherwise.
        centre: (d,), m of the formula.
        matrix: (d,d), W of the formula, symmetric.
    """

    regularization: float
    images: int
    data: str
    centre: Float[Tensor, " d"]
    matrix: Float[Tensor, "d d"]
    centred: ClassVar[bool]
    unbiased: ClassVar[bool]
    relative: ClassVar[bool]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.channels}x{self.size}x{self.size}, regularization "
            f"{self.regularization:g}, {self.data[:19]}...)"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ZcaNormalization) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash((self.kind, self.data))

    def __call__(
        self, images: Tensor | Image.Image | Sequence[Image.Image]
    ) -> Float[Tensor, "*n c s s"]:
        """Whitened float32 images; see `Normalization`."""
        x = self.to_pixels(images)
        batch = x if x.dim() == 4 else x[None]
        matrix, centre = (t.to(x.device, torch.float64) for t in (self.matrix, self.centre))
        parts = [
            ((self.features(part, self.mean, self.std) - centre) @ matrix).float()
            for part in batch.split(BLOCK)
        ]
        return torch.cat(parts).view(x.shape)

    def inverse(self, images: Float[Tensor, "*n c s s"]) -> Float[Tensor, "*n c s s"]:
        """Whitened images back on the 0..1 scale, not clipped. Where an image's own mean and norm
        were taken away (zca-kip), it gets those that the training images have in the mean."""
        shape = self.channels, self.size, self.size
        if images.ndim not in (3, 4) or images.shape[-3:] != shape:
            raise DataError(
                f"images have shape {tuple(images.shape)}; wanted (N, {', '.join(map(str, shape))})"
            )
        flat = images.flatten(-3).double()
        inverse, centre = (t.to(images.device) for t in (self._inverse_matrix, self.centre))
        return super().inverse((flat @ inverse + centre).to(images.dtype).view(images.shape))

    def to_view(self, images: Float[Tensor, "n c s s"]) -> Float[Tensor, "n c s s"]:
        return self.inverse(images)

    @cached_property
    @use_library_defaults()
    def _inverse_matrix(self) -> Float[Tensor, "d d"]:
        return torch.linalg.inv(self.matrix.double())

    @classmethod
    def features(
        cls, pixels: Float[Tensor, "n c s s"], mean: Sequence[float], std: Sequence[float]
    ) -> Float[Tensor, "n d"]:
        """z of the formula, in float64; the mean and the deviation are those of each channel."""
        raise NotImplementedError

    @classmethod
    def scale(cls, pixels: Float[Tensor, "n c s s"], channelwise: Normalization) -> MeanAndStd:
        """The mean and the deviation that `inverse` gives to an image, one a channel."""
        channels = channelwise.channels
        return (0.0,) * channels, (1.0,) * channels

    @property
    def words(self) -> str:
        return f"{self.kind} whitening, regularization {self.regularization:g} ({self.data})"

    def is_near(self, other: Normalization) -> bool:
        """Whether another whitening of this kind differs by less than a tenth."""
        if not isinstance(other, ZcaNormalization) or self._settings() != other._settings():
            return False
        if self == other:
            return True
        pairs = (self.matrix, other.matrix), (self.centre, other.centre)
        return all(bool((a - b).norm() <= NEAR * a.norm()) for a, b in pairs)

    def _settings(self) -> tuple[object, ...]:
        return self.kind, self.regularization, self.size, self.channels

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"centre": self.centre, "matrix": self.matrix}

    def as_dict(self) -> dict[str, Any]:
        return {
            **super().as_dict(),
            "regularization": self.regularization,
            "images": self.images,
            "data": self.data,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        if isinstance(values, dict) and "tensors" not in values:
            raise DataError(
                f"normalization is {cls.kind} whitening, and its matrix is not in this file; take "
                "it from the file of the distilled set"
            )
        found = check_fields("normalization", values, _STORED)
        tensors, kind = found.pop("tensors"), found.pop("kind")
        d = found["channels"] * found["size"] ** 2
        shapes = {"centre": (d,), "matrix": (d, d)}
        if kind != cls.kind or not isinstance(tensors, dict) or tensors.keys() != shapes.keys():
            raise DataError("normalization: the matrix is missing; get the file again")
        for name, shape in shapes.items():
            x = tensors[name]
            if not isinstance(x, Tensor) or x.dtype != torch.float32 or x.shape != shape:
                raise DataError(f"normalization: {name} is not float32 {shape}; get the file again")
        if not torch.equal(tensors["matrix"], tensors["matrix"].T):
            raise DataError("normalization: the matrix is not symmetric; get the file again")
        return cls(**found, **tensors)


_STORED: dict[str, Check] = {
    "kind": check_text,
    "mean": check_list,
    "std": check_list,
    "size": partial(check_whole, least=1),
    "channels": partial(check_whole, least=1),
    "regularization": partial(check_number, least=LEAST, most=MOST),
    "images": partial(check_whole, least=1),
    "data": check_text,
    "tensors": accept,
}


class ZcaKip(ZcaNormalization):
    """The whitening of KIP, RememberThePast and RaT-BPTT."""

    kind = "zca-kip"
    centred, unbiased, relative = False, False, True

    @classmethod
    def features(
        cls, pixels: Float[Tensor, "n c s s"], mean: Sequence[float], std: Sequence[float]
    ) -> Float[Tensor, "n d"]:
        """Each image less its own mean, of norm 1; 0 for an image without contrast."""
        flat = pixels.flatten(1).double()
        flat = flat - flat.mean(1, keepdim=True)
        norm = flat.norm(dim=1, keepdim=True)
        has_contrast = norm > FLAT * flat.shape[1] ** 0.5
        return torch.where(has_contrast, flat / norm.where(has_contrast, 1.0), 0.0)

    @classmethod
    def scale(cls, pixels: Float[Tensor, "n c s s"], channelwise: Normalization) -> MeanAndStd:
        """The means over the images of their own mean and norm."""
        flat = pixels.flatten(1)
        means = flat.mean(1, dtype=torch.float64)
        norms = flat.var(1, correction=0).double().mul(flat.shape[1]).sqrt()
        brightness, contrast = (round(float(v.mean()), 6) for v in (means, norms))
        return (brightness,) * channelwise.channels, (contrast,) * channelwise.channels


class ZcaFrepo(ZcaNormalization):
    """The whitening of FRePo and RCIG."""

    kind = "zca-frepo"
    centred, unbiased, relative = True, False, True

    @classmethod
    def features(
        cls, pixels: Float[Tensor, "n c s s"], mean: Sequence[float], std: Sequence[float]
    ) -> Float[Tensor, "n d"]:
        x = pixels.double()
        centred = x - x.new_tensor(mean).view(-1, 1, 1)
        return (centred / x.new_tensor(std).view(-1, 1, 1)).flatten(1)

    @classmethod
    def scale(cls, pixels: Float[Tensor, "n c s s"], channelwise: Normalization) -> MeanAndStd:
        return channelwise.mean, channelwise.std


class ZcaKornia(ZcaNormalization):
    """The whitening of MTT, TESLA, FTD, DATM and DD-Ranking."""

    kind = "zca-kornia"
    centred, unbiased, relative = True, True, False

    @classmethod
    def features(
        cls, pixels: Float[Tensor, "n c s s"], mean: Sequence[float], std: Sequence[float]
    ) -> Float[Tensor, "n d"]:
        return pixels.flatten(1).double()


ZCA: dict[str, type[ZcaNormalization]] = {kind.kind: kind for kind in (ZcaKip, ZcaFrepo, ZcaKornia)}
NORMALIZATIONS.update(ZCA)
