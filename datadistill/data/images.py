"""From what a user hands over (tensors, Pillow images, files) to float32 tensors in 0..1 of one
shape.

The rules, the same for every source:

- integers must be uint8 and are divided by 255; floats must be finite and lie in 0..1 already;
- grey becomes RGB by repeating the channel, RGB becomes grey by the luma of ITU-R BT.601,
  Y = 0.299 R + 0.587 G + 0.114 B;
- a size is reached by a bilinear, antialiased resize of the 0..1 values until the short side fits,
  then a centre crop to a square;
- Pillow modes: 1-bit becomes 0 or 1; palette images become RGB; anything with transparency (LA,
  RGBA, a transparent grey, colour or palette entry) is composited on white; CMYK, YCbCr, Lab and
  HSV become RGB, without colour profiles; 16-bit grey is divided by 65535; of an animation or of
  several pages the first is taken; the camera's orientation tag is obeyed.
  `datadistill.data.image_files` has what goes for files.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from PIL import Image, ImageOps
from torch import Tensor

from datadistill.errors import DataError, UsageError

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601; sums to 1


def unit_range(images: Shaped[Tensor, "*shape"], what: str = "images") -> Float[Tensor, "*shape"]:
    """uint8 0..255 or float 0..1 as float32 0..1; DataError for anything else.

    >>> unit_range(torch.tensor([0, 51, 255], dtype=torch.uint8))
    tensor([0.0000, 0.2000, 1.0000])
    """
    refuse_values(images, what)
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def refuse_values(images: Shaped[Tensor, "*shape"], what: str = "images") -> None:
    """Refuse what `unit_range` refuses, without making a copy."""
    if images.dtype == torch.uint8 or (images.is_floating_point() and images.numel() == 0):
        return
    if not images.is_floating_point():
        raise DataError(
            f"{what} are {images.dtype}; wanted uint8 in 0..255 or floats in 0..1: "
            "convert them first"
        )
    if images.element_size() == 1:  # torch has no extremes of 8-bit floats
        images = images.float()
    low, high = (float(v) for v in torch.aminmax(images.detach()))
    if not (np.isfinite(low) and np.isfinite(high)):
        first = (~torch.isfinite(images)).nonzero()[0].tolist()
        raise DataError(
            f"{what} hold a NaN or infinite value, first at index {first}; wanted floats in 0..1"
        )
    if low < -1e-4 or high > 1 + 1e-4:  # the slack is for rounding in a resize
        raise DataError(
            f"{what} are floats between {low:.4g} and {high:.4g}; wanted 0..1 (or uint8 0..255): "
            "divide by 255, or hand over the images before they are normalized"
        )


def to_channels(images: Float[Tensor, "*n c h w"], channels: int) -> Float[Tensor, "*n k h w"]:
    """Float images (C,H,W) or (N,C,H,W) with `channels` channels: grey is repeated, RGB becomes
    BT.601 luma."""
    found = images.shape[-3]
    if found == channels:
        return images
    if found == 1:
        return images.expand(*images.shape[:-3], channels, *images.shape[-2:])
    if (found, channels) == (3, 1):
        weights = images.new_tensor(LUMA).view(3, 1, 1)
        return (images * weights).sum(-3, keepdim=True).clamp(max=1)
    raise DataError(
        f"images have {found} channels and {channels} are wanted; only 1 to any "
        "number and 3 to 1 is done here: convert them first"
    )


def to_size(images: Float[Tensor, "*n c h w"], size: int | None) -> Float[Tensor, "*n c s s"]:
    """Resize (C,H,W) or (N,C,H,W) so that the short side is `size` (bilinear, antialiased), then
    centre-crop to a square; None returns the images as they are."""
    if size is None:
        return images
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise UsageError(f"size is {size!r}; wanted a number of pixels, 1 or more")
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images
    if images.numel() == 0:  # an empty split, which interpolate refuses
        return images.new_empty(*images.shape[:-2], size, size)
    short = min(height, width)
    scaled = (max(size, round(height * size / short)), max(size, round(width * size / short)))
    if scaled != (height, width):
        batch = images if images.ndim == 4 else images[None]
        batch = F.interpolate(
            batch, size=scaled, mode="bilinear", align_corners=False, antialias=True
        )
        images = batch if images.ndim == 4 else batch[0]
    top, left = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    return images[..., top : top + size, left : left + size]


def from_pil(image: Image.Image, channels: int | None = None) -> Float[Tensor, "c h w"]:
    """A Pillow image of any mode as a float32 tensor in 0..1, by the rules at the top of this
    module. `channels` None keeps grey images grey (1) and makes all others RGB (3).

    >>> from_pil(Image.new("RGBA", (2, 2), (0, 0, 0, 0))).mean()  # transparent: white shows
    tensor(1.)
    """
    image, white_is_zero = _first_frame(image)
    mode, transparent = image.mode, image.info.get("transparency")
    image = ImageOps.exif_transpose(image) or image
    if mode.startswith("I"):  # I;16, I;16B, and I, into which older Pillow reads 16-bit PNG files
        values = np.asarray(image).astype(np.float64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(
                f"an image of mode {mode} holds values from {values.min():g} to {values.max():g}; "
                "wanted 16 bits, 0..65535: convert it to 8 bits"
            )
        unit = values / 65535
        if white_is_zero:
            unit = 1 - unit
        if isinstance(transparent, int):
            unit[values == transparent] = 1
        pixels = torch.from_numpy(unit.astype(np.float32))[None]
    elif mode == "F":
        if white_is_zero:
            raise DataError(
                "a floating-point TIFF image in which 0 is white; convert it to 8 or 16 bits"
            )
        pixels = unit_range(
            torch.from_numpy(np.array(image, dtype=np.float32))[None], "a floating-point image"
        )
    else:
        if "A" in mode or "a" in mode or "transparency" in image.info:
            image = (image.convert("LA") if mode == "La" else image).convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("L" if mode in ("L", "LA", "La", "1") else "RGB")
        elif mode not in ("L", "RGB"):
            image = image.convert("L" if mode == "1" else "RGB")
        values8 = np.array(image, dtype=np.uint8)
        pixels = unit_range(
            torch.from_numpy(values8 if values8.ndim == 3 else values8[..., None]).permute(2, 0, 1)
        )
    return pixels if channels is None else to_channels(pixels, channels)


def _first_frame(image: Image.Image) -> tuple[Image.Image, bool]:
    """The first of several frames, loaded, and whether 0 is white in it. The image stays at its
    frame."""
    name = getattr(image, "filename", "")
    # Pillow maps uncompressed TIFF files into memory and then scrambles those that are to be
    # turned; it maps nothing that has no name
    if image.format == "TIFF" and name:
        image.filename = ""  # type: ignore[attr-defined]
    place = image.tell() if getattr(image, "n_frames", 1) > 1 else None
    try:
        if place is None:
            image.load()
            return image, _is_inverted(image)
        image.seek(0)
        return image.copy(), _is_inverted(image)
    finally:
        if place is not None:
            image.seek(place)
        if image.format == "TIFF" and name:
            image.filename = name  # type: ignore[attr-defined]


def _is_inverted(image: Image.Image) -> bool:
    """Whether 0 is white in a TIFF image of 16 bits or of floats, which Pillow does not see to. One
    of signed bytes, which Pillow reads as unsigned, is refused."""
    tags: Any = getattr(image, "tag_v2", {})
    samples = tags.get(339, 1)
    if image.mode == "L" and 2 in (samples if isinstance(samples, tuple) else (samples,)):
        raise DataError("a TIFF image of signed bytes; wanted unsigned ones: convert it")
    return image.mode not in ("1", "L", "P") and tags.get(262) == 0
