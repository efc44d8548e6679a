"""The attention-map Jacobian: against torch.func, by hand, and for each mistake that others
made."""

import itertools

import numpy as np
import pytest
import torch
from loss_cases import normal, seeded
from torch import nn
from torch.func import jacrev

from kd_baselines.losses.attention import attention_map
from kd_baselines.losses.attention_jacobian import attention_jacobian_loss


def convolutions(seed, activation=nn.Softplus, widths=(2, 3, 4)):
    def make():
        layers = ((nn.Conv2d(a, b, 3), activation()) for a, b in itertools.pairwise(widths))
        return nn.Sequential(*itertools.chain(*layers))

    return seeded(make, seed)


def maps_of(net, p=2):
    return lambda x: attention_map(net(x), p)


def by_jacrev(student_maps, teacher_maps, x):
    """2 - 2 cos, a sample at a time, from whole Jacobians."""
    found = []
    for image in x.split(1):
        pixel = int(teacher_maps(image).flatten().argmax())
        u, v = (
            jacrev(lambda image, maps=maps: maps(image).flatten())(image)[pixel]
            .flatten()
            .detach()
            .numpy()
            for maps in (student_maps, teacher_maps)
        )
        found.append(2 - 2 * u @ v / (np.linalg.norm(u) * np.linalg.norm(v)))
    return np.mean(found)


@pytest.mark.parametrize("activation", [nn.Softplus, nn.ReLU])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_it_is_two_minus_two_cosines_of_whole_jacobians(activation, p):
    student, teacher = (
        maps_of(convolutions(0, activation), p),
        maps_of(convolutions(1, activation), p),
    )
    expected = by_jacrev(student, teacher, normal(4, 2, 6, 6))
    assert 0.1 < expected < 4
    assert attention_jacobian_loss(student, teacher, normal(4, 2, 6, 6)).item() == pytest.approx(
        expected, rel=1e-10
    )


def test_one_by_one_convolution_by_hand():
    # A = (w . x)^2 at a pixel, so grad = 2 (w . x) w there: cos = sign((w . x)(v . x)) w . v / (|w|
    # |v|)
    w = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    v = torch.tensor([1.0, 0.0], dtype=torch.float64)
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)[None, :, None, None]  # both products above 0

    def maps(weight):
        return lambda x: attention_map(torch.einsum("c,bchw->bhw", weight, x)[:, None])

    loss = attention_jacobian_loss(maps(w), maps(v), x)
    loss.backward()
    assert loss.item() == pytest.approx(2 - 2 * 3 / 5, abs=1e-14)
    # d(-2 cos)/dw = -2 (v - cos w/|w|) / |w|
    expected = -2 * (v - 0.6 * w.detach() / 5) / 5
    assert torch.allclose(w.grad, expected, rtol=1e-12)


def test_it_is_a_sum_over_the_inputs_and_reaches_from_0_to_4():
    x = normal(4, 2, 6, 6, seed=4).abs() + 0.1
    bright = maps_of(convolutions(8))
    # both look at one pixel, through another channel: unit vectors at a right angle
    across = attention_jacobian_loss(lambda x: x[:, 0], lambda x: x[:, 1], x)
    assert float(across) == pytest.approx(2, abs=1e-14)
    assert attention_jacobian_loss(lambda x: -5 * bright(x), bright, x).item() == pytest.approx(
        4, abs=1e-12
    )
    assert attention_jacobian_loss(lambda x: 5 * bright(x), bright, x).item() == pytest.approx(
        0, abs=1e-12
    )


def test_the_pixel_is_the_teachers():
    x = torch.tensor([[[[1.0, 2.0]]]], dtype=torch.float64)

    def student(x):  # brightest on the left; on the right it follows the left of x
        return torch.stack([100 * x[:, 0, :, 0], x[:, 0, :, 0]], -1)

    assert attention_jacobian_loss(student, lambda x: x[:, 0], x).item() == pytest.approx(2)


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e-150, 1e-12])
def test_vanishing_gradients_stay_finite(scale):
    student, teacher, x = convolutions(9), convolutions(10), normal(4, 2, 6, 6, seed=5)
    maps = maps_of(student)
    loss = attention_jacobian_loss(lambda x: scale * maps(x), maps_of(teacher), x)
    loss.backward()
    assert 0 <= loss.item() <= 4
    assert all(bool(torch.isfinite(p.grad).all()) for p in student.parameters())


@pytest.mark.parametrize("small", [0.0, 1e-9])
def test_a_sample_with_hardly_a_gradient_leaves_the_others(small):
    # maps of one pixel, w_b . x_b, so that the input gradient of sample b is w_b
    w = torch.zeros(4, 2, dtype=torch.float64)
    w[:, 0] = torch.tensor([1.0, 1.0, small, 1.0])
    w.requires_grad_()
    v = torch.tensor([0.0, 1.0], dtype=torch.float64)

    def one_pixel(weight):
        return lambda x: (weight * x[:, :, 0, 0]).sum(1)[:, None, None]

    loss = attention_jacobian_loss(one_pixel(w), one_pixel(v), normal(4, 2, 1, 1))
    loss.backward()
    shortest = 1e-3 * 0.75**0.5  # the root mean square of norms 1, 1, 0, 1
    assert loss.item() == pytest.approx((3 * 2 + 1 + (small / shortest) ** 2) / 4, rel=1e-12)
    # 2 (w / shortest - v) / shortest, mean over 4; its own norm instead would give 1 / small
    expected = (torch.tensor([small / shortest, 0.0], dtype=torch.float64) - v) / shortest / 2
    assert torch.allclose(w.grad[2], expected, rtol=1e-9)
    assert torch.allclose(w.grad[0], -v / 2, rtol=1e-9)


def test_larger_maps_are_averaged_down():
    large, small = maps_of(convolutions(13, widths=(2, 3))), maps_of(convolutions(14))
    pooled = lambda x: nn.functional.avg_pool2d(large(x), 2)  # noqa: E731
    x = normal(4, 2, 6, 6, seed=7)
    for pair, expected in (((large, small), (pooled, small)), ((small, large), (small, pooled))):
        assert torch.allclose(
            attention_jacobian_loss(*pair, x), attention_jacobian_loss(*expected, x)
        )
