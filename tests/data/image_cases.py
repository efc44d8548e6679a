"""Images of known values, and files of kinds that Pillow does not write."""

import struct
import zlib

import numpy as np
from PIL import Image

DRAW = np.random.default_rng(0)

# orientation tag -> what a viewer does to the stored rows and columns (Exif 2.3, table 6)
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}

KINDS = {  # mode -> shape of a pixel, type, levels
    "1": ((), np.uint8, 2),
    "L": ((), np.uint8, 256),
    "LA": ((2,), np.uint8, 256),
    "RGB": ((3,), np.uint8, 256),
    "RGBA": ((4,), np.uint8, 256),
    "CMYK": ((4,), np.uint8, 256),
    "I;16": ((), np.uint16, 65536),
    "I;16B": ((), np.uint16, 65536),
    "I": ((), np.int32, 65536),
    "F": ((), np.float32, 0),
}


def stored(mode, height=3, width=5):
    """Random values as a file of this mode stores them."""
    pixel, dtype, levels = KINDS[mode]
    if levels == 0:
        return DRAW.random((height, width)).astype(dtype)
    return DRAW.integers(0, levels, (height, width, *pixel)).astype(dtype)


def unit(values, mode, top=None):
    """What is wanted: (H,W,C) in 0..1, by the rules of `datadistill.data.images`."""
    levels = KINDS[mode][2] if top is None else top + 1
    x = values.astype(np.float64) / (levels - 1 if levels else 1)
    x = x if x.ndim == 3 else x[..., None]
    if mode == "CMYK":
        return (1 - x[..., :3]) * (1 - x[..., 3:])
    if mode in ("LA", "RGBA"):
        return x[..., :-1] * x[..., -1:] + 1 - x[..., -1:]
    return x


def pillow(values, mode):
    """The Pillow image of these values."""
    if mode == "1":
        return Image.fromarray(values * 255).convert("1")
    if mode == "I;16B":
        return Image.frombytes(mode, values.shape[::-1], values.astype(">u2").tobytes())
    if mode in ("LA", "CMYK"):
        return Image.merge(mode, [Image.fromarray(v) for v in np.moveaxis(values, -1, 0)])
    return Image.fromarray(values)


def png(values, depth, colour, *, transparent=None, palette=None, orientation=None):
    """A PNG file of any depth.

    Args:
        values: (H,W) or (H,W,C) below 2**depth.
        depth: bits of a sample: 1, 2, 4, 8 or 16.
        colour: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA.
        transparent, palette: contents of tRNS and PLTE.
        orientation: of an eXIf chunk.
    """
    flat = values.reshape(len(values), -1)
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in flat]
    else:
        bits = (
            ((flat[..., None] >> np.arange(depth)[::-1]) & 1)
            .reshape(len(flat), -1)
            .astype(np.uint8)
        )
        rows = [np.packbits(row).tobytes() for row in bits]
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"PLTE", palette), (b"tRNS", transparent)]
    if orientation is not None:
        exif = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHHI", 0x0112, 3, 1, orientation, 0, 0)
        parts.append((b"eXIf", exif))
    parts += [(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in parts:
        if content is not None:
            check = struct.pack(">I", zlib.crc32(kind + content))
            data += struct.pack(">I", len(content)) + kind + content + check
    return data


def tiff(
    values, order, *, photometric=1, sample_format=1, extra=None, deflate=False, orientation=1
):
    """A TIFF file of one strip.

    Args:
        values: (H,W) or (H,W,C), of the type that is stored.
        order: "<" or ">".
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 5 CMYK.
        sample_format: 1 unsigned, 2 signed, 3 floats.
        extra: the kind of a fourth sample: 1 premultiplied alpha, 2 alpha.
    """
    height, width = values.shape[:2]
    samples, bits = (values.shape[2] if values.ndim == 3 else 1), 8 * values.itemsize
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if deflate else data
    fields = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [bits] * samples),
        (259, "H", [8 if deflate else 1]),
        (262, "H", [photometric]),
        (273, "I", [8]),
        (274, "H", [orientation]),
        (277, "H", [samples]),
        (278, "I", [height]),
        (279, "I", [len(data)]),
        *([] if extra is None else [(338, "H", [extra])]),
        (339, "H", [sample_format] * samples),
    ]
    directory = 8 + len(data) + len(data) % 2
    beyond = directory + 2 + 12 * len(fields) + 4
    entries, tail = b"", b""
    for tag, kind, content in fields:
        packed = struct.pack(order + kind * len(content), *content)
        if len(packed) > 4:
            packed, tail = struct.pack(order + "I", beyond + len(tail)), tail + packed
        entries += struct.pack(
            order + "HHI", tag, {"H": 3, "I": 4}[kind], len(content)
        ) + packed.ljust(4, b"\0")
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, directory)
    count, end = struct.pack(order + "H", len(fields)), struct.pack(order + "I", 0)
    return (start + data).ljust(directory, b"\0") + count + entries + end + tail
