"""Images as integers: rounding is idempotent, off by half a step at most, and clips nothing."""

import pytest
import torch
from distilled_cases import assert_same_set, distilled, parts
from hypothesis import given, settings
from hypothesis import strategies as st

from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError
from datadistill.quantization import Quantization


def step_of(images, bits):
    return float(images.max() - images.min()) / (2**bits - 1)


@pytest.mark.parametrize("bits", [8, 4, 1])
def test_the_error_is_at_most_half_a_step_and_somewhere_not_zero(bits):
    d = distilled()
    q = d.quantized(bits)
    error = (q.images - d.images).abs().max()
    assert 0 < float(error) <= 0.5 * step_of(d.images, bits) + 1e-6
    assert len(q.images.unique()) <= 2**bits
    assert len(q.images.unique()) > 2 ** (bits - 1)


def test_twice_is_once():
    once = distilled().quantized(8)
    twice = once.quantized(8)
    assert torch.equal(once.images, twice.images)
    assert once.quantization == twice.quantization


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40), bits=st.integers(1, 8)
)
def test_any_images(values, bits):
    images = torch.tensor(values)
    q = Quantization.of(images, bits)
    rounded = q.round(images)
    # float32 rounds the result by at most 2^-24 of its size
    allowed = 0.5 * step_of(images, bits) + 2**-23 * float(images.abs().max())
    assert float((rounded - images).abs().max()) <= allowed
    assert float(rounded.min()) == float(images.min())
    assert float(rounded.max()) == float(images.max())
    assert torch.equal(Quantization.of(rounded, bits).round(rounded), rounded)


def test_values_outside_0_to_1_survive():
    d = distilled()
    assert float(d.images.min()) < -3
    assert float(d.images.max()) > 3
    q = d.quantized(8)
    assert float(q.images.min()) == float(d.images.min())
    assert float(q.images.max()) == float(d.images.max())


def test_stored_as_bytes_and_read_back_the_same(tmp_path):
    q = distilled(fixed=True).quantized(8)
    stored, _ = parts(q)
    assert stored["images"].dtype == torch.uint8
    assert stored["images"].shape == (8, 1, 6, 6)
    q.save(tmp_path / "q")
    loaded = DistilledDataset.load(tmp_path / "q")
    assert_same_set(loaded, q)
    assert_same_set(loaded.quantized(8), DistilledDataset.load(tmp_path / "q").quantized(8))


def test_the_original_keeps_its_images_and_its_accuracies():
    d, reference = distilled(), distilled()
    q = d.quantized(8)
    assert q.accuracies == {}, "accuracies measured on other images"
    q.accuracies["test"] = 1.0
    q.origin["recipe"] = "other"
    assert_same_set(d, reference)


def test_equal_images_are_kept():
    images = torch.full((2, 1, 3, 3), -7.25)
    q = Quantization.of(images, 8)
    assert torch.equal(q.round(images), images)


@pytest.mark.parametrize("bits", [0, 9, -1, 2.0])
def test_other_numbers_of_bits_are_refused(bits):
    with pytest.raises(UsageError, match=r"bits is .*1 to 8"):
        distilled().quantized(bits)


# --- bytes


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # 8 images of 36 pixels, 8 labels, 4 step sizes
        ({}, 8 * 36 * 4 + 8 * 8 + 4 * 4),
        ({"soft": True}, 8 * 36 * 4 + 8 * 4 * 4 + 4 * 4),
        ({"per_tensor": True}, 8 * 36 * 4 + 8 * 8 + 4 * 4 * 4),
        ({"bits": 8}, 8 * 36 + 8 * 8 + 4 * 4),
        ({"bits": 8, "soft": True, "fixed": True}, 8 * 36 + 8 * 4 * 4 + 4 * 4),
    ],
)
def test_bytes(kind, expected):
    d = distilled(**kind)
    assert d.bytes == expected
    # weights and biases of 36 -> 5 -> 4
    assert d.bytes_theta_0 == (4 * (36 * 5 + 5 + 5 * 4 + 4) if kind.get("fixed") else 0)
