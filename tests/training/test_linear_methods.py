"""Ridge regression and linear gradient matching: closed forms, gradients, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from oracles.finite_differences import compare
from torch import nn

from datadistill.data import Split
from datadistill.errors import UsageError
from datadistill.methods.linear import (
    LinearGradientMatching,
    RidgeRegression,
    weight_gradient,
)
from datadistill.methods.ridge import predict_by_ridge
from datadistill.nets import build
from datadistill.synthetic import Pixels, Schedule, Synthetic


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def synthetic(shape=(6, 1, 1), classes=3, soft=False, ipc=2):
    n = classes * ipc
    return Synthetic(
        Pixels(),
        {"images": drawn(n, *shape, seed=1)},
        torch.arange(n) % classes,
        drawn(n, classes, seed=2) if soft else None,
        Schedule.equal(n, 1),
        torch.zeros((), dtype=torch.float64),
    )


def linear_net(size=6, classes=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(size, classes)).double()


def body_net():
    """A frozen convolution, smooth, in front of a linear head."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).double()
    net[0].requires_grad_(False)
    return net


def split(n=20, shape=(6, 1, 1), classes=3):
    return Split(drawn(n, *shape, seed=3), torch.arange(n) % classes)


def test_ridge_solves_the_regularized_least_squares():
    features, targets, real = drawn(5, 8), drawn(5, 3, seed=1), drawn(4, 8, seed=2)
    size = 0.3 * float((features @ features.T).trace()) / 5
    primal = torch.linalg.solve(features.T @ features + size * torch.eye(8), features.T @ targets)
    found = predict_by_ridge(real, features, targets, 0.3)
    torch.testing.assert_close(found, real @ primal)
    weight = torch.zeros(8, 3, dtype=torch.float64)
    rate = 1 / float(torch.linalg.eigvalsh(features.T @ features).max() + size)
    for _ in range(2000):
        gradient = features.T @ (features @ weight - targets) + size * weight
        weight -= rate * gradient
    torch.testing.assert_close(found, real @ weight)


def test_a_large_lambda_is_one_gradient_step():
    features, real, y = drawn(6, 8), drawn(4, 8, seed=2), F.one_hot(torch.arange(6) % 3, 3).double()
    step = -weight_gradient(torch.zeros(3, 8, dtype=torch.float64), features, y)
    one_step = real @ step.T
    ridge = predict_by_ridge(real, features, y - 1 / 3, 1e7)
    torch.testing.assert_close(ridge / ridge.norm(), one_step / one_step.norm())


def test_the_weight_gradient_is_autograd():
    head, features = drawn(3, 8).requires_grad_(), drawn(5, 8, seed=1)
    for labels in (torch.arange(5) % 3, drawn(5, 3, seed=2).softmax(1)):
        (wanted,) = torch.autograd.grad(F.cross_entropy(features @ head.T, labels), head)
        rows = labels if labels.dim() == 2 else F.one_hot(labels, 3).double()
        torch.testing.assert_close(weight_gradient(head.detach(), features, rows), wanted)


METHODS = {
    "ridge": lambda net, split: RidgeRegression(net, split, batch=8),
    "ridge by cross-entropy": lambda net, split: RidgeRegression(
        net, split, batch=8, criterion="cross-entropy", regularization=0.1
    ),
    "matching": lambda net, split: LinearGradientMatching(net, split, batch=8, scale=2.0),
}


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("body", [False, True], ids=["features", "through a body"])
@pytest.mark.parametrize("name", METHODS)
def test_gradients_are_finite_differences(name, body, soft):
    shape = (1, 5, 5) if body else (6, 1, 1)
    net = body_net() if body else linear_net()
    method, s = METHODS[name](net, split(shape=shape)), synthetic(shape, soft=soft)
    leaves = {k: x for k, x in s.leaves().items() if k != "step_sizes"}
    found = dict(zip(leaves, torch.autograd.grad(method.loss(s, 3), leaves.values()), strict=True))
    expected = {}
    with torch.no_grad():
        for name, leaf in leaves.items():
            flat, slope = leaf.view(-1), torch.zeros_like(leaf).view(-1)
            for i in range(len(flat)):
                kept = float(flat[i])
                flat[i] = kept + 1e-6
                above = float(method.loss(s, 3))
                flat[i] = kept - 1e-6
                slope[i] = (above - float(method.loss(s, 3))) / 2e-6
                flat[i] = kept
            expected[name] = slope.view_as(leaf)
    compare(found, expected)


def test_matching_is_zero_where_the_set_is_the_batch():
    real = split(6)
    s = synthetic()
    s.set({**s.leaves(), "images": real.images})
    method = LinearGradientMatching(linear_net(), real, batch=6)
    losses = [method.loss(one, 0).item() for one in (s, synthetic())]
    assert losses[0] < 1e-12 < losses[1]


def test_heads_and_batches_are_drawn_by_iteration():
    method, s = METHODS["matching"](linear_net(), split()), synthetic()
    first = [method.loss(s, i).item() for i in (0, 1, 0)]
    assert first[0] == first[2] != first[1]


def norm_net():
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(6), nn.Linear(6, 3)).double()
    net[1].requires_grad_(False)
    return net


def make(**changes):
    options = {"net": linear_net(), "split": split(), **changes}
    kind = options.pop("kind", RidgeRegression)
    return kind(**options)


REFUSALS = [
    (
        {"net": body_net().requires_grad_(True), "split": split(shape=(1, 5, 5))},
        "choose train head or space features",
    ),
    ({"augment": ("flip",)}, r"they cannot be augmented \(flip\)"),
    ({"net": norm_net(), "norm": "batch"}, "norm is batch, so that the features .* norm frozen"),
    ({"net": nn.Sequential(linear_net(), nn.ReLU())}, "the method unrolled, or space features"),
    ({"criterion": "squared"}, "criterion is 'squared'; did you mean squared-error"),
    ({"regularization": 0.0}, "regularization of the method is 0.0; give a number above 0"),
    ({"kind": LinearGradientMatching, "scale": -1.0}, "scale of the method is -1.0"),
]


@pytest.mark.parametrize("changes, pattern", REFUSALS, ids=[pattern for _, pattern in REFUSALS])
def test_refusals(changes, pattern):
    with pytest.raises(UsageError, match=pattern):
        make(**changes)


def test_a_head_of_squeezenet_is_refused():
    net = build("torchvision", channels=3, size=32, classes=3, model="squeezenet1_0")
    net.features.requires_grad_(False)
    pictures = Split(torch.randn(4, 3, 32, 32), torch.arange(4) % 3)
    with pytest.raises(UsageError, match="SqueezeNet has ReLU behind that layer"):
        RidgeRegression(net, pictures)
