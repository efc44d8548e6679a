"""Noise on the images = matching Jacobians, without drawing any noise.

The 2D points x +- sigma sqrt(D) e_i with equal weights integrate quadratics exactly as N(x, sigma^2
I) does. So where the difference of the nets is affine over the points, proposition 1 holds to
rounding; smooth nets have the term sigma^2 sum_i f_i Lap f_i more.
"""

import itertools

import loss_cases as cases
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.func import hessian, vmap

from kd_baselines.losses.jacobian import jacobian_matching_loss
from kd_baselines.losses.jacobian_norm import jacobian_norm_penalty
from kd_baselines.losses.logit_regression import logit_regression_loss


def points(x, sigma):
    """The cubature: (2D, B, ...)."""
    d = x[0].numel()
    steps = sigma * d**0.5 * torch.cat([torch.eye(d), -torch.eye(d)]).double()
    return x + steps.view(2 * d, 1, *x.shape[1:])


def squared(student, teacher, x):
    return (student(x) - teacher(x)).square().sum(1).mean()


def over_noise(loss, x, sigma):
    """The mean of a loss of images over the cubature."""
    return torch.stack([loss(at) for at in points(x, sigma)]).mean()


def crosses_no_kink(net, x, sigma):
    """Whether each hidden ReLU of a two-layer net keeps its side over the ball of the points."""
    distance = net[0](x).abs() / net[0].weight.norm(dim=1)
    return bool((distance > sigma * x.shape[1] ** 0.5).all())


def test_exact_for_affine_nets():
    student, teacher, x, sigma = cases.affine(0), cases.affine(1), cases.normal(5, 4), 0.7
    mean = over_noise(lambda at: squared(student, teacher, at), x, sigma)
    two = squared(student, teacher, x) + sigma**2 * jacobian_matching_loss(student, teacher, x)
    assert mean.item() == pytest.approx(two.item(), rel=1e-12)
    half = over_noise(lambda at: logit_regression_loss(student(at), teacher(at)), x, sigma)
    # the weight is sigma^2 / 2 there
    assert half.item() == pytest.approx(two.item() / 2, rel=1e-12)
    # and so are the gradients in the student's weights
    for a, b in zip(
        *(torch.autograd.grad(v, list(student.parameters())) for v in (mean, two)), strict=True
    ):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


def test_exact_for_relu_nets_inside_one_linear_region_only():
    student, teacher, x = cases.relu(0), cases.relu(1), cases.normal(5, 4)

    def difference(sigma):
        mean = over_noise(lambda at: squared(student, teacher, at), x, sigma)
        two = squared(student, teacher, x) + sigma**2 * jacobian_matching_loss(student, teacher, x)
        return mean.item() / two.item() - 1

    assert all(crosses_no_kink(net, x, 1e-3) for net in (student, teacher))
    assert abs(difference(1e-3)) < 1e-10
    assert not crosses_no_kink(student, x, 1.0)
    assert abs(difference(1.0)) > 1e-3


def test_smooth_nets_have_a_laplacian_term():
    """residual / (sigma^2 sum_i f_i Lap f_i) -> 1, with an error of the order sigma^2."""
    student, teacher, x = cases.smooth(0), cases.smooth(1), cases.normal(5, 4)

    def f(one):
        return teacher(one[None])[0] - student(one[None])[0]

    laplacian = vmap(hessian(f))(x).diagonal(dim1=2, dim2=3).sum(2)
    third = ((teacher(x) - student(x)) * laplacian).sum(1).mean().item()
    ratios = []
    for sigma in (1e-1, 1e-2):
        mean = over_noise(lambda at: squared(student, teacher, at), x, sigma)
        two = squared(student, teacher, x) + sigma**2 * jacobian_matching_loss(student, teacher, x)
        ratios.append((mean - two).item() / (sigma**2 * third))
    assert abs(ratios[1] - 1) < 1e-3
    assert abs(ratios[1] - 1) < abs(ratios[0] - 1) / 50


