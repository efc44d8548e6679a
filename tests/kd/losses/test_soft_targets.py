"""Soft targets: values and gradients against other people's expressions, closed forms and limits."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import rel_entr
from scipy.special import softmax as scipy_softmax

from datadistill.errors import UsageError
from kd_baselines.losses import CE, Linear, Seen
from kd_baselines.losses.soft_targets import (
    KD,
    FitNetsKD,
    fitnets_kd_loss,
    soft_cross_entropy,
    soft_target_loss,
)

B, K = 6, 5
TEMPERATURES = (0.5, 1.0, 3.0, 20.0)


def logits(seed=0, k=K, scale=3.0):
    draw = torch.Generator().manual_seed(seed)
    return scale * torch.randn(2, B, k, generator=draw, dtype=torch.float64)


def labels(k=K):
    return torch.arange(B) % k


def seen(z, v, at=None, y=None):
    images = torch.zeros(B, 1, 1, 1, dtype=torch.float64)
    return Seen(images, labels() if y is None else y, z, v, teacher_at=at or (lambda T: v))


def gradient(function, z):
    z = z.clone().requires_grad_()
    return torch.autograd.grad(function(z), z)[0]


def centred(x):
    return x - x.mean(1, keepdim=True)


# what other people's code computes, written anew
WITNESSES = {
    "sum over everything, divided by the samples (RepDistiller)": lambda z, v, T: (
        F.kl_div(F.log_softmax(z / T, 1), F.softmax(v / T, 1), reduction="sum") * T**2 / len(z)
    ),
    "sum over classes, mean over samples (mdistiller)": lambda z, v, T: (
        F.kl_div(F.log_softmax(z / T, 1), F.softmax(v / T, 1), reduction="none").sum(1).mean() * T**2
    ),
    "both as logarithms": lambda z, v, T: (
        F.kl_div(F.log_softmax(z / T, -1), F.log_softmax(v / T, -1), reduction="batchmean", log_target=True)
        * T
        * T
    ),
    "torch's cross-entropy minus the entropy": lambda z, v, T: (
        T**2 * (F.cross_entropy(z / T, F.softmax(v / T, 1)) - F.cross_entropy(v / T, F.softmax(v / T, 1)))
    ),
    "scipy's relative entropy": lambda z, v, T: torch.tensor(
        T**2 * rel_entr(*(scipy_softmax(x.numpy() / T, axis=1) for x in (v, z))).sum(1).mean()
    ),
}


@pytest.mark.parametrize("T", TEMPERATURES)
@pytest.mark.parametrize("witness", WITNESSES)
def test_value_is_that_of_five_other_expressions(witness, T):
    z, v = logits()
    torch.testing.assert_close(soft_target_loss(z, v, T), WITNESSES[witness](z, v, T), rtol=1e-12, atol=0)


@pytest.mark.parametrize("T", TEMPERATURES)
def test_gradient_is_t_times_the_difference_of_probabilities(T):
    z, v = logits()
    expected = T * (F.softmax(z / T, 1) - F.softmax(v / T, 1)) / B
    torch.testing.assert_close(
        gradient(lambda z: soft_target_loss(z, v, T), z), expected, rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("T", TEMPERATURES)
@pytest.mark.parametrize("loss", ["soft", "fitnets", "fitnets, student at 1"])
def test_gradient_is_the_central_difference_and_the_jacobian(loss, T):
    z, v = logits(1)
    function = {
        "soft": lambda z: soft_target_loss(z, v, T),
        "fitnets": lambda z: fitnets_kd_loss(z, v, labels(), T, 2.0),
        "fitnets, student at 1": lambda z: fitnets_kd_loss(z, v, labels(), T, 2.0, student_temperature=1.0),
    }[loss]
    found, h = gradient(function, z), 1e-4
    steps = h * torch.eye(B * K, dtype=torch.float64).view(-1, B, K)
    differences = torch.stack([(function(z + s) - function(z - s)) / (2 * h) for s in steps]).view(B, K)
    torch.testing.assert_close(found, differences, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found, torch.func.jacrev(function)(z), rtol=1e-12, atol=1e-15)
    z = z.clone().requires_grad_()
    assert torch.autograd.gradcheck(function, (z,)) and torch.autograd.gradgradcheck(function, (z,))


def test_not_k_times_too_weak_and_not_the_other_way_round():
    z, v = logits()
    found = soft_target_loss(z, v, 1.0)
    over_everything = F.kl_div(
        F.log_softmax(z, 1), F.softmax(v, 1), reduction="none"
    ).mean()  # KLDivLoss's default
    torch.testing.assert_close(found, K * over_everything, rtol=1e-12, atol=0)
    assert abs(found - soft_target_loss(v, z, 1.0)) > 0.1


def test_zero_for_equal_probabilities_and_positive_otherwise():
    z, v = logits()
    assert abs(soft_target_loss(v + 7.0, v, 2.0)) < 1e-12  # logits shifted by one number are the same answer
    assert gradient(lambda z: soft_target_loss(z, v, 2.0), v + 7.0).abs().max() < 1e-14
    assert soft_target_loss(z, v, 2.0) > 0
    torch.testing.assert_close(soft_target_loss(z + 7.0, v - 3.0, 2.0), soft_target_loss(z, v, 2.0))


def test_mean_over_the_batch():
    z, v = logits()
    each = [soft_target_loss(z[i : i + 1], v[i : i + 1], 4.0) for i in range(B)]
    torch.testing.assert_close(soft_target_loss(z, v, 4.0), torch.stack(each).mean(), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        soft_target_loss(z.repeat(3, 1), v.repeat(3, 1), 4.0), soft_target_loss(z, v, 4.0), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(
    "k, temperatures, ratio", [(3, (1e3, 1e4), 10), (5, (1e3, 1e4), 10), (2, (1e2, 1e3), 100)]
)
def test_at_high_temperature_it_is_the_distance_of_centred_logits(k, temperatures, ratio):
    z, v = logits(2, k)
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
    expected = (F.softmax(z, 1) - F.one_hot(labels(), K) + 4.0 * (q - torch.from_numpy(p)) / own) / B
    torch.testing.assert_close(
        gradient(lambda z: fitnets_kd_loss(z, v, labels(), T, 4.0, student_temperature=student_T), z),
        expected,
        rtol=1e-11,
        atol=1e-14,
    )


@pytest.mark.parametrize("T, lam", [(3.0, 4.0), (3.0, 1.0), (20.0, 2.0)])
def test_fitnets_lambda_over_t_squared_is_the_weight_of_the_scaled_form(T, lam):
    z, v = logits(4)

    def scaled(z):
        return F.cross_entropy(z, labels()) + lam / T**2 * soft_target_loss(z, v, T)

    torch.testing.assert_close(
        gradient(lambda z: fitnets_kd_loss(z, v, labels(), T, lam), z),
        gradient(scaled, z),
        rtol=1e-11,
        atol=1e-14,
    )
    entropy = torch.distributions.Categorical(logits=v / T).entropy().mean()
    torch.testing.assert_close(
        fitnets_kd_loss(z, v, labels(), T, lam) - scaled(z), lam * entropy, rtol=1e-11, atol=0
    )


def test_terms_are_the_functions():
    z, v = logits(5)
    kd = (CE(weight=0.1) + KD(T=4.0, weight=0.9))(seen(z, v))
    expected = 0.1 * F.cross_entropy(z, labels()) + 0.9 * soft_target_loss(z, v, 4.0)
    torch.testing.assert_close(kd["loss"], expected)
    torch.testing.assert_close(kd["kd"], soft_target_loss(z, v, 4.0))  # told before its weight
    for student_T in (None, 1.0):
        fitnets = (CE() + FitNetsKD(T=3.0, lam=4.0, student_T=student_T))(seen(z, v))["loss"]
        whole = fitnets_kd_loss(z, v, labels(), 3.0, 4.0, student_temperature=student_T)
        torch.testing.assert_close(fitnets, whole)
    assert KD().needs == FitNetsKD().needs == (CE().needs | KD().needs)
    assert KD().needs.teacher_logits and not KD().needs.teacher_features


def test_lambda_falls_with_the_epochs():
    z, v = logits(5)
    objective = CE() + FitNetsKD(T=3.0, lam=Linear(4.0, 1.0, epochs=4))
    for epoch, lam in enumerate([4.0, 3.0, 2.0, 1.0, 1.0]):
        batch = seen(z, v)
        batch.epoch = epoch
        torch.testing.assert_close(objective(batch)["loss"], fitnets_kd_loss(z, v, labels(), 3.0, lam))


@pytest.mark.parametrize("term", [KD(T=5.0), FitNetsKD(T=5.0)], ids=["kd", "fitnets"])
def test_an_ensemble_is_softened_before_it_is_averaged(term):
    z, v = logits(6)
    other = logits(7)[1]

    def at(T):
        return T * torch.stack([F.softmax(v / T, 1), F.softmax(other / T, 1)]).mean(0).log()

    p = (F.softmax(v / 5.0, 1) + F.softmax(other / 5.0, 1)) / 2
    mean = at(1.0)
    factor = 5.0 if isinstance(term, KD) else 1 / 5.0
    found = gradient(lambda z: term(seen(z, mean, at)), z)
    torch.testing.assert_close(found, factor * (F.softmax(z / 5.0, 1) - p) / B, rtol=1e-11, atol=1e-14)
    assert (
        found - gradient(lambda z: term(seen(z, mean)), z)
    ).abs().max() > 1e-4  # the mean softened: not the same


def test_the_teacher_gets_no_gradient_and_inputs_stay():
    z, v = logits(8)
    v.requires_grad_()
    z.requires_grad_()
    before = z.detach().clone(), v.detach().clone()
    for loss in (soft_target_loss(z, v, 3.0), fitnets_kd_loss(z, v, labels(), 3.0, 2.0)):
        assert torch.autograd.grad(loss, v, allow_unused=True, retain_graph=True) == (None,)
        loss.backward()
    assert v.grad is None and z.grad is not None
    assert torch.equal(z, before[0]) and torch.equal(v, before[1])


REFUSED = [
    (lambda z, v: soft_target_loss(z, v[:, :3], 4.0), "the student has 5 classes, the teacher 3"),
    (lambda z, v: soft_target_loss(z, v[:4], 4.0), "of 6 samples, the teacher of 4"),
    (lambda z, v: soft_target_loss(z[0], v, 4.0), "the student's logits are (5,)"),
    (lambda z, v: soft_target_loss(z, v.long(), 4.0), "the teacher's logits are (6, 5) torch.int64"),
    (lambda z, v: soft_target_loss(z[:0], v[:0], 4.0), "1 or more of each"),
    (lambda z, v: soft_target_loss(z, v, 0), "the temperature is 0; give a finite number above 0"),
    (lambda z, v: soft_target_loss(z, v, -1.0), "the temperature is -1.0"),
    (lambda z, v: soft_target_loss(z, v, math.inf), "the temperature is inf"),
    (lambda z, v: soft_cross_entropy(z, v, math.nan), "the temperature is nan"),
    (lambda z, v: soft_cross_entropy(z, v, 2.0, student_temperature=0.0), "the temperature is 0.0"),
    (lambda z, v: fitnets_kd_loss(z, v, labels(), 3.0, -1.0), "a weight is -1.0"),
    (
        lambda z, v: fitnets_kd_loss(z, v, labels() + 1, 3.0, 1.0),
        "labels go from 1 to 5 and the net has 5 logits",
    ),
    (lambda z, v: fitnets_kd_loss(z, v, labels() - 1, 3.0, 1.0), "labels go from -1 to 3"),
    (lambda z, v: fitnets_kd_loss(z, v, labels()[:4], 3.0, 1.0), "labels are (4,) torch.int64 for 6 samples"),
    (lambda z, v: fitnets_kd_loss(z, v, labels().double(), 3.0, 1.0), "torch.float64 for 6 samples"),
    (lambda z, v: KD(T=0), "the temperature is 0"),
    (lambda z, v: KD(weight=-0.5), "a weight is -0.5"),
    (lambda z, v: FitNetsKD(T=-3.0), "the temperature is -3.0"),
    (lambda z, v: FitNetsKD(student_T=0.0), "the temperature is 0.0"),
    (lambda z, v: FitNetsKD(lam=-1.0), "a weight is -1.0"),
    (lambda z, v: KD().prepare(seen(z, v[:, :4])), "the student has 5 classes, the teacher 4"),
    (lambda z, v: FitNetsKD().prepare(seen(z, v[:, :4])), "the student has 5 classes, the teacher 4"),
]


@pytest.mark.parametrize("call, sentence", REFUSED, ids=[s for _, s in REFUSED])
def test_what_does_not_fit_is_refused(call, sentence):
    with pytest.raises(UsageError) as refused:
        call(*logits())
    assert sentence in str(refused.value)
