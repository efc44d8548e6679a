"""Image files of known values, read back by value; what cannot be read right is refused with its
path."""

import io

import numpy as np
import pytest
from image_cases import DRAW, TURNED, pillow, png, stored, tiff, unit
from PIL import Image, ImageFile

from datadistill.data import load_folder
from datadistill.data.image_files import read_file
from datadistill.data.images import from_pil
from datadistill.errors import DataError

EXACT = 2e-7  # float32 of values in 0..1
BYTE = 0.5 / 255 + EXACT  # transparency and inks are mixed in bytes


def check(pixels, wanted, tolerance=EXACT):
    """Compare a tensor (C,H,W) with (H,W,C)."""
    wanted = np.moveaxis(wanted, -1, 0)
    assert pixels.shape == wanted.shape
    assert np.abs(pixels.numpy() - wanted).max() <= tolerance


def tolerance(mode):
    return 2 * BYTE if mode in ("LA", "RGBA", "CMYK") else EXACT


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


FILES = [
    *(("PNG", mode, {}) for mode in ("1", "L", "LA", "RGB", "RGBA", "I;16")),
    *(
        ("TIFF", mode, {})
        for mode in ("1", "L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "I", "F")
    ),
    *(
        ("TIFF", mode, {"compression": "tiff_lzw"})
        for mode in ("1", "L", "RGB", "CMYK", "I;16", "F")
    ),
    *(("TIFF", mode, {"compression": "packbits"}) for mode in ("L", "RGB")),
    *(("WEBP", mode, {"lossless": True, "exact": True}) for mode in ("RGB", "RGBA")),
]


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind, mode, options", FILES)
def test_files_are_read_back_and_turned(kind, mode, options, orientation, tmp_path):
    values, path = stored(mode), tmp_path / "x"
    pillow(values, mode).save(path, kind, exif=exif(orientation), **options)
    wanted = TURNED[orientation](unit(values, mode))
    check(read_file(path), wanted, tolerance(mode))
    with Image.open(path) as image:  # as a data set of Pillow images hands it over
        check(from_pil(image), wanted, tolerance(mode))


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_files_are_read_back_closely_and_turned(mode, orientation, tmp_path):
    values = stored(mode, 2, 3).repeat(8, 0).repeat(8, 1)
    pillow(values, mode).save(
        tmp_path / "x", "JPEG", quality=100, subsampling=0, exif=exif(orientation)
    )
    check(read_file(tmp_path / "x"), TURNED[orientation](unit(values, mode)), 0.03)


@pytest.mark.parametrize(
    "kind, mode",
    [
        *(("BMP", mode) for mode in ("1", "L", "RGB")),
        *(("TGA", mode) for mode in ("1", "L", "LA", "RGB", "RGBA")),
        *(("PPM", mode) for mode in ("1", "L", "RGB", "I")),
        *(("SGI", mode) for mode in ("L", "RGB", "RGBA")),
        *(("PCX", mode) for mode in ("1", "L", "RGB")),
        *(("JPEG2000", mode) for mode in ("L", "LA", "RGB", "RGBA", "I;16")),
        *(("ICO", mode) for mode in ("RGB", "RGBA")),
    ],
)
def test_files_of_other_formats_are_read_back(kind, mode, tmp_path):
    values, path = stored(mode), tmp_path / "x"
    pillow(values, mode).save(path, kind, **({"sizes": [(5, 3)]} if kind == "ICO" else {}))
    check(read_file(path), unit(values, mode), tolerance(mode))


# --- depths that Pillow cuts


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("colour, mode", [(0, "L"), (2, "RGB"), (4, "LA"), (6, "RGBA")])
def test_png_files_of_16_bits_keep_all_of_them(colour, mode, orientation, tmp_path):
    values = DRAW.integers(0, 65536, stored(mode).shape).astype(np.uint16)
    path = write(tmp_path / "x", png(values, 16, colour, orientation=orientation))
    check(read_file(path), TURNED[orientation](unit(values, mode, 65535)))


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "mode, photometric, extra", [("RGB", 2, None), ("RGBA", 2, 2), ("CMYK", 5, None)]
)
def test_tiff_files_of_16_bits_keep_all_of_them(
    mode, photometric, extra, order, deflate, orientation, tmp_path
):
    values = DRAW.integers(0, 65536, stored(mode).shape).astype(np.uint16)
    data = tiff(
        values,
        order,
        photometric=photometric,
        extra=extra,
        deflate=deflate,
        orientation=orientation,
    )
    check(read_file(write(tmp_path / "x", data)), TURNED[orientation](unit(values, mode, 65535)))


def test_dark_colour_of_16_bits_in_a_folder_is_no_constant(tmp_path):
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        for i in range(6):
            write(tmp_path / name / f"{i}.png", png(DRAW.integers(0, 13, (6, 6, 3)), 16, 2))
    data = load_folder(tmp_path, size=6)
    assert data.train.images.std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_png_files_of_every_depth(depth, tmp_path):
    values = DRAW.integers(0, 2**depth, (4, 5))
    check(read_file(write(tmp_path / "x", png(values, depth, 0))), unit(values, "L", 2**depth - 1))


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("dtype, order", [(np.uint8, "<"), (np.uint8, ">"), (np.uint16, "<")])
def test_tiff_files_in_which_white_is_zero(dtype, order, deflate, tmp_path):
    top = np.iinfo(dtype).max
    values = DRAW.integers(0, top + 1, (3, 5)).astype(dtype)
    path = write(tmp_path / "x", tiff(values, order, photometric=0, deflate=deflate))
    check(read_file(path), 1 - unit(values, "L", top))