def test_the_printed_remainder_is_wrong_for_smooth_nets():
    """f = x^2: E f(x + xi)^2 = x^4 + 6 x^2 s^2 + 3 s^4, of which the printed terms are x^4 + 4 x^2
    s^2."""
    x = torch.tensor([[1.3]], dtype=torch.float64)
    jacobian = jacobian_matching_loss(lambda x: x.square(), lambda x: 0 * x, x).item()
    assert jacobian == pytest.approx(4 * 1.3**2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    s = 0.2
    exact = ((1.3 + s * nodes) ** 4 * weights).sum() / weights.sum()
    assert exact - 1.3**4 - s**2 * jacobian == pytest.approx(s**2 * 1.3**2 * 2 + 3 * s**4)


def same_probabilities(student, teacher, x):
    """Shift the student's last bias so that its logits are the teacher's at the one image x."""
    with torch.no_grad():
        student[2].bias += (teacher(x) - student(x))[0]
    return student


def gauss_hermite(loss, x, sigma, nodes=12):
    """E loss(x + sigma n) for images of two numbers."""
    at, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = torch.tensor(list(itertools.product(at, repeat=2)))
    mass = torch.tensor([a * b for a, b in itertools.product(weights, repeat=2)])
    values = torch.stack([loss(x + sigma * step) for step in grid])
    return ((values * mass).sum() / mass.sum()).item()


@pytest.mark.parametrize("make", [cases.smooth, cases.relu])
def test_completed_square_is_kls_second_order_where_nets_agree(make):
    teacher, x = make(1, inputs=2), cases.normal(1, 2)
    student = same_probabilities(make(0, inputs=2), teacher, x)

    def kl(at):
        return F.kl_div(student(at).log_softmax(1), teacher(at).softmax(1), reduction="batchmean")

    assert kl(x).item() == pytest.approx(0, abs=1e-12)
    second = jacobian_matching_loss(student, teacher, x, form="cross-entropy").item()
    ratios = [gauss_hermite(kl, x, sigma) / (sigma**2 * second) for sigma in (1e-2, 1e-3)]
    assert abs(ratios[1] - 1) < 1e-5
    assert abs(ratios[1] - 1) < abs(ratios[0] - 1) / 50
    assert over_noise(kl, x, 1e-3).item() / (1e-6 * second) == pytest.approx(1, abs=1e-5)


def test_completed_square_is_the_printed_form_and_what_it_lacks():
    """-sum p' q' / q + (1/2) sum p q'^2 / q^2, with the teacher's constant (1/2) sum p'^2 / p, by
    torch.func; the printed part alone falls without a bound as the student's gradients grow."""
    teacher, x = cases.smooth(1), cases.normal(5, 4)
    last = []
    for scale in (1.0, 10.0, 100.0):
        student = cases.smooth(0)
        with torch.no_grad():
            # the student's logits are the teacher's, times a number about x: aligned gradients
            student.load_state_dict(teacher.state_dict())
            student[2].weight *= scale
            student[2].bias.copy_(torch.zeros(3))
        p, q = teacher(x).softmax(1)[..., None], student(x).softmax(1)[..., None]
        dp, dq = (cases.jacobians(net, x, lambda z: z.softmax(0)) for net in (teacher, student))
        printed = -(dp * dq / q).sum((1, 2)).mean()
        square = printed + (p * (dq / q).square() / 2 + dp.square() / p / 2).sum((1, 2)).mean()
        loss = jacobian_matching_loss(student, teacher, x, form="cross-entropy")
        assert loss.item() == pytest.approx(square.item(), rel=1e-8) and loss.item() >= 0
        last.append(printed.item())
    assert last[2] < 5 * last[1] < 0


def test_squared_norm_is_proposition_2_for_affine_nets():
    """E sum (y - S(x + xi))^2 = sum (y - S)^2 + sigma^2 sum ||grad S||^2."""
    student, x, sigma = cases.affine(0), cases.normal(5, 4), 0.7
    y = F.one_hot(torch.tensor([2, 0, 1, 1, 0]), 3).double()
    mean = over_noise(lambda at: squared(student, lambda _: y, at), x, sigma)
    two = squared(student, lambda _: y, x) + sigma**2 * jacobian_norm_penalty(student, x)
    assert mean.item() == pytest.approx(two.item(), rel=1e-12)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_fisher_form_is_the_second_order_of_cross_entropy(label):
    """For logits linear about x, for every label, with the weight sigma^2."""
    student, x, y = cases.relu(0, inputs=2), cases.normal(1, 2), torch.tensor([label])
    assert crosses_no_kink(student, x, 0.02)
    second = jacobian_norm_penalty(student, x, form="fisher").item()
    base = F.cross_entropy(student(x), y).item()

    def ratio(sigma):
        return (gauss_hermite(lambda at: F.cross_entropy(student(at), y), x, sigma, 6) - base) / (
            sigma**2 * second
        )

    assert abs(ratio(2e-3) - 1) < 1e-4
