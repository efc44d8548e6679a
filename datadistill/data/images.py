"""From what a user hands over (tensors, Pillow images, files) to float32 tensors in 0..1 of one shape.

The rules, the same for every source:

- integers must be uint8 and are divided by 255; floats must be finite and lie in 0..1 already;
- grey becomes RGB by repeating the channel, RGB becomes grey by the luma of ITU-R BT.601,
  Y = 0.299 R + 0.587 G + 0.114 B;
- a size is reached by a bilinear, antialiased resize of the 0..1 values until the short side fits, then a
  centre crop to a square;
- Pillow modes: 1-bit becomes 0 or 1; palette images become RGB; anything with transparency (LA, RGBA,
  palettes with a transparent entry) is composited on white; CMYK, YCbCr, Lab and HSV become RGB; 16-bit grey
  is divided by 65535; of an animation the first frame is taken; the camera's rotation tag is obeyed.
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from PIL import Image, ImageOps
from torch import Tensor

from datadistill.errors import DataError, UsageError

# What Pillow may open here. EPS and the like, which start other programs, are not among them.
FORMATS = (
    *("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000"),
    *("AVIF", "ICO", "TGA", "PCX", "SGI"),
)
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601; sums to 1


def unit_range(images: Shaped[Tensor, "*shape"], what: str = "images") -> Float[Tensor, "*shape"]:
    """uint8 0..255 or float 0..1 as float32 0..1.

    Args:
        images: any shape, uint8 or floating point.
        what: what error sentences call the tensor.

    Raises:
        DataError: another dtype, a value that is NaN or infinite, or floats outside 0..1.

    Example:
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
            f"{what} are {images.dtype}; wanted uint8 in 0..255 or floats in 0..1: convert them first"
        )
    if images.element_size() == 1:  # torch has no extremes of 8-bit floats
        images = images.float()
    low, high = (float(v) for v in torch.aminmax(images.detach()))
    if not (np.isfinite(low) and np.isfinite(high)):
        first = (~torch.isfinite(images)).nonzero()[0].tolist()
        raise DataError(f"{what} hold a NaN or infinite value, first at index {first}; wanted floats in 0..1")
    if low < -1e-4 or high > 1 + 1e-4:  # the slack is for rounding in a resize
        raise DataError(
            f"{what} are floats between {low:.4g} and {high:.4g}; wanted 0..1 (or uint8 0..255): "
            "divide by 255, or hand over the images before they are normalized"
        )


def to_channels(images: Float[Tensor, "*n c h w"], channels: int) -> Float[Tensor, "*n k h w"]:
    """Float images with `channels` channels: grey is repeated, RGB becomes BT.601 luma.

    Args:
        images: (C,H,W) or (N,C,H,W), floating point.
        channels: what is wanted; C itself always works, else 1 and 3 only.

    Raises:
        DataError: no rule leads from C to `channels`.
    """
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
    """Resize so that the short side is `size` (bilinear, antialiased), then centre-crop to a square.

    Args:
        images: (C,H,W) or (N,C,H,W), floating point.
        size: pixels, at least 1; None returns the images as they are.
    """
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
        batch = F.interpolate(batch, size=scaled, mode="bilinear", align_corners=False, antialias=True)
        images = batch if images.ndim == 4 else batch[0]
    top, left = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    return images[..., top : top + size, left : left + size]


def from_pil(image: Image.Image, channels: int | None = None) -> Float[Tensor, "c h w"]:
    """A Pillow image as a float32 tensor in 0..1, by the rules at the top of this module.

    Args:
        image: any mode.
        channels: 1 or 3; None keeps grey images grey (1) and makes all others RGB (3).

    Raises:
        DataError: a mode without a rule (a floating-point image outside 0..1, for instance).

    Example:
        >>> from_pil(Image.new("RGBA", (2, 2), (0, 0, 0, 0))).mean()  # transparent: white shows
        tensor(1.)
    """
    if getattr(image, "n_frames", 1) > 1:
        image.seek(0)
    image = ImageOps.exif_transpose(image) or image
    mode = image.mode
    if mode.startswith("I"):  # I;16, I;16B, and I, into which older Pillow reads 16-bit PNG files
        values = np.asarray(image).astype(np.float64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(
                f"an image of mode {mode} holds values from {values.min():g} to {values.max():g}; "
                "wanted 16 bits, 0..65535: convert it to 8 bits"
            )
        pixels = torch.from_numpy((values / 65535).astype(np.float32))[None]
    elif mode == "F":
        pixels = unit_range(torch.from_numpy(np.array(image, dtype=np.float32))[None], "a floating-point image")
    else:
        if "A" in mode or "a" in mode or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("L" if mode in ("L", "LA", "La", "1") else "RGB")
        elif mode not in ("L", "RGB"):
            image = image.convert("L" if mode == "1" else "RGB")
        values8 = np.array(image, dtype=np.uint8)
        pixels = unit_range(
            torch.from_numpy(values8 if values8.ndim == 3 else values8[..., None]).permute(2, 0, 1)
        )
    return pixels if channels is None else to_channels(pixels, channels)


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def read_file(path: Path, convert: Callable[[Image.Image], Tensor] = from_pil) -> Tensor:
    """Open, decode and convert one image file, or say in one sentence why not.

    Raises:
        DataError: the file is not an image Pillow reads, is damaged, or is larger than Pillow's limit
            (`PIL.Image.MAX_IMAGE_PIXELS`, the guard against decompression bombs).
    """
    return read_with_hash(path, convert)[0]


def read_with_hash(path: Path, convert: Callable[[Image.Image], Tensor] = from_pil) -> tuple[Tensor, bytes]:
    """As `read_file`, and the SHA-256 of the bytes that were decoded."""
    if not path.is_file():  # a named pipe would hang, a device never end
        state = "is not a regular file" if path.exists() else "does not exist"
        raise DataError(f"{path} {state}; wanted an image: replace it, or skip such files (skip_bad=True)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
                file.seek(0)
                with Image.open(file, formats=_formats()) as image:
                    image.load()
                    return convert(image), digest
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} is refused: it decodes to more than {Image.MAX_IMAGE_PIXELS:,} pixels, Pillow's limit "
            "against decompression bombs; shrink it, or take it out"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise DataError(
            f"{path} is not an image that can be read here; wanted PNG, JPEG, WebP, GIF, BMP, TIFF or the "
            "like: take it out, or skip such files (skip_bad=True)"
        ) from error
    except (MemoryError, UsageError):
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError, ...
        raise DataError(
            f"{path} cannot be decoded ({type(error).__name__}: {error}); replace it, or skip "
            "such files (skip_bad=True)"
        ) from error
