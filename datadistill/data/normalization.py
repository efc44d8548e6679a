"""Normalization: from pixels in 0..1 to the values a net is trained on, and back.

    y = (x - mean) / std        a mean and a standard deviation for each channel

A distilled set carries its normalization, because a net trained on it wants new images prepared in
the very same way. Another kind is a subclass, with tensors of its own where it needs them, and a
line in `NORMALIZATIONS`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from datadistill.data.images import from_pil, to_size, unit_range
from datadistill.errors import DataError

NEAR = 0.1
"""Deviations by which the means of two normalizations of one data set may differ, and the share by
which their deviations may."""
DARKEST = 1e-30
"""Smallest deviation; below about 1e-38 float32 loses digits, and squares far above."""


@dataclass(frozen=True)
class Normalization:
    """Prepares images for a net; call it on yours.

    Tensors must have `channels` channels already; Pillow images are brought to them (modes,
    transparency, grey and colour: see `datadistill.data.images`). Both are brought to `size` where
    it is set: short side resized (bilinear, antialiased), then centre-cropped.

    Args:
        mean: one number a channel, on the 0..1 scale.
        std: one positive number a channel, on the 0..1 scale.
        size: side of the square images that are expected; None takes any.
        channels: number of channels that is expected.

    Example:
        >>> n = Normalization((0.5,), (0.25,), size=2, channels=1)
        >>> n(torch.tensor([[[0, 255], [0, 255]]], dtype=torch.uint8))
        tensor([[[-2.,  2.],
                 [-2.,  2.]]])
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int | None
    channels: int
    kind: ClassVar[str] = "mean-std"

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors that a file stores beside `as_dict`."""
        return {}

    def __post_init__(self) -> None:
        if not _is_whole(self.channels):
            raise DataError(
                f"normalization: channels is {self.channels!r}; wanted a whole number, 1 or more"
            )
        if self.size is not None and not _is_whole(self.size):
            raise DataError(
                f"normalization: size is {self.size!r}; wanted None or a whole number, 1 or more"
            )
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, list | tuple) or len(values) != self.channels:
                raise DataError(
                    f"normalization: {name} is {values!r}; wanted {self.channels} "
                    "number(s), one a channel"
                )
            if not all(
                isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
                for v in values
            ):
                raise DataError(f"normalization: {name} is {values!r}; wanted finite numbers")
            object.__setattr__(self, name, tuple(float(v) for v in values))
        if min(self.std) <= 0:
            raise DataError(f"normalization: std is {self.std!r}; wanted numbers above 0")
        if min(self.std) < DARKEST:
            raise DataError(
                f"normalization: std is {self.std!r}; wanted numbers that float32 can divide by"
            )

    def __call__(
        self, images: Tensor | Image.Image | Sequence[Image.Image]
    ) -> Float[Tensor, "*n c h w"]:
        """Normalized float32 images, contiguous, on the device of the input: (N,C,H,W) for a batch
        or a list, (C,H,W) for one image.

        Args:
            images: (N,C,H,W) or (C,H,W), uint8 0..255 or float 0..1; or a Pillow image, or a list
                of them.
        """
        x = self.to_pixels(images)
        return ((x - self._column(self.mean, x)).div_(self._column(self.std, x))).contiguous()

    def to_pixels(
        self, images: Tensor | Image.Image | Sequence[Image.Image]
    ) -> Float[Tensor, "*n c h w"]:
        """Images as float32 in 0..1, of the channels and the size that are expected: what is
        normalized."""
        x = self._pixels(images)
        if x.ndim not in (3, 4) or x.shape[-3] != self.channels:
            raise DataError(
                f"images have shape {tuple(x.shape)}; wanted (N, {self.channels}, height, width) "
                f"or ({self.channels}, height, width): this normalization is for "
                f"{self.channels} channel(s)"
            )
        return to_size(unit_range(x), self.size)

    def inverse(self, images: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n c h w"]:
        """Normalized images (N,C,H,W) or (C,H,W) back on the 0..1 scale. Not clipped: learned
        images leave it."""
        if images.ndim not in (3, 4) or images.shape[-3] != self.channels:
            raise DataError(
                f"images have shape {tuple(images.shape)}; wanted {self.channels} channel(s), "
                "third from the end"
            )
        return images * self._column(self.std, images) + self._column(self.mean, images)

    def to_view(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalized images such that a picture of each, scaled to its own range, shows what is in
        it: as they are, where every pixel was normalized on its own."""
        return images

    @property
    def words(self) -> str:
        """What it does, in a sentence that begins with "normalized by"."""
        return f"mean {self.mean} and deviation {self.std}"

    def is_near(self, other: Normalization) -> bool:
        """Whether another one differs by less than `NEAR` deviations; those that are measured on
        parts of one data set do."""
        if self.kind != other.kind or self.channels != other.channels:
            return False
        means = zip(self.mean, other.mean, self.std, strict=True)
        return all(abs(a - b) <= NEAR * std for a, b, std in means) and all(
            abs(a - b) <= NEAR * a for a, b in zip(self.std, other.std, strict=True)
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file; `from_dict` reads them back."""
        return {
            "kind": self.kind,
            "mean": list(self.mean),
            "std": list(self.std),
            "size": self.size,
            "channels": self.channels,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Normalization:
        """The inverse of `as_dict`; strict, as the values may come from anyone's file."""
        if not isinstance(values, dict):
            raise DataError(
                f"normalization is a {type(values).__name__}; wanted an object with "
                "kind, mean, std, ..."
            )
        wanted = {"kind", "mean", "std", "size", "channels"}
        if values.keys() != wanted:
            missing, extra = (
                sorted(wanted - values.keys()),
                sorted(map(str, values.keys() - wanted)),
            )
            raise DataError(
                f"normalization: fields missing: {missing}, unknown: {extra}; wanted "
                f"{sorted(wanted)}"
            )
        if values["kind"] != cls.kind:
            raise DataError(f"normalization: kind is {values['kind']!r}; wanted {cls.kind!r}")
        for name in ("mean", "std"):
            if not isinstance(values[name], list) or not all(
                type(v) is float for v in values[name]
            ):
                raise DataError(
                    f"normalization: {name} is {str(values[name])[:80]}; wanted a list "
                    "of finite numbers"
                )
        return cls(**{name: values[name] for name in ("mean", "std", "size", "channels")})

    def _pixels(self, images: Tensor | Image.Image | Sequence[Image.Image]) -> Tensor:
        if isinstance(images, Tensor):
            return images
        if isinstance(images, Image.Image):
            return from_pil(images, self.channels)
        if (
            isinstance(images, Sequence)
            and images
            and all(isinstance(i, Image.Image) for i in images)
        ):
            parts = [to_size(from_pil(image, self.channels), self.size) for image in images]
            if len({p.shape for p in parts}) > 1:
                raise DataError(
                    "the images have several sizes and this normalization has none; "
                    "resize them to one"
                )
            return torch.stack(parts)
        raise DataError(
            f"images are a {type(images).__name__}; wanted a tensor, a Pillow image or a list "
            "of Pillow images"
        )

    def _column(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)


NORMALIZATIONS: dict[str, type[Normalization]] = {"mean-std": Normalization}
"""Kind -> class."""


def normalization_from(values: Any) -> Normalization:
    """The inverse of `as_dict` for every kind; "tensors" of a kind that has some are among the
    values."""
    kind = (
        values.get("kind", Normalization.kind) if isinstance(values, dict) else Normalization.kind
    )
    if kind not in NORMALIZATIONS:
        raise DataError(
            f"normalization: kind is {str(kind)[:60]!r}; this version reads "
            f"{sorted(NORMALIZATIONS)}"
        )
    return NORMALIZATIONS[kind].from_dict(values)


def measure(images: Float[Tensor, "n c h w"], size: int | None) -> Normalization:
    """The normalization measured on images in 0..1.

    Rounded to 4 decimals; where the deviation of a channel is below 0.01, mean and deviation to the
    decimals that give the deviation four significant digits. A constant channel gets deviation 1:
    it is centred and no more.
    """
    means, deviations = [], []
    # float64 sums, so that the decimals do not depend on the number of threads
    for k, channel in enumerate(images.transpose(0, 1).flatten(1)):
        low, high = (float(v) for v in torch.aminmax(channel))
        mean = float(channel.mean(dtype=torch.float64))
        std = float((channel.double() - mean).square().mean().sqrt())
        # a resize leaves rounding errors of a few units in the last place in a constant image
        if std <= 4 * torch.finfo(torch.float32).eps * max(abs(low), abs(high)):
            means.append(round(mean, 4))
            deviations.append(1.0)
            continue
        if std < DARKEST:
            raise DataError(
                f"channel {k} of the images has values up to {high:.2g} with a deviation of "
                f"{std:.2g}, which float32 cannot divide by; scale the images to 0..1"
            )
        decimals = 4 if std >= 0.01 else 3 - math.floor(math.log10(std))
        means.append(round(mean, decimals))
        deviations.append(round(std, decimals))
    return Normalization(tuple(means), tuple(deviations), size, images.shape[1])


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