@pytest.mark.parametrize("order", "<>")
def test_tiff_files_of_16_and_32_bits_and_floats(order, tmp_path):
    for dtype, sample_format in ((np.uint16, 1), (np.int16, 2), (np.int32, 2)):
        values = DRAW.integers(0, 30000, (3, 5)).astype(dtype)
        path = write(tmp_path / "x", tiff(values, order, sample_format=sample_format))
        check(read_file(path), unit(values, "L", 65535))
    floats = DRAW.random((3, 5)).astype(np.float32)
    check(read_file(write(tmp_path / "x", tiff(floats, order, sample_format=3))), floats[..., None])


# --- transparency


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_level_is_white(depth, tmp_path):
    values = DRAW.integers(0, 2**depth, (4, 5))
    level = int(values[0, 0])
    path = write(tmp_path / "x", png(values, depth, 0, transparent=level.to_bytes(2, "big")))
    wanted = unit(values, "L", 2**depth - 1)
    wanted[values == level] = 1
    check(read_file(path), wanted)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_is_white(depth, tmp_path):
    values = DRAW.integers(0, 2**depth, (4, 5, 3))
    transparent = values[1, 2].astype(">u2").tobytes()
    wanted = unit(values, "RGB", 2**depth - 1)
    wanted[1, 2] = 1
    check(read_file(write(tmp_path / "x", png(values, depth, 2, transparent=transparent))), wanted)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("alphas", [None, b"\x00", b"\xff\x40"])
def test_palettes_with_transparent_entries(depth, alphas, tmp_path):
    palette = DRAW.integers(0, 256, (2**depth, 3), dtype=np.uint8)
    values = DRAW.integers(0, 2**depth, (4, 5))
    path = write(
        tmp_path / "x", png(values, depth, 3, palette=palette.tobytes(), transparent=alphas)
    )
    given = np.frombuffer(alphas or b"", dtype=np.uint8)
    opacity = np.concatenate([given, np.full(2**depth - len(given), 255)])[values][..., None]
    check(
        read_file(path), unit(np.concatenate([palette[values], opacity], -1), "RGBA", 255), 2 * BYTE
    )


# --- several frames


def frames(mode):
    return stored(mode), [pillow(stored(mode), mode) for _ in range(2)]


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize(
    "kind, mode, options",
    [
        ("PNG", "RGB", {}),
        ("PNG", "RGB", {"default_image": True}),
        ("WEBP", "RGB", {"lossless": True}),
        ("TIFF", "RGB", {}),
        ("TIFF", "L", {}),
        ("TIFF", "I;16", {"compression": "tiff_lzw"}),
    ],
)
def test_the_first_of_several_frames_is_read_and_turned(kind, mode, options, orientation, tmp_path):
    first, others = frames(mode)
    path = tmp_path / "x"
    pillow(first, mode).save(
        path, kind, save_all=True, append_images=others, exif=exif(orientation), **options
    )
    wanted = TURNED[orientation](unit(first, mode))
    check(read_file(path), wanted)
    with Image.open(path) as image:
        image.seek(2)
        check(from_pil(image), wanted)
        assert image.tell() == 2


def test_the_first_frame_of_a_gif_is_read(tmp_path):
    first, others = frames("L")
    pillow(first, "L").save(tmp_path / "x", "GIF", save_all=True, append_images=others)
    check(read_file(tmp_path / "x", 3), unit(first, "L").repeat(3, -1))


# --- refused with the path


def signed_bytes():
    return tiff(DRAW.integers(-128, 128, (3, 5)).astype(np.int8), "<", sample_format=2)


def premultiplied():
    return tiff(DRAW.integers(0, 65536, (3, 5, 4)).astype(np.uint16), "<", photometric=2, extra=1)


def white_is_zero_in_floats():
    return tiff(DRAW.random((3, 5)).astype(np.float32), "<", photometric=0, sample_format=3)


def floats_beyond_one():
    return tiff(2 + DRAW.random((3, 5)).astype(np.float32), "<", sample_format=3)


def not_a_number():
    return tiff(np.full((3, 5), np.nan, np.float32), "<", sample_format=3)


def negative():
    return tiff(np.full((3, 5), -1, np.int16), "<", sample_format=2)


def wide():
    return tiff(np.full((3, 5), 2**20, np.uint32), "<")


def deep_ppm():
    return b"P6 5 3 4095\n" + bytes(90)


def deep_sgi():
    file = io.BytesIO()
    pillow(stored("RGB"), "RGB").save(file, "SGI", bpc=2)
    return file.getvalue()


def deep_jpeg2000():
    """An 8-bit file whose header says 12 bits: the header alone decides."""
    file = io.BytesIO()
    pillow(stored("RGB"), "RGB").save(file, "JPEG2000", no_jp2=True)
    data = bytearray(file.getvalue())
    data[42:51:3] = bytes([11] * 3)
    return bytes(data)


def truncated():
    file = io.BytesIO()
    pillow(stored("RGB", 64, 64), "RGB").save(file, "JPEG")
    return file.getvalue()[:-200]


REFUSED = {
    signed_bytes: "signed bytes",
    premultiplied: "only the upper 8",
    white_is_zero_in_floats: "0 is white",
    floats_beyond_one: "wanted 0..1",
    not_a_number: "NaN",
    negative: "16 bits",
    wide: "16 bits",
    deep_ppm: "only the upper 8",
    deep_sgi: "only the upper 8",
    deep_jpeg2000: "only the upper 8",
    truncated: "cannot be decoded",
}


@pytest.mark.parametrize("made", REFUSED)
def test_what_cannot_be_read_right_is_refused_with_its_path(made, tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as some libraries do
    path = write(tmp_path / "shot.img", made())
    with pytest.raises(DataError, match=rf"shot\.img.*{REFUSED[made]}"):
        read_file(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
