"""Hints: the regressor's shape, the loss, and its least value, found without the package."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loss_cases import close, normal
from torch import nn

from kd_baselines.losses import CE, Linear, Seen
from kd_baselines.losses.hints import Hint, Regressor, hint_loss


def seen(student, teacher):
    b = len(next(iter(student.values())))
    images = torch.zeros(b, 1, 1, 1)
    z = torch.zeros(b, 3, dtype=torch.float64)
    return Seen(images, torch.arange(b) % 3, z, student_features=student, teacher_features=teacher)


@pytest.mark.parametrize("shape", [(5, 7), (5, 3, 4, 2)])
def test_half_the_squared_distance_a_sample_summed_over_the_map(shape):
    r, u = normal(*shape, seed=0), normal(*shape, seed=1)
    found = hint_loss(r, u)
    expected = np.mean(
        [
            np.linalg.norm((a - b).ravel()) ** 2 / 2
            for a, b in zip(r.numpy(), u.numpy(), strict=True)
        ]
    )
    assert float(found) == pytest.approx(expected, rel=1e-12)
    size = r[0].numel()
    close(found, size / 2 * F.mse_loss(r, u))
    r.requires_grad_()
    u.requires_grad_()
    hint_loss(r, u).backward()
    torch.testing.assert_close(r.grad, (r - u).detach() / len(r))
    assert u.grad is None
    assert torch.autograd.gradcheck(lambda r: hint_loss(r, u), (r,))


@pytest.mark.parametrize("activation", ["none", "relu", "maxout"])
def test_a_linear_regressor_does_what_a_convolution_does(activation):
    full = Regressor((2, 3, 3), (4, 2, 2), activation=activation, kind="linear")
    part = Regressor((2, 3, 3), (4, 2, 2), activation=activation)
    unit = torch.eye(18).view(18, 2, 3, 3)
    with torch.no_grad():  # the convolution's matrix, from what it makes of each pixel
        bias = part.predict(torch.zeros(1, 2, 3, 3)).flatten()
        full.predict.weight.copy_((part.predict(unit).flatten(1) - bias).T)
        full.predict.bias.copy_(bias)
        maps = torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(full(maps), part(maps))


@pytest.mark.parametrize(
    "guided, hint", [((6, 5), (4, 3)), ((6, 6), (6, 6)), ((9, 7), (1, 7)), ((8, 8), (5, 8))]
)
def test_the_kernel_is_the_difference_of_sides_plus_one(guided, hint):
    O_g, O_h = 3, 5
    regressor = Regressor((O_g, *guided), (O_h, *hint))
    k1, k2 = guided[0] - hint[0] + 1, guided[1] - hint[1] + 1
    assert regressor(torch.zeros(2, O_g, *guided)).shape == (2, O_h, *hint)
    assert (regressor.predict.kernel_size, regressor.predict.stride, regressor.predict.padding) == (
        (k1, k2),
        (1, 1),
        (0, 0),
    )
    weights, bias = (p.numel() for p in regressor.parameters())
    full = Regressor((O_g, *guided), (O_h, *hint), kind="linear").predict.weight.numel()
    assert (weights, bias) == (k1 * k2 * O_h * O_g, O_h)
    assert full == hint[0] * hint[1] * O_h * guided[0] * guided[1] * O_g >= weights


def test_a_full_kernel_is_the_linear_layer():
    regressor = Regressor((3, 4, 4), (5, 1, 1)).double()
    x = normal(2, 3, 4, 4, seed=0)
    linear = F.linear(x.flatten(1), regressor.predict.weight.flatten(1), regressor.predict.bias)
    torch.testing.assert_close(regressor(x).flatten(1), linear)


def test_vectors_get_a_linear_layer_and_equal_shapes_identity():
    assert isinstance(Regressor((4,), (9,)).predict, nn.Linear)
    x = torch.randn(2, 4, 3, 3)
    same = Regressor((4, 3, 3), (4, 3, 3), identity=True, activation="relu")
    assert same(x) is x and not list(same.parameters())
    assert Regressor((4, 3, 3), (4, 3, 3)).predict.kernel_size == (1, 1)
    assert isinstance(Regressor((4, 3, 3), (5, 3, 3), identity=True).predict, nn.Conv2d)


def test_activations():
    x = normal(2, 3, 5, 5, seed=1)
    torch.manual_seed(0)
    plain = Regressor((3, 5, 5), (4, 3, 3)).double()
    relu = Regressor((3, 5, 5), (4, 3, 3), activation="relu").double()
    relu.load_state_dict(plain.state_dict())
    assert plain(x).min() < 0
    torch.testing.assert_close(relu(x), plain(x).clamp(min=0))
    maxout = Regressor((3, 5, 5), (4, 3, 3), activation="maxout").double()
    sums = F.conv2d(x, maxout.predict.weight, maxout.predict.bias)
    assert sums.shape == (2, 8, 3, 3)
    torch.testing.assert_close(maxout(x), torch.maximum(sums[:, 0::2], sums[:, 1::2]))
    sized = Regressor((3,), (4,), activation="maxout")
    assert sized(torch.zeros(2, 3)).shape == (2, 4)


def test_a_regressor_on_fixed_maps_has_its_least_squares_minimum():
    B, guided, u = 12, normal(12, 3, 6, 5, seed=2), normal(12, 4, 4, 4, seed=3)
    regressor = Regressor(guided.shape[1:], u.shape[1:]).double()
    patches = F.unfold(guided, (3, 2)).transpose(1, 2).reshape(-1, 3 * 3 * 2).numpy()
    table = np.hstack([patches, np.ones((len(patches), 1))])
    targets = u.flatten(2).transpose(1, 2).reshape(-1, 4).numpy()
    best, residual, rank, _ = np.linalg.lstsq(table, targets, rcond=None)
    assert rank == table.shape[1]
    with torch.no_grad():
        regressor.predict.weight.copy_(torch.from_numpy(best[:-1].T.copy()).view(4, 3, 3, 2))
        regressor.predict.bias.copy_(torch.from_numpy(best[-1].copy()))
    loss = hint_loss(regressor(guided), u)
    assert loss.item() == pytest.approx(residual.sum() / (2 * B), rel=1e-12)
    gradients = torch.autograd.grad(loss, list(regressor.parameters()))
    assert max(g.abs().max() for g in gradients) < 1e-12


def least(X, U, width):
    """The least hint loss of a linear guided layer of this width and a linear regressor: reduced
    rank."""
    Uh = X @ np.linalg.lstsq(X, U, rcond=None)[0]
    singular = np.linalg.svd(Uh, compute_uv=False)
    return (np.linalg.norm(U - Uh) ** 2 + (singular[width:] ** 2).sum()) / (2 * len(X))


@pytest.mark.parametrize("width", [1, 2, 4, 6])
def test_a_linear_guided_layer_reaches_the_reduced_rank_optimum(width):
    X, U = normal(20, 5, seed=4), normal(20, 4, seed=5)
    U += X @ normal(5, 4, seed=6)
    X, U = X - X.mean(0), U - U.mean(0)  # so that the best bias is zero
    wanted = least(X.numpy(), U.numpy(), width)
    if width >= 4:  # as wide as the fitted hint's rank: plain least squares
        residual = np.linalg.lstsq(X.numpy(), U.numpy(), rcond=None)[1].sum()
        assert wanted == pytest.approx(residual / (2 * 20), rel=1e-12)
    torch.manual_seed(width)
    guided = nn.Linear(5, width, bias=False).double()
    hints = Hint({"guided": "hint"})
    hints.prepare(seen({"guided": guided(X)}, {"hint": U}))
    found = [*guided.parameters(), *hints.parameters()]

    def loss():
        return hints(seen({"guided": guided(X)}, {"hint": U}))

    # in closed form: project the fitted hint onto its first right singular vectors
    fit = torch.linalg.lstsq(X, U).solution
    _, _, Vh = torch.linalg.svd(X @ fit, full_matrices=False)
    assert loss() > wanted + 1e-3
    optimum = torch.optim.LBFGS(
        found,
        max_iter=2000,
        tolerance_grad=1e-12,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimum.zero_grad()
        value = loss()
        value.backward()
        return value

    optimum.step(closure)
    assert loss().item() == pytest.approx(wanted, rel=1e-10)
    r = min(width, 4)
    with torch.no_grad():
        for p in found:
            p.zero_()
        guided.weight[:r] = (fit @ Vh[:r].T).T
        hints.regressors[0].predict.weight[:, :r] = Vh[:r].T
    assert loss().item() == pytest.approx(wanted, rel=1e-12)
    assert max(g.abs().max() for g in torch.autograd.grad(loss(), found)) < 1e-12


def test_a_relu_regressor_cannot_predict_a_hint_before_its_relu():
    x, u = normal(30, 3, seed=7), -1.0 - normal(30, 2, seed=8).abs()
    regressor = Regressor((3,), (2,), activation="relu").double()
    with torch.no_grad():
        regressor.predict.weight.normal_(std=5.0, generator=torch.Generator().manual_seed(0))
    assert hint_loss(regressor(x), u) >= u.square().sum() / 60


STUDENT = {"low": normal(4, 3, 6, 6, seed=9), "high": normal(4, 7, seed=10)}
TEACHER = {"early": normal(4, 5, 4, 4, seed=11), "late": normal(4, 8, seed=12)}


def test_the_term_is_the_sum_over_pairs():
    hints = Hint({"low": "early", "high": "late"}, weight=0.5)
    batch = seen(STUDENT, TEACHER)
    hints.prepare(batch)
    conv, linear = hints.regressors
    expected = hint_loss(conv(STUDENT["low"]), TEACHER["early"])
    expected = expected + hint_loss(linear(STUDENT["high"]), TEACHER["late"])
    torch.testing.assert_close(hints(batch), expected)
    assert all(p.dtype == torch.float64 and p.requires_grad for p in hints.parameters())
    told = (CE() + hints)(batch)
    torch.testing.assert_close(told["loss"], told["ce"] + 0.5 * expected)


def test_the_regressor_is_drawn_from_the_seed_and_trains():
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        hints = Hint({"low": "early"}, weight=Linear(1.0, 0.0, epochs=2))
        hints.prepare(seen(STUDENT, TEACHER))
        drawn.append(hints.regressors[0].predict.weight.detach().clone())
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    student = {name: x.clone().requires_grad_() for name, x in STUDENT.items()}
    teacher = {name: x.clone().requires_grad_() for name, x in TEACHER.items()}
    hints(seen(student, teacher)).backward()
    assert all(p.grad.abs().max() > 0 for p in hints.parameters())
    assert student["low"].grad.abs().max() > 0 and teacher["early"].grad is None
