"""One and two steps of a linear model with squared error, against gradients derived by hand.

Notation: X (n, D) images, y (n,) targets, w (D,) the weight, r = X w - y the residual, H = X'X / n.

    loss(w; X, y) = |X w - y|^2 / 2n            g(w) = X' r / n                                  (1)
    step          w+ = w - eta g(w)                                                              (2)
    outer loss    L = |A w_T - b|^2 / 2m        lambda_T = A'(A w_T - b) / m                     (3)

For one step with lambda = dL/dw+, differentiate  L(w - eta X'(X w - y) / n)  in each argument:

    dL/dw   = lambda - eta H lambda                                                              (4)
    dL/deta = -<g(w), lambda>                                                                    (5)
    dL/dX   = -(eta / n) (r lambda' + (X lambda) w')         (X occurs twice in X'(X w - y))     (6)
    dL/dy   = (eta / n) X lambda                                                                 (7)

Two steps: (5)-(7) at t = 1 with w_1 and lambda_2, then lambda_1 by (4), then (5)-(7) at t = 0 with
w_0.
"""

import pytest
import torch
from torch import nn

from datadistill.innerloop import FullUnroll, StepReplay, Truncated, unroll

N, D = 5, 3


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=draw.generator)


def squared_error(outputs, targets):
    return ((outputs[:, 0] - targets) ** 2).mean() / 2


def by_hand(w, data, etas, A, b):
    """w_T, and the gradients of L in w_0 and, step by step, in X, y and eta."""
    path = [w]
    for (X, y), eta in zip(data, etas, strict=True):
        w = path[-1]
        path.append(w - eta * (X.T @ (X @ w - y)) / N)
    lam = A.T @ (A @ path[-1] - b) / len(b)  # (3)
    steps = []
    for (X, y), eta, w in reversed(list(zip(data, etas, path[:-1], strict=True))):
        r = X @ w - y
        dX = -(eta / N) * (torch.outer(r, lam) + torch.outer(X @ lam, w))  # (6)
        steps.insert(0, (dX, (eta / N) * (X @ lam), -((X.T @ r / N) @ lam)))  # (7), (5)
        lam = lam - eta * (X.T @ (X @ lam)) / N  # (4)
    return path[-1], lam, steps


ADJOINTS = [FullUnroll(), StepReplay(), Truncated(2), Truncated(2, StepReplay())]


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=repr)
@pytest.mark.parametrize("T", [1, 2])
def test_linear_model(T, adjoint):
    draw.generator = torch.Generator().manual_seed(T)
    net = nn.Linear(D, 1, bias=False).double()
    data = [(draw(N, D).requires_grad_(), draw(N).requires_grad_()) for _ in range(T)]
    etas = torch.rand(T, dtype=torch.float64, generator=draw.generator).requires_grad_()
    w, A, b = draw(1, D).requires_grad_(), draw(7, D), draw(7)

    w_T = unroll(net, {"weight": w}, data, etas, adjoint=adjoint, loss=squared_error)["weight"]
    outer = ((A @ w_T[0] - b) ** 2).mean() / 2
    tensors = [x for pair in data for x in pair]
    found_w, found_etas, *found = torch.autograd.grad(outer, [w, etas, *tensors])

    with torch.no_grad():
        expected_w_T, expected_w, steps = by_hand(w[0], data, etas, A, b)
    close = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(w_T[0].detach(), expected_w_T, **close)
    torch.testing.assert_close(found_w[0], expected_w, **close)
    torch.testing.assert_close(found_etas, torch.stack([d_eta for _, _, d_eta in steps]), **close)
    for t, (dX, dy, _) in enumerate(steps):
        torch.testing.assert_close(found[2 * t], dX, **close)
        torch.testing.assert_close(found[2 * t + 1], dy, **close)


def test_one_newton_step_solves_least_squares():
    # H = X'X / n = I and eta = 1: w_1 = w_0 - (w_0 - X'y / n) = X'y / n, whatever w_0, so
    # dL/dw_0 = 0
    draw.generator = torch.Generator().manual_seed(0)
    X = torch.linalg.qr(draw(N, D)).Q * N**0.5
    y, w = draw(N), draw(1, D).requires_grad_()
    one = torch.ones(1, dtype=torch.float64, requires_grad=True)
    net = nn.Linear(D, 1, bias=False).double()
    w_1 = unroll(net, {"weight": w}, [(X, y)], one, loss=squared_error)["weight"]
    torch.testing.assert_close(w_1[0].detach(), torch.linalg.lstsq(X, y[:, None]).solution[:, 0])
    (gradient,) = torch.autograd.grad(w_1.sum(), w)
    assert gradient.abs().max() < 1e-14
