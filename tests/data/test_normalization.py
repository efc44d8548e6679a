"""Normalization: what goes in, what comes out, and back."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from datadistill.data.images import from_pil, to_channels, to_size, unit_range
from datadistill.data.normalization import Normalization, measure
from datadistill.errors import DataError

RGB = Normalization((0.5, 0.4, 0.3), (0.2, 0.3, 0.25), 8, 3)
GREY = Normalization((0.1307,), (0.3081,), None, 1)


def bytes_of(shape, seed=0):
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def test_inverse_brings_the_images_back():
    x = bytes_of((5, 3, 8, 8)).float() / 255
    assert (RGB.inverse(RGB(x)) - x).abs().max() < 1e-6
    y = torch.tensor([[[3.0]]])
    assert GREY.inverse(y).item() == pytest.approx(3 * 0.3081 + 0.1307)  # above 1: not clipped


def test_the_arithmetic_is_subtract_and_divide_by_channel():
    y = RGB(torch.full((1, 3, 8, 8), 0.6))
    assert y[0, :, 0, 0].tolist() == pytest.approx([0.5, 2 / 3, 1.2])


def test_bytes_and_floats_agree_and_nothing_is_changed_in_place():
    x = bytes_of((4, 3, 8, 8))
    before = x.clone()
    as_float = x.float() / 255
    copy = as_float.clone()
    torch.testing.assert_close(RGB(as_float), RGB(x))
    torch.testing.assert_close(RGB(as_float.double()), RGB(x))
    assert torch.equal(x, before) and torch.equal(as_float, copy)
    assert RGB(x).dtype == torch.float32 and RGB(x.permute(0, 1, 3, 2)).is_contiguous()


def test_one_image_and_a_batch():
    x = bytes_of((4, 3, 8, 8))
    torch.testing.assert_close(RGB(x[2]), RGB(x)[2])


def test_pillow_images_equal_their_tensors():
    x = bytes_of((2, 8, 8, 3))
    images = [Image.fromarray(picture.numpy()) for picture in x]
    torch.testing.assert_close(RGB(images), RGB(x.permute(0, 3, 1, 2)))
    torch.testing.assert_close(RGB(images[1]), RGB(x[1].permute(2, 0, 1)))


def test_gradients_pass():
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    RGB(x).sum().backward()
    assert torch.allclose(x.grad[0, :, 0, 0], 1 / torch.tensor(RGB.std))


@pytest.mark.parametrize(
    "images, words",
    [
        (torch.zeros(2, 1, 8, 8), "3 channel"),
        (torch.zeros(8, 8), "3 channel"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "int64"),
        (torch.full((3, 8, 8), 255.0), "divide by 255"),
        (torch.full((3, 8, 8), -0.5), "0..1"),
        (torch.full((3, 8, 8), float("nan")), r"NaN.*\[0, 0, 0\]"),
        (np.zeros((3, 8, 8)), "ndarray"),
        ([], "list"),
    ],
)
def test_what_does_not_fit_is_refused(images, words):
    with pytest.raises(DataError, match=words):
        RGB(images)
    with pytest.raises(DataError, match="3 channel"):
        RGB.inverse(torch.zeros(2, 1, 8, 8))


def test_pictures_of_several_sizes_need_a_size():
    pictures = [Image.new("L", (8, 8)), Image.new("L", (9, 8))]
    with pytest.raises(DataError, match="several sizes"):
        GREY(pictures)
    assert Normalization((0.1,), (0.3,), 4, 1)(pictures).shape == (2, 1, 4, 4)


def test_the_dict_is_strict_and_goes_round():
    for n in (RGB, GREY):
        assert Normalization.from_dict(n.as_dict()) == n
    assert RGB.as_dict()["kind"] == "mean-std"


@pytest.mark.parametrize(
    "change, words",
    [
        ({"kind": "zca"}, "kind is 'zca'"),
        ({"extra": 1}, "unknown: .'extra'"),
        ({"mean": [0.5]}, "mean"),
        ({"mean": [0.5, 0.5, "0.5"]}, "finite"),
        ({"std": [0.5, 0.5, 0.0]}, "above 0"),
        ({"std": [0.5, 0.5, float("inf")]}, "finite"),
        ({"mean": 0.5}, "mean"),
        ({"size": 0}, "size"),
        ({"size": 2.5}, "size"),
        ({"channels": True}, "channels"),
        ({"channels": "3"}, "channels"),
    ],
)
def test_a_wrong_dict_is_refused(change, words):
    with pytest.raises(DataError, match=words):
        Normalization.from_dict({**RGB.as_dict(), **change})
    for field in RGB.as_dict():
        with pytest.raises(DataError, match=f"missing: .'{field}'"):
            Normalization.from_dict({k: v for k, v in RGB.as_dict().items() if k != field})
    with pytest.raises(DataError, match="a list"):
        Normalization.from_dict([])


def test_measured_matches_numpy():
    x = torch.rand(50, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    n = measure(x, 6)
    assert n.mean == pytest.approx(x.numpy().mean((0, 2, 3)), abs=6e-5)
    assert n.std == pytest.approx(x.numpy().std((0, 2, 3)), abs=6e-5)
    assert measure(torch.zeros(3, 1, 2, 2), 2).std == (1.0,)


def test_channels_by_repetition_and_by_luma():
    grey = torch.rand(2, 1, 4, 4)
    assert torch.equal(to_channels(grey, 3), grey.repeat(1, 3, 1, 1))
    assert torch.allclose(to_channels(grey.repeat(1, 3, 1, 1), 1), grey, atol=1e-6)
    colours = torch.eye(3).view(3, 3, 1, 1)
    assert to_channels(colours, 1).flatten().tolist() == pytest.approx([0.299, 0.587, 0.114])
    with pytest.raises(DataError, match="4 channels and 3"):
        to_channels(torch.zeros(4, 2, 2), 3)


def test_resize_keeps_constants_crops_the_middle_and_averages():
    assert torch.allclose(to_size(torch.full((2, 1, 20, 31), 0.3), 8), torch.tensor(0.3), atol=1e-6)
    assert to_size(torch.zeros(3, 9, 4), 16).shape == (3, 16, 16)
    wide = torch.zeros(1, 4, 12)
    wide[..., 4:8] = 1
    assert torch.equal(to_size(wide, 4), torch.ones(1, 4, 4))
    checkers = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(8, 8)[None]
    # without antialiasing it would be 0, 1 or moire
    assert (to_size(checkers, 4) - 0.5).abs().max() < 0.1
    assert to_size(torch.zeros(0, 1, 4, 4), 8).shape == (0, 1, 8, 8)


def test_modes():
    def value(image, channels=None):
        return from_pil(image, channels)[:, 0, 0].tolist()

    assert value(Image.new("1", (2, 2), 1)) == [1.0]
    assert value(Image.new("L", (2, 2), 51)) == pytest.approx([0.2])
    assert value(Image.new("L", (2, 2), 51), 3) == pytest.approx([0.2] * 3)
    assert value(Image.new("RGBA", (2, 2), (255, 0, 0, 0))) == [1.0] * 3  # transparent red on white
    assert value(Image.new("RGBA", (2, 2), (255, 0, 0, 255))) == [1.0, 0.0, 0.0]
    assert value(Image.new("LA", (2, 2), (0, 0))) == [1.0]
    assert value(Image.new("CMYK", (2, 2), (0, 255, 255, 0))) == [1.0, 0.0, 0.0]
    assert value(Image.fromarray(np.full((2, 2), 13107, np.uint16))) == pytest.approx([0.2])
    assert value(Image.fromarray(np.full((2, 2), 65535, np.int32))) == [1.0]
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 0, 255, 0])
    assert value(palette) == [0.0, 1.0, 0.0]
    palette.info["transparency"] = 1
    assert value(palette) == [1.0] * 3
    assert value(Image.new("RGB", (2, 2), (0, 255, 0)), 1) == pytest.approx([0.587])
    with pytest.raises(DataError, match="16 bits"):
        value(Image.fromarray(np.full((2, 2), 70000, np.int32)))
    with pytest.raises(DataError, match="floating-point"):
        value(Image.fromarray(np.full((2, 2), 7.0, np.float32)))


def test_the_first_frame_of_an_animation():
    file = io.BytesIO()
    frames = [Image.new("L", (4, 4), shade) for shade in (255, 0)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    image = Image.open(file)
    image.seek(1)
    assert from_pil(image, 1).min() == 1


def test_the_rotation_tag_is_obeyed():
    file = io.BytesIO()
    tags = Image.Exif()
    tags[0x0112] = 6  # turn by 90 degrees
    Image.new("RGB", (6, 4)).save(file, "JPEG", exif=tags)
    assert from_pil(Image.open(file)).shape == (3, 6, 4)


def test_unit_range_names_what_it_refuses():
    with pytest.raises(DataError, match=r"masks are torch.bool"):
        unit_range(torch.zeros(2, dtype=torch.bool), "masks")


def deep(low, high, share=0.5, n=20):
    """Images whose pixels are one of two 16-bit values."""
    draw = torch.rand((n, 1, 16, 16), generator=torch.Generator().manual_seed(0)) < share
    return torch.where(draw, high / 65535, low / 65535).float()


@pytest.mark.parametrize(
    "images",
    [
        *(
            deep(low, high)
            for low, high in [(0, 1), (0, 12), (100, 102), (0, 4095), (50000, 50001)]
        ),
        deep(0, 1, share=0.002),
        deep(65534, 65535),
        deep(0, 65535),
        deep(0, 1) * 1e-6,
        deep(0, 1) * 1e-20,
    ],
)
def test_images_of_every_range_are_brought_to_deviation_one(images):
    seen = measure(images, 16)(images).double()
    # pixels are float32: where the deviation is a few units in the last place, it is that coarse
    step = float(torch.finfo(torch.float32).eps * images.max() / images.std())
    assert seen.std().item() == pytest.approx(1, abs=5e-3 + step)
    assert seen.mean().item() == pytest.approx(0, abs=5e-3 + step)


def test_16_bit_masks_look_like_the_same_masks_in_8_bits():
    small, large = deep(0, 1), deep(0, 65535)
    difference = measure(small, 16)(small) - measure(large, 16)(large)
    assert difference.abs().max() < 2e-3  # four digits of mean and deviation


def test_statistics_have_four_decimals_while_these_are_enough():
    x = torch.rand(50, 1, 6, 6, generator=torch.Generator().manual_seed(1)) * 0.2
    n = measure(x, 6)
    assert n.std[0] > 0.01 and n.mean == (round(x.double().mean().item(), 4),)
    assert n.std == (round(x.double().std(correction=0).item(), 4),)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3, 1 / 65535])
def test_a_constant_channel_is_centred_and_no_more(value):
    for images in (torch.full((3, 1, 9, 9), value), to_size(torch.full((3, 1, 40, 31), value), 9)):
        n = measure(images, 9)
        assert n.std == (1.0,) and n(images).abs().max() <= 5.1e-5


def test_a_constant_channel_beside_others_leaves_them_alone():
    images = torch.cat([deep(0, 1), torch.full((20, 1, 16, 16), 0.5), deep(0, 65535)], 1)
    n = measure(images, 16)
    assert n.std[1] == 1.0 and n(images)[:, (0, 2)].std((0, 2, 3)).tolist() == pytest.approx(
        [1, 1], abs=5e-3
    )


@pytest.mark.parametrize("scale", [1e-31, 1e-38, 1e-40])
def test_deviations_that_float32_cannot_divide_by_are_refused(scale):
    with pytest.raises(DataError, match="scale the images"):
        measure(deep(0, 65535) * scale, 16)
    with pytest.raises(DataError, match="float32 can divide by"):
        Normalization((0.0,), (scale,), 16, 1)
