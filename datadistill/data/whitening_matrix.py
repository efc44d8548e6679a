"""The matrix of a ZCA whitening, measured on training images; `datadistill.data.zca` has the
formula."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from datadistill.config.zca import ZcaChoice
from datadistill.data.normalization import Normalization
from datadistill.data.zca import BLOCK, ZCA, ZcaNormalization
from datadistill.device import refuse_too_large
from datadistill.errors import DataError, UsageError
from datadistill.progress import iterate
from datadistill.runs.tensors import checksum
from datadistill.torch_defaults import use_library_defaults

LARGEST = 3 * 64 * 64
"""Features of an image: the matrix of images of 64 pixels in colour has 600 MB."""


def refuse_shape(images: int, channels: int, size: int | None) -> None:
    """Refuse training images of which no whitening can be measured: too many features, or too few
    images for them."""
    if size is None:
        raise UsageError(
            "ZCA whitening is for square images of one size, and these are not square; pass a size"
        )
    d, shape = channels * size**2, f"{channels}x{size}x{size}"
    if d > LARGEST:
        raise UsageError(
            f"ZCA whitening of images {shape} needs a matrix of {d:,} x {d:,} numbers; lower the "
            f"size so that an image has at most {LARGEST:,}, or choose another normalization"
        )
    if images <= d:
        raise DataError(
            f"ZCA whitening of images {shape} needs more than {d:,} training images, one a pixel "
            f"and channel, and there are {images:,}; lower the size, load them in grey, or choose "
            "another normalization"
        )
    # the covariance, its eigenvectors, the matrix and two work spaces, in float64
    refuse_too_large(
        5 * 8 * d**2,
        f"are needed for the ZCA whitening of images {shape}; lower the size",
        torch.device("cpu"),
    )


@use_library_defaults()
def measure_zca(
    choice: ZcaChoice, pixels: Float[Tensor, "n c s s"], channelwise: Normalization
) -> ZcaNormalization:
    """The whitening measured on training images in 0..1.

    Args:
        choice: its kind and regularization.
        pixels: the images, of which `refuse_shape` refuses some.
        channelwise: the mean and the deviation of each channel, for the kind that takes them.

    Example:
        >>> pixels = torch.rand(40, 1, 2, 2)
        >>> channelwise = Normalization((0.5,), (0.25,), size=2, channels=1)
        >>> whiten = measure_zca(ZcaChoice("zca-kornia", 1e-6), pixels, channelwise)
        >>> torch.allclose(whiten(pixels).flatten(1).T.cov(), torch.eye(4), atol=1e-3)
        True
    """
    n, channels, size, _ = pixels.shape
    refuse_shape(n, channels, size)
    kind, d = ZCA[choice.kind], channels * size**2
    mean, std = kind.scale(pixels, channelwise)

    def blocks(what: str) -> Iterator[Float[Tensor, "b d"]]:
        parts = pixels.split(BLOCK)
        return (kind.features(part, mean, std) for part in iterate(parts, what, len(parts)))

    centre = torch.zeros(d)
    if kind.centred:
        total = torch.zeros(d, dtype=torch.float64)
        for z in blocks("ZCA: the mean"):
            total += z.sum(0)
        centre = (total / n).float()
    covariance = torch.zeros(d, d, dtype=torch.float64)
    for z in blocks("ZCA: the covariance"):
        z = z - centre
        covariance.addmm_(z.T, z)
    covariance /= n - 1 if kind.unbiased else n
    unit = float(covariance.trace()) / d if kind.relative else 1.0
    if not unit > 0:
        raise DataError(
            "ZCA whitening needs images that differ, and the training images are all without "
            "contrast; choose another normalization"
        )
    values, vectors = torch.linalg.eigh(covariance)
    # rounding leaves eigenvalues of 0 a little below it
    gains = (values.clamp_min(0) + choice.regularization * unit).rsqrt()
    matrix = (vectors * gains) @ vectors.T
    matrix = ((matrix + matrix.T) / 2).float()
    data = checksum({"images": pixels})
    return kind(mean, std, size, channels, choice.regularization, n, data, centre, matrix)


def digest_of(
    normalization: ZcaNormalization,
    pixels: Float[Tensor, "n c s s"],
    labels: Tensor,
    split: Sequence[Tensor],
) -> str:
    """SHA-256, hex, over a whitening, the images before it, their labels and their places in the
    parts, all of which no rounding changes."""
    kept, held_out = split
    tensors = {"images": pixels, "labels": labels, "train": kept, "validation": held_out}
    return checksum(tensors, normalization.as_dict()).removeprefix("sha256:")
