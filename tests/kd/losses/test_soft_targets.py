"""Soft targets: values and gradients against other people's expressions, closed forms and
limits."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loss_cases import close, gradient, labels, logits, seen
from scipy.special import rel_entr
from scipy.special import softmax as scipy_softmax

from kd_baselines.losses import CE, Linear
from kd_baselines.losses.soft_targets import KD, FitNetsKD, fitnets_kd_loss, soft_target_loss

B, K = 6, 5
TEMPERATURES = (0.5, 1.0, 3.0, 20.0)


def centred(x):
    return x - x.mean(1, keepdim=True)


# what other people's code computes, written anew
WITNESSES = {
    "sum over everything, divided by the samples (RepDistiller)": lambda z, v, T: (
        F.kl_div(F.log_softmax(z / T, 1), F.softmax(v / T, 1), reduction="sum") * T**2 / len(z)
    ),
    "sum over classes, mean over samples (mdistiller)": lambda z, v, T: (
        F.kl_div(F.log_softmax(z / T, 1), F.softmax(v / T, 1), reduction="none").sum(1).mean()
        * T**2
    ),
    "both as logarithms": lambda z, v, T: (
        F.kl_div(
            F.log_softmax(z / T, -1),
            F.log_softmax(v / T, -1),
            reduction="batchmean",
            log_target=True,
        )
        * T
        * T
    ),
    "torch's cross-entropy minus the entropy": lambda z, v, T: (
        T**2
        * (
            F.cross_entropy(z / T, F.softmax(v / T, 1))
            - F.cross_entropy(v / T, F.softmax(v / T, 1))
        )
    ),
    "scipy's relative entropy": lambda z, v, T: torch.tensor(
        T**2 * rel_entr(*(scipy_softmax(x.numpy() / T, axis=1) for x in (v, z))).sum(1).mean()
    ),
}


@pytest.mark.parametrize("T", TEMPERATURES)
@pytest.mark.parametrize("witness", WITNESSES)
def test_value_is_that_of_five_other_expressions(witness, T):
    z, v = logits()
    close(soft_target_loss(z, v, T), WITNESSES[witness](z, v, T))


@pytest.mark.parametrize("T", TEMPERATURES)
def test_gradient_is_t_times_the_difference_of_probabilities(T):
    z, v = logits()
    expected = T * (F.softmax(z / T, 1) - F.softmax(v / T, 1)) / B
    close(gradient(lambda z: soft_target_loss(z, v, T), z), expected)


def test_not_k_times_too_weak_and_not_the_other_way_round():
    z, v = logits()
    found = soft_target_loss(z, v, 1.0)
    over_everything = F.kl_div(
        F.log_softmax(z, 1), F.softmax(v, 1), reduction="none"
    ).mean()  # KLDivLoss's default
    close(found, K * over_everything)
    assert abs(found - soft_target_loss(v, z, 1.0)) > 0.1


def test_zero_for_equal_probabilities_and_positive_otherwise():
    z, v = logits()
    # logits shifted by one number are the same answer
    assert abs(soft_target_loss(v + 7.0, v, 2.0)) < 1e-12
    assert gradient(lambda z: soft_target_loss(z, v, 2.0), v + 7.0).abs().max() < 1e-14
    assert soft_target_loss(z, v, 2.0) > 0
    torch.testing.assert_close(soft_target_loss(z + 7.0, v - 3.0, 2.0), soft_target_loss(z, v, 2.0))


@pytest.mark.parametrize(
    "k, temperatures, ratio", [(3, (1e3, 1e4), 10), (5, (1e3, 1e4), 10), (2, (1e2, 1e3), 100)]
)
def test_at_high_temperature_it_is_a_distance_of_centred_logits(k, temperatures, ratio):
    z, v = logits(2, k=k)
    limit = (centred(z) - centred(v)).square().sum(1).mean() / (2 * k)
    errors = [float(soft_target_loss(z, v, T) - limit) for T in temperatures]
    assert errors[0] / errors[1] == pytest.approx(ratio, rel=0.05)
    assert abs(errors[1]) < 1e-3 * float(limit)


def test_the_first_correction_to_that_limit():
    z, v = logits(2)
    a, b = centred(z), centred(v)
    limit = (a - b).square().sum(1).mean() / (2 * K)
    c = ((a**3).mean(1) - (b**3).mean(1) - 3 * (b * b * (a - b)).mean(1)).mean() / 6
    T = 1e3
    assert float(T * (soft_target_loss(z, v, T) - limit)) == pytest.approx(float(c), rel=0.01)


def test_a_probability_of_zero_leaves_value_and_gradient_finite():
    z, v = logits()
    v = v.clone()
    v[:, 0] = -math.inf
    assert torch.isfinite(soft_target_loss(z, v, 2.0))
    assert torch.isfinite(gradient(lambda z: soft_target_loss(z, v, 2.0), z)).all()


@pytest.mark.parametrize("student_T", [None, 1.0, 5.0])
@pytest.mark.parametrize("T", TEMPERATURES)
def test_fitnets_form_is_two_cross_entropies(T, student_T):
    z, v = logits(3)
    p = scipy_softmax(v.numpy() / T, axis=1)
    own = T if student_T is None else student_T
    hard = -np.log(scipy_softmax(z.numpy(), axis=1))[np.arange(B), labels().numpy()].mean()
    soft = -(p * np.log(scipy_softmax(z.numpy() / own, axis=1))).sum(1).mean()
    found = fitnets_kd_loss(z, v, labels(), T, 4.0, student_temperature=student_T)
    assert float(found) == pytest.approx(hard + 4.0 * soft, rel=1e-12)
    q = F.softmax(z / own, 1)
    expected = (
        F.softmax(z, 1) - F.one_hot(labels(), K) + 4.0 * (q - torch.from_numpy(p)) / own
    ) / B
    close(
        gradient(
            lambda z: fitnets_kd_loss(z, v, labels(), T, 4.0, student_temperature=student_T), z
        ),
        expected,
        1e-11,
        1e-14,
    )


@pytest.mark.parametrize("T, lam", [(3.0, 4.0), (3.0, 1.0), (20.0, 2.0)])
def test_lambda_over_t_squared_is_the_weight_of_the_scaled_form(T, lam):
    z, v = logits(4)

    def scaled(z):
        return F.cross_entropy(z, labels()) + lam / T**2 * soft_target_loss(z, v, T)

    close(
        gradient(lambda z: fitnets_kd_loss(z, v, labels(), T, lam), z),
        gradient(scaled, z),
        1e-11,
        1e-14,
    )
    entropy = torch.distributions.Categorical(logits=v / T).entropy().mean()
    close(fitnets_kd_loss(z, v, labels(), T, lam) - scaled(z), lam * entropy, 1e-11)


def test_lambda_falls_with_the_epochs():
    z, v = logits(5)
    objective = CE() + FitNetsKD(T=3.0, lam=Linear(4.0, 1.0, epochs=4))
    for epoch, lam in enumerate([4.0, 3.0, 2.0, 1.0, 1.0]):
        batch = seen(z, v)
        batch.epoch = epoch
        torch.testing.assert_close(
            objective(batch)["loss"], fitnets_kd_loss(z, v, labels(), 3.0, lam)
        )


@pytest.mark.parametrize("term", [KD(T=5.0), FitNetsKD(T=5.0)], ids=["kd", "fitnets"])
def test_an_ensemble_is_softened_before_it_is_averaged(term):
    z, v = logits(6)
    other = logits(7)[1]

    def at(T):
        return T * torch.stack([F.softmax(v / T, 1), F.softmax(other / T, 1)]).mean(0).log()

    p = (F.softmax(v / 5.0, 1) + F.softmax(other / 5.0, 1)) / 2
    mean = at(1.0)
    factor = 5.0 if isinstance(term, KD) else 1 / 5.0
    found = gradient(lambda z: term(seen(z, mean, teacher_at=at)), z)
    close(found, factor * (F.softmax(z / 5.0, 1) - p) / B, 1e-11, 1e-14)
    assert (
        found - gradient(lambda z: term(seen(z, mean)), z)
    ).abs().max() > 1e-4  # the mean softened: not the same
