"""Logit regression, plain and standardized, and noisy teacher logits: values, gradients, moments of
noise."""

import itertools
import math

import loss_cases as cases
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loss_cases import close, gradient, seen
from sklearn.preprocessing import StandardScaler

from datadistill.errors import UsageError
from datadistill.streams import generator
from kd_baselines.losses import CE
from kd_baselines.losses.logit_regression import LogitRegression, logit_regression_loss
from kd_baselines.losses.noisy_logits import NoisyLogits, noisy_logit_loss, noisy_logits
from kd_baselines.losses.soft_targets import soft_target_loss

B, K = 6, 4


def logits(seed=0, b=B):
    return cases.logits(seed, b, K, shift=2.0)


def test_half_the_squared_distance_a_sample():
    z, v = logits()
    found = logit_regression_loss(z, v)
    expected = np.mean(
        [np.linalg.norm(a - b) ** 2 / 2 for a, b in zip(z.numpy(), v.numpy(), strict=True)]
    )
    assert float(found) == pytest.approx(expected, rel=1e-12)
    close(found, K / 2 * F.mse_loss(z, v))  # which divides by B*K
    torch.testing.assert_close(gradient(lambda z: logit_regression_loss(z, v), z), (z - v) / B)
    assert logit_regression_loss(v, v) == 0


def test_k_times_the_high_temperature_limit_of_soft_targets():
    z, v = (x - x.mean(1, keepdim=True) for x in logits(2))
    soft = soft_target_loss(z, v, 1e4)
    torch.testing.assert_close(logit_regression_loss(z, v), K * soft, rtol=1e-3, atol=0)


def test_standardized_by_the_batch_as_scikit_learn_does():
    z, v = logits(3)
    v[:, 1] = 5.0  # a constant class is centred only
    targets = torch.from_numpy(StandardScaler().fit_transform(v.numpy()))
    found = logit_regression_loss(z, v, standardize=True)
    close(found, logit_regression_loss(z, targets))
    torch.testing.assert_close(
        gradient(lambda z: logit_regression_loss(z, v, True), z), (z - targets) / B
    )


def test_relative_is_the_share_left_unexplained_at_any_scale():
    generator = torch.Generator().manual_seed(0)
    z, v = (torch.randn(6, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    found = logit_regression_loss(z, v, relative=True)
    scatter = (v - v.mean(1, keepdim=True)).square().sum()
    torch.testing.assert_close(found, (z - v).square().sum() / scatter)
    torch.testing.assert_close(logit_regression_loss(9 * z, 9 * v, relative=True), found)
    ignorant = v.mean(1, keepdim=True).expand_as(v)
    torch.testing.assert_close(
        logit_regression_loss(ignorant, v, relative=True), torch.ones_like(found)
    )
    assert logit_regression_loss(z, torch.zeros_like(v), relative=True).isfinite()
    with pytest.raises(UsageError, match="turn one off"):
        logit_regression_loss(z, v, True, relative=True)


def test_standardized_by_the_statistics_of_a_training_set():
    z, v = logits(4)
    many = logits(5, b=50)[1]
    scaler = StandardScaler().fit(many.numpy())
    targets = torch.from_numpy(scaler.transform(v.numpy()))
    found = logit_regression_loss(z, v, True, mean=many.mean(0), std=many.std(0, correction=0))
    close(found, logit_regression_loss(z, targets))
    # the same targets whatever else is in the batch
    first = logit_regression_loss(
        z[:1], v[:1], True, mean=many.mean(0), std=many.std(0, correction=0)
    )
    close(first, logit_regression_loss(z[:1], targets[:1]))
    one_number = logit_regression_loss(z, v, True, mean=3.1, std=2.3)
    close(one_number, logit_regression_loss(z, (v - 3.1) / 2.3))


def test_one_mean_and_std_for_all_keep_the_teachers_choice():
    v = logits(6)[1]
    student = (v - 1.7) / 2.9  # a perfect student of standardized logits
    assert float(logit_regression_loss(student, v, True, mean=1.7, std=2.9)) < 1e-25
    assert torch.equal(student.argmax(1), v.argmax(1))


def two_points(monkeypatch, rows, chosen):
    """Instead of normal numbers all signs, instead of uniform ones all choices: exact second
    moments."""
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: rows.expand(*shape))
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: chosen.expand(*shape))


@pytest.mark.parametrize("sigma", [0.3, 2.0])
def test_moments_of_the_loss_and_its_gradient_exactly(monkeypatch, sigma):
    z, v = (x[:1] for x in logits(7))
    alpha = 0.25
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=K)), dtype=torch.float64)
    # one of four below
    uniform = torch.tensor([0.1, 0.3, 0.6, 0.9]).repeat_interleave(len(signs)).unsqueeze(1)
    n = len(uniform)
    two_points(monkeypatch, signs.repeat(4, 1), uniform)
    z_all, v_all = z.expand(n, K), v.expand(n, K)
    loss = noisy_logit_loss(z_all, v_all, sigma, alpha)
    added = alpha * sigma**2 / 2 * v.square().sum()
    close(loss, logit_regression_loss(z, v) + added)
    each = n * gradient(lambda z: noisy_logit_loss(z, v_all, sigma, alpha), z_all)
    torch.testing.assert_close(each.mean(0), (z - v)[0], rtol=1e-12, atol=1e-12)
    close(each.var(0, correction=0), alpha * sigma**2 * v[0] ** 2)


