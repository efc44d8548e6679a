"""Strategies transform as published, batches of any size alike, and let gradients through."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as vision

from datadistill.data import SOURCES, augment, transforms
from datadistill.data.augmentation import check_augmentations
from datadistill.data.class_names import DIGIT_SETS, DIGITS
from datadistill.data.random_transforms import FAMILIES, Draws
from datadistill.data.siamese import Strategy, apply_strategy, check_strategy
from datadistill.errors import DataError, UsageError


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


IMAGES = torch.randn(6, 3, 8, 10, generator=draw(7))
EVERY = ["idc:translate"] + [
    f"{family}:{name}" for family in ("dsa", "dc", "frepo") for name in FAMILIES[family].transforms
]
PUBLISHED = [
    "color_crop_cutout_flip_scale_rotate",
    "all:color_crop_cutout_flip_scale_rotate",
    "idc:color_crop_cutout_flip_scale_rotate_translate",
    "dc:crop_scale_rotate",
    "frepo:flip_color_crop_rotate_translate_cutout",
]


def each(*values):
    return torch.tensor(values)


@pytest.mark.parametrize("strategy", PUBLISHED)
@pytest.mark.parametrize("same", [True, False])
def test_same_generator_same_bytes(strategy, same):
    before = IMAGES.clone()
    outs = [apply_strategy(IMAGES, strategy, draw(seed), same) for seed in (3, 3, 4)]
    assert torch.equal(outs[0], outs[1]) and not torch.equal(outs[0], outs[2])
    assert outs[0].shape == IMAGES.shape and outs[0].dtype == IMAGES.dtype
    assert torch.equal(IMAGES, before)


# DC's transforms let the mean of the batch come in
@pytest.mark.parametrize("strategy", [s for s in EVERY + PUBLISHED if not s.startswith("dc:")])
def test_batches_of_two_sizes_are_treated_alike(strategy):
    synthetic = torch.cat([IMAGES[4:5], torch.randn(2, 3, 8, 10)])
    for seed in range(8):
        real = apply_strategy(IMAGES, strategy, draw(seed))
        torch.testing.assert_close(apply_strategy(synthetic, strategy, draw(seed))[0], real[4])


@pytest.mark.parametrize("strategy", EVERY + PUBLISHED)
def test_draws_are_one_a_batch_or_one_an_image(strategy):
    twins = IMAGES[:1].repeat(16, 1, 1, 1)
    one = apply_strategy(twins, strategy, draw(1))
    assert (one == one[:1]).all()
    several = apply_strategy(twins, strategy, draw(1), same=False)
    assert not (several == several[:1]).all()


@pytest.mark.parametrize("strategy", EVERY)
@pytest.mark.parametrize("same", [True, False])
def test_gradients_against_finite_differences(strategy, same):
    images = torch.randn(2, 2, 5, 5, dtype=torch.float64, generator=draw(1), requires_grad=True)

    def f(x):
        return apply_strategy(x, strategy, draw(5), same)

    assert torch.autograd.gradcheck(f, images)
    # and once more, as in an unrolled loop
    assert torch.autograd.gradgradcheck(lambda x: f(x).pow(3), images)


@pytest.mark.parametrize("strategy", EVERY)
def test_float64_has_the_draws_of_float32(strategy):
    double = apply_strategy(IMAGES.double(), strategy, draw(2), same=False)
    single = apply_strategy(IMAGES, strategy, draw(2), same=False)
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-4)


def test_parameters_of_the_identity():
    zero, one = torch.zeros(1), torch.ones(1)
    nothing = torch.zeros(1, dtype=torch.int64)
    height, width = IMAGES.shape[-2:]
    assert torch.equal(transforms.change_brightness(IMAGES, zero), IMAGES)
    assert torch.equal(transforms.move(IMAGES, nothing, nothing), IMAGES)
    assert torch.equal(transforms.mirror(IMAGES, torch.zeros(1, dtype=torch.bool)), IMAGES)
    assert torch.equal(transforms.cut_out(IMAGES, nothing, nothing, 0, 4), IMAGES)
    for change in (transforms.change_saturation, transforms.change_contrast):
        torch.testing.assert_close(change(IMAGES, one), IMAGES)
    for matrix in (
        transforms.scaling(one, one),
        transforms.rotation(zero, height, width),
        transforms.zoom(one, zero, zero),
    ):
        for padding in ("zeros", "border"):
            warped = transforms.warp(IMAGES.double(), matrix, padding)
            torch.testing.assert_close(warped, IMAGES.double(), rtol=0, atol=1e-12)


def test_mirrored_twice_is_the_identity():
    once = apply_strategy(IMAGES, "dsa:flip", draw(1), same=False)
    assert torch.equal(apply_strategy(once, "dsa:flip", draw(1), same=False), IMAGES)
    coins = torch.tensor([True, False] * 3)
    mirrored = transforms.mirror(IMAGES, coins)
    assert torch.equal(mirrored[0], vision.horizontal_flip(IMAGES[0]))
    assert torch.equal(mirrored[1], IMAGES[1])


def test_moves_by_hand():
    moved = transforms.move(IMAGES, torch.tensor([2]), torch.tensor([-3]))
    assert torch.equal(moved[:, :, 2:, :-3], IMAGES[:, :, :-2, 3:])
    assert (moved[:, :, :2] == 0).all() and (moved[:, :, :, -3:] == 0).all()


@pytest.mark.parametrize("side", [28, 32, 9])
def test_crop_moves_by_up_to_an_eighth(side):
    size = int(0.125 * side + 0.5)
    images = torch.arange(1.0, side * side + 1).view(1, 1, side, side).expand(400, 1, side, side)
    out = apply_strategy(images, "dsa:crop", draw(), same=False)
    seen = set()
    for image in out[:, 0]:
        kept = image.nonzero()
        y, x = kept[0].tolist()
        source = int(image[y, x]) - 1
        seen.add((y - source // side, x - source % side))
    assert {y for y, _ in seen} == {x for _, x in seen} == set(range(-size, size + 1))


@pytest.mark.parametrize("side", [28, 32, 9])
def test_cutout_zeroes_half_a_side_around_any_pixel(side):
    size = int(0.5 * side + 0.5)
    out = apply_strategy(torch.ones(900, 1, side, side), "dsa:cutout", draw(), same=False)
    tops, heights = set(), set()
    for image in out[:, 0]:
        rows, columns = (image == 0).any(1), (image == 0).any(0)
        assert torch.equal(image == 0, rows[:, None] & columns[None])
        lines = rows.nonzero().flatten().tolist()
        assert lines == list(range(lines[0], lines[-1] + 1))
        tops.add(lines[0])
        heights.add(len(lines))
    assert max(heights) == size and min(heights) == size - size // 2
    # the centre is any pixel, or for an even side the edge behind the last
    assert tops == {max(0, centre - size // 2) for centre in range(side + 1 - size % 2)}
    whole = transforms.cut_out(torch.ones(1, 1, 9, 9), torch.tensor([2]), torch.tensor([3]), 4, 5)
    expected = torch.ones(9, 9)
    expected[2:6, 3:8] = 0
    assert torch.equal(whole[0, 0], expected)


def test_cutout_of_frepo_lies_in_the_image():
    out = apply_strategy(torch.ones(300, 2, 28, 32), "frepo:cutout", draw(), same=False)
    assert ((out == 0).sum((1, 2, 3)) == 2 * 7 * 8).all()
    tops = {int(image[0].amin(1).argmin()) for image in out}
    assert tops == set(range(28 - 7 + 1))


def test_warps_by_hand():
    """The bilinear rule of the docstring, pixel by pixel."""
    image = IMAGES[0].double()
    channels, height, width = image.shape
    matrix = torch.tensor([[1.1, 0.2, -0.1], [-0.3, 0.8, 0.25]], dtype=torch.float64)
    for padding in ("zeros", "border"):
        warped = transforms.warp(image[None], matrix[None], padding)[0]
        for v in range(height):
            for u in range(width):
                p = [(2 * u + 1) / width - 1, (2 * v + 1) / height - 1, 1]
                x, y = (matrix @ torch.tensor(p, dtype=torch.float64)).tolist()
                x, y = ((x + 1) * width - 1) / 2, ((y + 1) * height - 1) / 2
                if padding == "border":
                    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
                left, top = math.floor(x), math.floor(y)
                value = torch.zeros(channels, dtype=torch.float64)
                for j in (top, top + 1):
                    for i in (left, left + 1):
                        if 0 <= i < width and 0 <= j < height:
                            value += (1 - abs(x - i)) * (1 - abs(y - j)) * image[:, j, i]
                torch.testing.assert_close(warped[:, v, u], value)


@pytest.mark.parametrize("angle", [-40.0, 15.0, 90.0])
def test_rotation_is_that_of_torchvision(angle):
    images = F.avg_pool2d(torch.randn(2, 3, 34, 42, generator=draw()), 3, 1).double()
    matrix = transforms.rotation(torch.tensor([angle], dtype=torch.float64), 32, 40)
    bilinear = vision.InterpolationMode.BILINEAR
    torch.testing.assert_close(
        transforms.warp(images, matrix), vision.rotate(images, angle, bilinear), rtol=0, atol=1e-4
    )


def test_colours_are_those_of_torchvision():
    """Up to its luma weights, and away from 0 and 1, where it clamps."""
    grey = 0.4 + 0.2 * torch.rand(2, 1, 6, 6, generator=draw())
    for factor in (0.5, 1.5):
        contrast = transforms.change_contrast(grey, each(factor))
        expected = torch.stack([vision.adjust_contrast(x, factor) for x in grey])
        torch.testing.assert_close(contrast, expected)
    # a colour whose mean is its luma: 0.2989 r + 0.587 g + 0.114 b = (r + g + b) / 3
    r, g = (0.02 * torch.randn(2, 2, 6, 6, generator=draw())).unbind(1)
    b = ((0.2989 - 1 / 3) * r + (0.587 - 1 / 3) * g) / (1 / 3 - 0.114)
    colours = 0.5 + torch.stack([r, g, b], 1)
    torch.testing.assert_close(
        transforms.change_saturation(colours, each(1.7)),
        vision.adjust_saturation(colours, 1.7),
        rtol=0,
        atol=1e-4,
    )


def test_saturation_leaves_grey_images():
    torch.testing.assert_close(
        transforms.change_saturation(IMAGES[:, :1], each(0.3)), IMAGES[:, :1]
    )


@pytest.mark.parametrize(
    "strategy, low, high",
    [("dsa:scale", 1 / 1.2, 1.2), ("dc:scale", 1 / 1.2, 1 / 0.8)],
)
def test_scales_read_within_the_published_range(strategy, low, high):
    """A ramp shows where it was read: x becomes s x in the middle."""
    ramp = ((2 * torch.arange(20.0) + 1) / 20 - 1).double().expand(500, 2, 20, 20).clone()
    ramp[:, 1] = ramp[:, 0].transpose(-1, -2)
    out = apply_strategy(ramp, strategy, draw(), same=False)
    across = out[:, 0, 10, 10] / ramp[:, 0, 10, 10]
    along = out[:, 1, 10, 10] / ramp[:, 1, 10, 10]
    for factor in (across, along):
        assert low <= factor.min() < low + 0.02 and high - 0.02 < factor.max() <= high
    assert not torch.allclose(across, along)


def test_the_mean_of_the_batch_comes_in_with_dc():
    constant = torch.full((50, 3, 12, 12), 0.7)
    for name in ("crop", "rotate"):
        out = apply_strategy(constant, f"dc:{name}", draw(), same=False)
        torch.testing.assert_close(out, constant)
    assert (apply_strategy(constant, "dc:scale", draw(), same=False) == 0).any()


def test_one_or_all_of_the_names():
    shades = torch.full((1, 1, 16, 16), 2.0)
    ones = [apply_strategy(shades, "color_cutout", draw(seed)) for seed in range(30)]
    cut = [bool((x == 0).any()) for x in ones]
    colour = [float(x.max()) != 2.0 for x in ones]
    assert all(a != b for a, b in zip(cut, colour, strict=True)) and 5 < sum(cut) < 25
    for seed in range(10):
        x = apply_strategy(shades, "all:color_cutout", draw(seed))
        assert (x == 0).any() and float(x.max()) != 2.0


def test_all_are_applied_in_the_order_of_the_names():
    first = apply_strategy(torch.ones(1, 1, 16, 16), "all:color_cutout", draw(1))
    then = apply_strategy(torch.ones(1, 1, 16, 16), "all:cutout_color", draw(1))
    assert (first == 0).any() and not (then == 0).any()


def test_idc_cuts_and_colours_in_any_case():
    shades = torch.full((1, 1, 16, 16), 2.0)
    for seed in range(10):
        # cutout comes last, so its zeros stay
        x = apply_strategy(shades, "idc:cutout_color_crop_rotate", draw(seed))
        assert (x == 0).sum() >= 16 and float(x.max()) != 2.0
    x = apply_strategy(shades, "idc:color", draw())
    assert (x == x[..., :1, :1]).all() and float(x[0, 0, 0, 0]) != 2.0


def test_dc_draws_another_transform_for_each_image():
    images = torch.rand(1, 1, 12, 12, generator=draw()).expand(60, 1, 12, 12)
    generator = draw(3)
    choice = Draws(images, 60, generator).integers(0, 1)
    out = apply_strategy(images, "dc:crop_rotate", draw(3), same=False)
    transform = FAMILIES["dc"].transforms
    cropped = transform["crop"](images, Draws(images, 60, generator))
    rotated = transform["rotate"](images, Draws(images, 60, generator))
    assert 0 < choice.sum() < 60
    torch.testing.assert_close(out[choice == 0], cropped[choice == 0])
    torch.testing.assert_close(out[choice == 1], rotated[choice == 1])


def test_strategies_as_augmentations_of_real_batches():
    out = augment(IMAGES, draw(2), ("dc:scale_rotate", "flip"))
    generator = draw(2)
    by_hand = apply_strategy(IMAGES, "dc:scale_rotate", generator, same=False)
    assert torch.equal(out, augment(by_hand, generator, ("flip",)))


def test_nothing_named_nothing_done():
    for strategy in ("", "none", "dc:none", Strategy(())):
        generator = draw()
        assert apply_strategy(IMAGES, strategy, generator) is IMAGES
        assert torch.equal(generator.get_state(), draw().get_state())
    assert apply_strategy(IMAGES[:0], "color_crop", draw(), same=False).shape == (0, 3, 8, 10)


@pytest.mark.parametrize("text", [*PUBLISHED, "dsa:crop", "frepo:crop", ""])
def test_a_strategy_is_one_string(text):
    assert str(Strategy.parse(text)) == text
    assert str(Strategy.parse(f"dsa:{text}" if ":" not in text else text)) == text


@pytest.mark.parametrize(
    "text, pattern",
    [
        ("crop_rotat", "unknown augmentation 'rotat' in 'crop_rotat'; did you mean .*rotate"),
        ("dc:color_crop", "unknown augmentation 'color'.*known: crop, rotate, scale$"),
        ("dca:crop", "unknown family of augmentations 'dca'; did you mean .*dc"),
        ("crop_crop", "augmentation 'crop' is named twice in 'crop_crop'; name it once"),
        ("crop_", "unknown augmentation ''"),
    ],
)
def test_unknown_names_are_refused(text, pattern):
    for call in (check_strategy, lambda s: augment(IMAGES, draw(), (s,))):
        with pytest.raises(UsageError, match=pattern):
            call(text)


@pytest.mark.parametrize(
    "strategy, side", [("dsa:crop", 3), ("dc:crop", 4), ("cutout_color", 1), ("frepo:cutout", 3)]
)
def test_images_too_small_are_refused(strategy, side):
    pattern = rf"images are 9x{side}, and '\w+' .*at least {side + 1}"
    with pytest.raises(DataError, match=pattern):
        check_strategy(strategy, (1, 9, side))
    with pytest.raises(DataError, match=pattern):
        apply_strategy(torch.zeros(1, 1, 9, side), strategy, draw())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_strategy(strategy, (1, 9, side + 1)) == Strategy.parse(strategy)


def test_flipped_digits_are_warned_of():
    with pytest.warns(UserWarning, match=r"'color_flip_crop' flips digits \(svhn\).*drop 'flip'"):
        check_strategy("color_flip_crop", dataset="svhn")
    for kind in ("dsa:flip", "flip"):
        with pytest.warns(UserWarning, match=f"'{kind}' flips digits") as record:
            check_augmentations((kind,), (1, 28, 28), "mnist5k")
        assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_strategy("color_crop", dataset="mnist")
        check_strategy("color_flip_crop", dataset="cifar10")
    assert {name for name, source in SOURCES.items() if source.classes == DIGITS} == set(DIGIT_SETS)
