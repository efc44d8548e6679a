"""Attention transfer against the formulas written out, by hand and in numpy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kd_baselines.losses.attention import attention_map, attention_transfer_loss

FORMS = ("at_paper", "at_code", "jm")
NORMS = ("at_paper", "jm")


def features(seed, batch=5, channels=3, height=4, width=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, height, width, dtype=torch.float64, generator=generator)


def pixels(*values):
    return torch.tensor(values, dtype=torch.float64)[None, None, None]


def in_numpy(student, teacher, form, p=2):
    """The formulas, a sample at a time."""
    found = []
    for z_s, z_t in zip(student.detach().numpy(), teacher.numpy(), strict=True):
        a_s, a_t = (np.sum(np.abs(z) ** p, axis=0).ravel() for z in (z_s, z_t))
        d = a_s / np.linalg.norm(a_s) - a_t / np.linalg.norm(a_t)
        found.append(np.mean(d**2) if form == "at_code" else np.linalg.norm(d))
    return np.mean(found)


def test_two_pixels_by_hand():
    student, teacher = pixels(3.0, 4.0), pixels(2.0, 0.0)
    # maps (9, 16) / sqrt(337) and (1, 0)
    squared = 2 - 2 * 9 / math.sqrt(337)
    assert attention_map(student).tolist() == [[[9.0, 16.0]]]
    for form in NORMS:
        assert attention_transfer_loss(student, teacher, form).item() == pytest.approx(
            squared**0.5, rel=1e-11
        )
    assert attention_transfer_loss(student, teacher, "at_code").item() == pytest.approx(
        squared / 2, rel=1e-14
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_the_formulas_in_numpy(form, p):
    student, teacher = features(0), features(1, channels=7)
    found = attention_transfer_loss(student, teacher, form, p=p)
    assert float(found) == pytest.approx(in_numpy(student, teacher, form, p), rel=1e-10)


def test_the_authors_code():
    def at(z):
        return F.normalize(z.pow(2).mean(1).view(z.size(0), -1))

    student, teacher = features(2), features(3)
    expected = (at(student) - at(teacher)).pow(2).mean()
    assert torch.allclose(
        attention_transfer_loss(student, teacher, "at_code"), expected, rtol=1e-13, atol=0
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_scale_of_a_sample_does_not_matter(form):
    student, teacher = features(8), features(9)
    scale = torch.tensor([1e-6, -2.0, 1.0, 300.0, 1e6], dtype=torch.float64)[:, None, None, None]
    found = attention_transfer_loss(student * scale, teacher, form)
    assert torch.allclose(
        found, attention_transfer_loss(student, teacher, form), rtol=1e-12, atol=0
    )
    assert torch.allclose(
        attention_map(-3 * student, 3), 27 * attention_map(student, 3), rtol=1e-14, atol=0
    )


@pytest.mark.parametrize("form", NORMS)
def test_maps_are_at_most_a_right_angle_apart(form):
    apart = attention_transfer_loss(pixels(1.0, 0.0), pixels(0.0, -5.0), form)
    assert math.sqrt(2) <= float(apart) <= math.sqrt(2) + 1e-12
    for seed in range(20):
        assert (
            attention_transfer_loss(features(seed), features(seed + 50), form).item()
            <= math.sqrt(2) + 1e-12
        )


@pytest.mark.parametrize("form", FORMS)
def test_identical_maps_give_nothing_and_a_gradient_of_nothing(form):
    student = features(10).requires_grad_()
    # the map of -2 Z is the map of Z
    found = attention_transfer_loss(student, -2 * student.detach(), form)
    found.backward()
    assert 0 <= found.item() <= 1e-5
    assert float(student.grad.abs().max()) < 1e-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-18, 1e-6])
@pytest.mark.parametrize("form", FORMS)
def test_maps_of_nearly_nothing_have_a_finite_gradient(form, size, dtype):
    student = (features(11).to(dtype) * size).requires_grad_()
    for teacher in (features(12).to(dtype), torch.zeros(5, 3, 4, 6, dtype=dtype)):
        (gradient,) = torch.autograd.grad(attention_transfer_loss(student, teacher, form), student)
        assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("p", [1, 3])
def test_odd_powers_take_the_absolute_value(p):
    signed = torch.tensor([1.0, -1.0], dtype=torch.float64)[None, :, None, None]
    assert attention_map(signed, p).tolist() == [[[2.0]]]


def test_the_larger_map_is_averaged_down_as_a_map_or_as_features():
    large, small = features(13, height=4, width=6), features(14, height=2, width=3)
    as_map = attention_transfer_loss(
        F.avg_pool2d(attention_map(large)[:, None], 2).sqrt(), attention_map(small)[:, None].sqrt()
    )
    as_features = attention_transfer_loss(F.avg_pool2d(large, 2), small)
    for pair in ((large, small), (small, large)):
        assert torch.allclose(attention_transfer_loss(*pair), as_map, rtol=1e-12)
        assert torch.allclose(
            attention_transfer_loss(*pair, pool="features"), as_features, rtol=1e-12
        )
    assert abs(float(as_map - as_features)) > 1e-3


def test_layers_are_added():
    student, teacher = (
        [features(15), features(16, height=2)],
        [features(17, channels=2), features(18, height=2)],
    )
    parts = [
        attention_transfer_loss(s, t, "at_code") for s, t in zip(student, teacher, strict=True)
    ]
    assert torch.allclose(
        attention_transfer_loss(student, teacher, "at_code"), parts[0] + parts[1], rtol=1e-14
    )
