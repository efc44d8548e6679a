"""How many synthetic points does it take? The linear case, which has an answer.

Reference: Wang et al. 2018, section 3.3, https://arxiv.org/abs/1811.10959

Notation: real data d (N, D), t (N,); synthetic data d~ (M, D), t~ (M,); theta (D,); step size
eta > 0.

    l(theta; d, t) = |d theta - t|^2 / 2N,    H = d'd / N,    theta* a minimum                  (1)
    excess(theta)  = l(theta) - l(theta*) = (theta - theta*)' H (theta - theta*) / 2            (2)

One step on the synthetic data is an affine map of theta_0:

    theta_1 = theta_0 - (eta / M) d~'(d~ theta_0 - t~) = (I - A) theta_0 + b,
    A = (eta / M) d~'d~,    b = (eta / M) d~'t~                                                 (3)

Enough points. With H of rank D the minimum is one point, and theta_1 = theta* for every theta_0
needs A = I and b = theta*. A has rank at most M, so M >= D. With M = D this does it:

    d~ = sqrt(D / eta) I,    t~ = d~ theta*        for any eta                                  (4)
    d~ = N I,    t~ = N theta*,    eta = D / N^2   the paper's, (4) with that eta               (5)

The mean squared error without the factor 1/2 doubles the gradient: halve eta in (3), so D / 2N^2 in
(5). With H of rank r < D it is enough that H(I - A) = 0 and H(b - theta*) = 0: with V (D, r) the
eigenvectors of H of positive eigenvalue, r points do it:

    d~ = sqrt(r / eta) V',    t~ = d~ theta*                                                    (6)

Too few points. Let theta_0 ~ N(0, I), and lambda_1 >= ... >= lambda_D the eigenvalues of H.

    E excess = ( |H^(1/2) (I - A)|_F^2 + |H^(1/2) (b - theta*)|^2 ) / 2                         (7)
             = |H^(1/2) [I, -theta*] - H^(1/2) [A, -b]|_F^2 / 2                                 (8)

The first norm of (7) compares H^(1/2), whose singular values are sqrt(lambda_i), with a matrix of
rank at most M, so by Eckart and Young

    E excess >= (lambda_{M+1} + ... + lambda_D) / 2,                                            (9)

half the sum of the D - M smallest eigenvalues of d'd / N. The columns of d~' span those of A and of
b, so (8) compares with rank at most M too, and the same argument gives the sharper

    E excess >= half the sum of the D - M smallest eigenvalues of
                H^(1/2) (I + theta* theta*') H^(1/2).                                           (10)

Synthetic points on the eigenvectors v_1..v_M give A = sum_{i<=M} v_i v_i' and b = A theta*, hence

    E excess = sum_{i>M} lambda_i (1 + (v_i'theta*)^2) / 2,                                     (11)

which attains (9) where theta* lies in the span of v_1..v_M.

More steps. S steps with batches of their own: theta_S = (I - A_S) ... (I - A_1) theta_0 + b, and I
minus that product has its columns, and b lies, in the span of all S M points. So (9) and (10) hold
with S M for M, and S M >= D points can reach the minimum: step s clears its own M coordinates.
Epochs over the same batch, with any step sizes, stay in the span of the same M points: (9) and (10)
hold with M, however many epochs.

One initialization. For one fixed theta_0 a single point is enough, d~ = sqrt(1 / eta) u',
t~ = d~ theta* with u = (theta_0 - theta*) / |theta_0 - theta*|:

    A = u u' and (I - A)(theta_0 - theta*) = 0.                                                 (12)
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datadistill.innerloop import unroll

N, D = 40, 8
DOUBLE = torch.float64
EXACT = 1e-8


def half(outputs, targets):
    """The loss of (1)."""
    return F.mse_loss(outputs[:, 0], targets) / 2


def mean_squared_error(outputs, targets):
    return F.mse_loss(outputs[:, 0], targets)


def randn(*shape, seed):
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


class Real:
    """Real data with distinct eigenvalues, and what (1) and (2) make of them."""

    def __init__(self, rank=D, seed=0):
        mix = torch.linalg.qr(randn(D, D, seed=seed + 1)).Q
        scales = mix * torch.linspace(2.0, 0.5, D, dtype=DOUBLE)
        self.d = randn(N, D, seed=seed) @ scales[:, :rank] @ mix.T[:rank]
        self.t = self.d @ randn(D, seed=seed + 2) + randn(N, seed=seed + 3)
        self.theta_star = torch.linalg.lstsq(self.d, self.t[:, None], driver="gelsd").solution[:, 0]
        self.H = self.d.T @ self.d / N
        values, vectors = torch.linalg.eigh(self.H)
        self.eigenvalues, self.V = values.flip(0), vectors.flip(1)

    def loss(self, theta):
        return ((theta @ self.d.T - self.t) ** 2).mean(-1) / 2

    def excess(self, theta):
        return self.loss(theta) - self.loss(self.theta_star)

    def with_optimum(self, theta_star):
        """The same inputs, with targets whose optimum is `theta_star`."""
        other = Real.__new__(Real)
        other.__dict__ |= self.__dict__
        other.t, other.theta_star = (
            self.d @ theta_star + (self.t - self.d @ self.theta_star),
            theta_star,
        )
        return other

    def bound(self, M):
        """(9)"""
        return self.eigenvalues[M:].sum() / 2

    def sharper_bound(self, M):
        """(10)"""
        root = self.V * self.eigenvalues.clamp_min(0).sqrt() @ self.V.T
        outer = torch.eye(D, dtype=DOUBLE) + torch.outer(self.theta_star, self.theta_star)
        return torch.linalg.eigvalsh(root @ outer @ root)[: max(0, D - M)].sum() / 2

    def on_eigenvectors(self, M, eta):
        """(6), and (11) where M is below the rank."""
        x = (M / eta) ** 0.5 * self.V[:, :M].T
        return x, x @ self.theta_star


def trained(theta_0, steps, etas, loss=half):
    """theta_T of every row of theta_0, all at once."""
    net = nn.Linear(D, 1, bias=False).double()
    etas = etas if isinstance(etas, torch.Tensor) else torch.tensor(etas, dtype=DOUBLE)
    return unroll(net, {"weight": theta_0[:, None, :]}, steps, etas, loss=loss)["weight"][:, 0]


def affine(steps, etas):
    """I - A and b of (3), or of several steps: what training does to 0 and to the unit vectors."""
    thetas = trained(torch.cat([torch.zeros(1, D), torch.eye(D)]).to(DOUBLE), steps, etas)
    return (thetas[1:] - thetas[0]).T, thetas[0]


def expected_excess(real, steps, etas):
    """(7)"""
    rest, b = affine(steps, etas)
    e = b - real.theta_star
    return ((rest.T @ real.H @ rest).trace() + e @ real.H @ e) / 2


def any_initialization(seed=100):
    return 3 * randn(20, D, seed=seed)


def scaled(real, factor):
    eta = 0.3
    x = (D / eta) ** 0.5 * torch.eye(D, dtype=DOUBLE)
    return x, x @ real.theta_star, eta * factor


def papers(real, factor):
    return N * torch.eye(D, dtype=DOUBLE), N * real.theta_star, D / N**2 * factor


# the factor of eta that the gradient's factor asks for
LOSSES = {half: 1.0, mean_squared_error: 0.5}


@pytest.mark.parametrize("construction", [scaled, papers])
@pytest.mark.parametrize("loss", LOSSES)
def test_d_points_reach_the_optimum_from_anywhere_in_one_step(construction, loss):
    real, theta_0 = Real(), any_initialization()
    x, y, eta = construction(real, LOSSES[loss])
    assert real.excess(theta_0).min() > 1, "the start must be far away"
    assert real.excess(trained(theta_0, [(x, y)], [eta], loss)).abs().max() < EXACT


def test_the_step_size_without_its_factor_reflects():
    # A = 2 I: theta_1 - theta* = -(theta_0 - theta*), and (2) is as large as before
    real, theta_0 = Real(), any_initialization()
    x, y, eta = papers(real, 1.0)
    after = real.excess(trained(theta_0, [(x, y)], [eta], mean_squared_error))
    torch.testing.assert_close(after, real.excess(theta_0))


def test_rank_many_points_are_enough_where_data_are_degenerate():
    real, theta_0, eta = Real(rank=5), any_initialization(), 0.3
    assert torch.linalg.matrix_rank(real.d) == 5
    assert real.excess(trained(theta_0, [real.on_eigenvectors(5, eta)], [eta])).abs().max() < EXACT
    assert (
        expected_excess(real, [real.on_eigenvectors(4, eta)], [eta]) > 0.9 * real.eigenvalues[4] / 2
    )


@pytest.mark.parametrize("M", [1, 4, D - 1])
def test_eigenvectors_attain_the_bound(M):
    real, eta = Real(), 0.3
    inside = real.with_optimum(real.V[:, :M] @ real.V[:, :M].T @ real.theta_star)
    # (2)
    torch.testing.assert_close(
        real.excess(real.theta_star + real.V[:, -1]), real.eigenvalues[-1] / 2
    )
    found = expected_excess(inside, [inside.on_eigenvectors(M, eta)], [eta])
    torch.testing.assert_close(found, inside.bound(M))  # (9)
    torch.testing.assert_close(inside.sharper_bound(M), inside.bound(M))
    missed = real.eigenvalues[M:] @ (real.V[:, M:].T @ real.theta_star) ** 2 / 2
    found = expected_excess(real, [real.on_eigenvectors(M, eta)], [eta])
    torch.testing.assert_close(found, real.bound(M) + missed)  # (11)
    assert real.bound(M) <= real.sharper_bound(M) <= found


def test_expected_excess_is_the_mean_over_initializations():
    real, eta = Real(), 0.3
    steps = [real.on_eigenvectors(D - 1, eta), (randn(3, D, seed=5), randn(3, seed=6))]
    sample = real.excess(trained(randn(20_000, D, seed=7), steps, [eta, 0.1]))
    error = sample.std() / len(sample) ** 0.5
    expected = expected_excess(real, steps, [eta, 0.1])
    assert error < 0.01 * expected
    assert abs(sample.mean() - expected) < 4 * error


@pytest.mark.parametrize("M", [1, 4, D - 1])
@pytest.mark.parametrize("distance", [1e-4, 1e-2, 1.0, None])
def test_no_set_of_too_few_points_beats_the_bound(M, distance):
    """Random sets, and ones at a small distance from the best: (10), hence (9), for each."""
    real = Real()
    x, y = real.on_eigenvectors(M, 1.0)
    for draw in range(25):
        dx, dy = randn(M, D, seed=draw), randn(M, seed=draw + 50)
        pair = (dx, dy) if distance is None else (x + distance * dx, y + distance * dy)
        found = expected_excess(real, [pair], [1.0 + (distance or 0) * float(dy[0]) / 5])
        assert found >= real.sharper_bound(M) >= real.bound(M) > 0.05


def test_learned_points_approach_the_bound_and_never_beat_it():
    """d~, t~ and eta learned through unroll, from noise; (11) with theta* in the span is the least
    there is."""
    M, real = D - 1, Real()
    real = real.with_optimum(real.V[:, :M] @ real.V[:, :M].T @ real.theta_star)
    x, y = randn(M, D, seed=11).requires_grad_(), randn(M, seed=12).requires_grad_()
    log_eta = torch.zeros(1, dtype=DOUBLE, requires_grad=True)
    optimizer = torch.optim.LBFGS([x, y, log_eta], max_iter=150, line_search_fn="strong_wolfe")
    seen = []

    def closure():
        optimizer.zero_grad()
        value = expected_excess(real, [(x, y)], log_eta.exp())
        value.backward()
        seen.append(value.detach())
        return value

    optimizer.step(closure)
    assert seen[0] > 5 * real.bound(M), "the start must be far away"
    assert min(seen) >= real.bound(M) * (1 - 1e-12)
    assert min(seen) <= real.bound(M) * 1.01


def coordinates(real, order, eta):
    """A batch of (4) for these coordinates alone."""
    x = (len(order) / eta) ** 0.5 * torch.eye(D, dtype=DOUBLE)[order]
    return x, x @ real.theta_star


@pytest.mark.parametrize("M", [1, 3, 4])
def test_steps_with_batches_of_their_own_add_up(M):
    real, theta_0, eta = Real(), any_initialization(), 0.3
    steps = [coordinates(real, order.tolist(), eta) for order in torch.arange(D).split(M)]
    etas = [eta] * len(steps)
    assert real.excess(trained(theta_0, steps, etas)).abs().max() < EXACT
    for rotation in range(len(steps)):  # orthogonal batches commute: the order is free
        turned = steps[rotation:] + steps[:rotation]
        assert real.excess(trained(theta_0, turned, etas)).abs().max() < EXACT


@pytest.mark.parametrize("S,M", [(2, 3), (3, 2), (7, 1)])
def test_steps_that_hold_too_few_points_in_all_do_not(S, M):
    real, eta = Real(), 0.3
    found = [
        expected_excess(
            real, [(randn(M, D, seed=n + s), randn(M, seed=s)) for s in range(S)], [eta] * S
        )
        for n in range(25)
    ]
    best = coordinates(real, list(range(S * M)), eta)
    pieces = [
        (x * S**-0.5, y * S**-0.5) for x, y in zip(best[0].split(M), best[1].split(M), strict=True)
    ]
    found.append(expected_excess(real, pieces, [eta] * S))
    # the same as in one step
    torch.testing.assert_close(found[-1], expected_excess(real, [best], [eta]))
    assert min(found) >= real.sharper_bound(S * M) >= real.bound(S * M) > 0.05


@pytest.mark.parametrize("M", [3, D - 1, D])
def test_epochs_over_too_few_points_do_not_help(M):
    """40 epochs at half the step size (A = I / 2 on the coordinates of the points) make one full
    step."""
    real, theta_0, eta = Real(), any_initialization(), 0.3
    pair = coordinates(real, list(range(M)), eta)
    once, often = trained(theta_0, [pair], [eta]), trained(theta_0, [pair] * 40, [eta / 2] * 40)
    assert (once - trained(theta_0, [pair], [eta / 2])).abs().max() > 1, "half a step is not a step"
    torch.testing.assert_close(often, once)
    assert (real.excess(often).max() < EXACT) == (M == D)
    for draw in range(10 if M < D else 0):
        x, y = randn(M, D, seed=draw), randn(M, seed=draw + 50)
        etas = [float(M / torch.linalg.matrix_norm(x, 2) ** 2)] * 40
        assert (
            expected_excess(real, [(x, y)] * 40, etas)
            >= real.sharper_bound(M)
            >= real.bound(M)
            > 0.05
        )


def test_one_point_is_enough_for_one_initialization_only():
    real, theta_0, eta = Real(), any_initialization(), 0.3
    way = theta_0[:1] - real.theta_star
    x = eta**-0.5 * way / way.norm()
    after = real.excess(trained(theta_0, [(x, x @ real.theta_star)], [eta]))
    assert after[0].abs() < EXACT  # (12)
    assert after[1:].min() > 1
