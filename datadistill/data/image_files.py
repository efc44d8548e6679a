"""Image files as tensors: opened once, hashed, decoded to all of their bits, or refused with their
path.

Pillow reads 16-bit colour with the upper eight bits alone. Its unpackers choose the upper byte by
the byte order of the raw mode, so the same file opened with the other order gives the lower byte,
and

    value = (256 * upper + lower) / 65535

is exact. Where that way is closed (JPEG 2000, PPM, SGI in colour with more than eight bits; 16-bit
colour with premultiplied alpha), the file is refused.
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageFile, ImageOps
from torch import Tensor

from datadistill.data.images import from_pil, to_channels
from datadistill.errors import DataError, UsageError
from datadistill.runs.signals import poll

# What Pillow may open here. EPS and the like, which start other programs, are not among them.
FORMATS = (
    *("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000"),
    *("AVIF", "ICO", "TGA", "PCX", "SGI"),
)
LOWER = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
    "RGBA;16N": "RGBA;16B",
    "CMYK;16B": "CMYK;16L",
    "CMYK;16L": "CMYK;16B",
    "CMYK;16N": "CMYK;16B",
}
"""Raw mode that unpacks the upper bytes -> the one that unpacks the lower bytes ("N" is the
machine's order, little-endian wherever torch runs)."""
# four bytes a pixel, which "RGBA" unpacks as upper and lower byte of grey and of alpha
GREY_ALPHA = "LA;16B"
STEPS = {"1": 255, "L;2": 85, "L;4": 17}
"""Raw modes of fewer than eight bits, and the grey of their level 1."""


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def read_file(path: Path, channels: int | None = None) -> Float[Tensor, "c h w"]:
    """Open, decode and convert one image file; DataError where it is not an image Pillow reads, is
    damaged, is larger than Pillow's limit (`PIL.Image.MAX_IMAGE_PIXELS`, the guard against
    decompression bombs), or holds more than Pillow would hand out."""
    return read_with_hash(path, channels)[0]


def read_with_hash(path: Path, channels: int | None = None) -> tuple[Float[Tensor, "c h w"], bytes]:
    """As `read_file`, and the SHA-256 of the bytes that were decoded."""
    poll()
    if not path.is_file():  # a named pipe would hang, a device never end
        state = "is not a regular file" if path.exists() else "does not exist"
        raise DataError(
            f"{path} {state}; wanted an image: replace it, or skip such files (--skip-bad)"
        )
    try:
        with path.open("rb") as file, _strict():
            digest = hashlib.file_digest(file, "sha256").digest()
            return _decode(file, channels), digest
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} is refused: it decodes to more than {Image.MAX_IMAGE_PIXELS:,} pixels, "
            "Pillow's limit against decompression bombs; shrink it, or take it out"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise DataError(
            f"{path} is not an image that can be read here; wanted PNG, JPEG, WebP, GIF, BMP, TIFF "
            "or the like: take it out, or skip such files (--skip-bad)"
        ) from error
    except (MemoryError, UsageError):
        raise
    except Exception as error:
        # decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError, ...
        raise DataError(
            f"{path} cannot be decoded ({type(error).__name__}: {error}); replace it, or skip "
            "such files (--skip-bad)"
        ) from error


@contextmanager
def _strict() -> Iterator[None]:
    """Bombs are errors, and so are truncated files, whatever another library has set."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _decode(file: BinaryIO, channels: int | None) -> Tensor:
    with _open(file) as image:
        raw = _raw_mode(image)
        _refuse_depth(image, raw, file)
        if raw in LOWER or raw == GREY_ALPHA:
            pixels = _deep_colour(image, raw, file)
            return pixels if channels is None else to_channels(pixels, channels)
        if raw in STEPS and isinstance(image.info.get("transparency"), int):
            image.info["transparency"] *= STEPS[raw]  # Pillow keeps the level, and compares greys
        image.load()
        pixels = from_pil(image, channels)
    if raw == "I;12":
        pixels = pixels * (65535 / 4095)
    return pixels


def _open(file: BinaryIO) -> Image.Image:
    file.seek(0)
    return Image.open(file, formats=_formats())


def _raw_mode(image: Any) -> str:
    """The raw mode of a file that is not loaded yet; empty where the decoder does not state it."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _refuse_depth(image: Any, raw: str, file: BinaryIO) -> None:
    """Refuse files of which Pillow would hand out a part of the bits."""
    colour = len(image.getbands()) > 1
    deep = image.format == "SGI" and (";16" in raw or image.tile[0][0] == "SGI16")
    deep |= (
        image.format == "PPM"
        and colour
        and image.tile[0][0].startswith("ppm")
        and _largest(image) > 255
    )
    deep |= image.format == "JPEG2000" and colour and _precision(file) > 8
    deep |= colour and ";16" in raw and raw not in LOWER and raw != GREY_ALPHA
    if deep:
        raise DataError(
            f"a {image.format} image with more than 8 bits in each of several channels, of which "
            "only the upper 8 can be read here; wanted a 16-bit PNG or TIFF, or 8 bits: convert it"
        )


def _largest(image: Any) -> int:
    arguments = image.tile[0][3]
    numbers = [
        a
        for a in (arguments if isinstance(arguments, tuple) else (arguments,))
        if isinstance(a, int)
    ]
    return max(numbers, default=0)


def _precision(file: BinaryIO) -> int:
    """Bits of the deepest component of a JPEG 2000 codestream, from its SIZ marker."""
    file.seek(0)
    data = file.read(1 << 20)
    start = data.find(b"\xff\x4f\xff\x51")  # start of codestream, then SIZ
    if start < 0 or len(data) < start + 42:
        return 0
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    sizes = data[start + 42 : start + 42 + 3 * count : 3]
    return max(((size & 0x7F) + 1 for size in sizes), default=0)


def _deep_colour(image: Any, raw: str, file: BinaryIO) -> Float[Tensor, "c h w"]:
    """16-bit colour, from its upper and its lower bytes."""
    transparent = image.info.get("transparency")
    if raw == GREY_ALPHA:
        quads = _bytes(image, "RGBA")
        values = quads[..., ::2] * 256 + quads[..., 1::2]
    else:
        upper = _bytes(image, raw)
        with _open(file) as again:
            values = upper * 256 + _bytes(again, LOWER[raw])
    unit = values / 65535
    if raw.startswith("CMYK"):
        unit = (1 - unit[..., :3]) * (1 - unit[..., 3:])
    elif raw.startswith(("RGBA", "LA")):
        unit = unit[..., :-1] * unit[..., -1:] + 1 - unit[..., -1:]
    elif transparent is not None:
        unit[(values == np.array(transparent)).all(-1)] = 1
    return torch.from_numpy(np.ascontiguousarray(unit.transpose(2, 0, 1), dtype=np.float32))


def _bytes(image: Any, raw: str) -> np.ndarray:
    """The bytes that a raw mode unpacks, turned as the orientation tag says."""
    tile = image.tile[0]
    arguments = raw if isinstance(tile[3], str) else (raw, *tile[3][1:])
    image.tile = (
        [type(tile)(*tile[:3], arguments)] if hasattr(tile, "_fields") else [(*tile[:3], arguments)]
    )
    image.load()
    return np.asarray(ImageOps.exif_transpose(image) or image).astype(np.float64)