@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.parametrize("shared", [False, True])
def test_moments_of_what_is_really_drawn(shared, alpha):
    n, sigma = 200_000, 0.4
    v = torch.tensor([[1.0, -2.0, 0.5, 10.0]], dtype=torch.float64)
    draw = torch.Generator().manual_seed(0)
    if shared:  # one noise for all samples of a batch: many batches of one
        n = 4_000
        noisy = torch.cat([noisy_logits(v, sigma, alpha, draw, shared=True) for _ in range(n)])
    else:
        noisy = noisy_logits(v.expand(n, K), sigma, alpha, draw)
    xi = noisy / v - 1
    variance = alpha * sigma**2
    # five standard errors: of a mean; of a second moment, E xi^4 = 3 alpha sigma^4
    assert (xi.mean(0).abs() < 5 * math.sqrt(variance / n)).all()
    spread = math.sqrt((3 * alpha * sigma**4 - variance**2) / n)
    assert ((xi.square().mean(0) - variance).abs() < 5 * spread).all()
    correlation = torch.corrcoef(xi.T) - torch.eye(K)
    assert (correlation.abs() < 5 / math.sqrt(n)).all()
    drawn = (xi.abs() > 1e-12).any(1)
    assert abs(float(drawn.double().mean()) - alpha) <= 5 * math.sqrt(alpha * (1 - alpha) / n)
    # a sample gets noise on all classes or on none
    assert torch.equal(noisy[~drawn], v.expand(n, K)[~drawn])
    assert (xi[drawn] != 0).all()


def test_shared_noise_is_one_row_for_all_samples_that_get_it():
    v = logits(8, b=40)[1]
    xi = noisy_logits(v, 0.5, 0.5, torch.Generator().manual_seed(1), shared=True) / v - 1
    rows = xi[(xi.abs() > 1e-12).any(1)]
    assert 5 < len(rows) < 35
    torch.testing.assert_close(rows, rows[:1].expand_as(rows), rtol=1e-9, atol=1e-12)
    own = noisy_logits(v, 0.5, 1.0, torch.Generator().manual_seed(1)) / v - 1
    assert (own[0] - own[1]).abs().min() > 1e-6


def test_the_loss_is_logit_regression_to_the_drawn_targets():
    z, v = logits(9)
    targets = noisy_logits(v, 0.5, 0.7, torch.Generator().manual_seed(2))

    def loss(z):
        return noisy_logit_loss(z, v, 0.5, 0.7, torch.Generator().manual_seed(2))

    close(loss(z), (z - targets).square().sum() / (2 * B))
    close(gradient(loss, z), (z - targets) / B)
    assert torch.autograd.gradcheck(loss, (z.clone().requires_grad_(),))
    for sigma, alpha in ((0.0, 1.0), (0.5, 0.0)):
        assert noisy_logit_loss(z, v, sigma, alpha) == logit_regression_loss(z, v)


def test_noise_comes_from_the_generator_alone():
    z, v = logits(10)
    state = torch.get_rng_state()
    first = [noisy_logit_loss(z, v, 0.5, 0.7, generator(0, "noise")) for _ in range(2)]
    assert first[0] == first[1] != noisy_logit_loss(z, v, 0.5, 0.7, generator(1, "noise"))
    assert torch.equal(torch.get_rng_state(), state)
    noisy_logit_loss(z, v, 0.5, 0.7)
    assert not torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(state)


@pytest.mark.parametrize(
    "make", [LogitRegression, lambda **k: NoisyLogits(0.0, **k)], ids=["plain", "noisy"]
)
def test_a_second_head_is_fitted_and_the_first_sees_labels(make):
    z, v = logits(12)
    head = (v + 1.0).requires_grad_()
    z = z.clone().requires_grad_()
    objective = CE() + make(output="head_source", weight=0.5)
    assert objective.needs.student_features == {"head_source"}
    assert make().needs.student_logits and not make(output="head_source").needs.student_logits
    batch = seen(z, v, student_features={"head_source": head})
    objective.prepare(batch)
    objective(batch)["loss"].backward()
    torch.testing.assert_close(head.grad, torch.full((B, K), 0.5 / B, dtype=torch.float64))
    torch.testing.assert_close(z.grad, gradient(lambda z: F.cross_entropy(z, batch.labels), z))


@pytest.mark.parametrize("samples", [3, 7, 13])
def test_a_class_with_constant_logits_is_only_centred(samples):
    """0.1 has no exact mean in float32, so its standard deviation is not 0."""
    v = torch.full((samples, 1), 0.1)
    assert logit_regression_loss(torch.zeros(samples, 1), v, standardize=True).item() < 1e-12
