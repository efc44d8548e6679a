"""Augmentations only move pixels, image by image, as the generator says."""

import pytest
import torch

from datadistill.data import AUGMENTATIONS, augment
from datadistill.data.augmentation import check_augmentations
from datadistill.errors import DataError, UsageError


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


IMAGES = torch.randn(64, 3, 9, 11, generator=draw(7))


@pytest.mark.parametrize("kinds", [("crop",), ("flip",), ("crop", "flip")])
def test_shape_device_determinism(kinds):
    before = IMAGES.clone()
    out = augment(IMAGES, draw(), kinds)
    assert out.shape == IMAGES.shape and out.dtype == IMAGES.dtype
    assert torch.equal(out, augment(IMAGES, draw(), kinds))
    assert not torch.equal(out, augment(IMAGES, draw(1), kinds))
    assert torch.equal(IMAGES, before)


def test_flip_twice_with_the_same_coins_is_the_identity():
    once = augment(IMAGES, draw(), ("flip",))
    assert torch.equal(augment(once, draw(), ("flip",)), IMAGES)
    same = (once == IMAGES).flatten(1).all(1)
    mirrored = (once == IMAGES.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all() and 10 < mirrored.sum() < 54


def test_crop_of_a_constant_image_is_constant():
    shades = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 2, 8, 8)
    assert torch.equal(augment(shades, draw(), ("crop",)), shades)


def test_crop_is_a_window_of_the_reflected_image():
    height, width = IMAGES.shape[-2:]
    out = augment(IMAGES, draw(), ("crop",))
    padded = torch.nn.functional.pad(IMAGES, (4, 4, 4, 4), mode="reflect")
    found = set()
    for image, big in zip(out, padded, strict=True):
        places = [
            (y, x)
            for y in range(9)
            for x in range(9)
            if torch.equal(image, big[:, y : y + height, x : x + width])
        ]
        assert places
        found.add(places[0])
    assert len(found) > 30  # 64 draws from 81 places
    assert {y for y, _ in found} == {x for _, x in found} == set(range(9))


def test_nothing_asked_nothing_done():
    assert augment(IMAGES, draw(), ()) is IMAGES


def test_refusals():
    assert set(AUGMENTATIONS) == {"crop", "flip"}
    with pytest.raises(UsageError, match="did you mean crop"):
        augment(IMAGES, draw(), ("corp",))
    for call in (
        lambda: augment(torch.zeros(1, 1, 4, 9), draw(), ("crop",)),
        lambda: check_augmentations(("crop",), (1, 4, 9)),
    ):
        with pytest.raises(DataError, match=r"4x9.*above 4"):
            call()
