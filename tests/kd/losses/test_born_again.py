"""Born-Again Networks: BAN's loss and gradient, its two parts, and CWTM."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loss_cases import close, gradient, labels, logits, seen

from kd_baselines.losses import (
    CE,
    CWTM,
    BornAgain,
    born_again_loss,
    cwtm_loss,
    cwtm_weights,
    gradient_parts,
)
from kd_baselines.teachers import TeacherOutputs

B, K = 6, 5


def by_numpy(z, v):
    """The closed form, -(1/B) sum_s sum_i p_i log q_i."""
    z, v = z.numpy(), v.numpy()
    p = np.exp(v - v.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    log_q = z - z.max(1, keepdims=True)
    log_q = log_q - np.log(np.exp(log_q).sum(1, keepdims=True))
    return -(p * log_q).sum() / len(z)


# --- BAN and BAN+L


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_torchs_cross_entropy_and_the_closed_form(seed):
    z, v = logits(seed)
    found = born_again_loss(z, v)
    close(found, F.cross_entropy(z, F.softmax(v, 1)), 1e-10)
    assert float(found) == pytest.approx(by_numpy(z, v), rel=1e-10)
    with_labels = born_again_loss(z, v, labels(), 0.3)
    one_hot = torch.eye(K, dtype=torch.float64)[labels()]
    assert float(with_labels) == pytest.approx(
        by_numpy(z, v) - 0.3 * float((one_hot * F.log_softmax(z, 1)).sum()) / B, rel=1e-10
    )


def test_gradients():
    z, v = logits(1)
    q, p, y = F.softmax(z, 1), F.softmax(v, 1), F.one_hot(labels(), K)
    close(gradient(lambda z: born_again_loss(z, v), z), (q - p) / B)
    found = gradient(lambda z: born_again_loss(z, v, labels(), 0.3), z)
    close(found, (q - p + 0.3 * (q - y)) / B)


def test_no_temperature_and_the_minimum_is_the_teacher():
    z, v = logits()
    entropy = F.cross_entropy(v, F.softmax(v, 1))
    close(born_again_loss(v + 7.0, v), entropy)
    assert born_again_loss(z, v) > entropy
    assert gradient(lambda z: born_again_loss(z, v), v + 7.0).abs().max() < 1e-15
    # not K times too weak, as a mean over everything would be
    over_everything = F.kl_div(F.log_softmax(z, 1), F.softmax(v, 1), reduction="none").mean()
    close(born_again_loss(z, v) - entropy, K * over_everything, 1e-11)


# --- the gradient's parts


@pytest.mark.parametrize("seed", range(3))
def test_the_parts_add_up_to_autograds_gradient(seed):
    z, v = logits(seed)
    dark, truth = gradient_parts(z, v, labels())
    close(dark + truth, gradient(lambda z: born_again_loss(z, v), z))
    at_label = F.one_hot(labels(), K).bool()
    assert (dark[at_label] == 0).all() and (truth[~at_label] == 0).all()
    assert (dark[~at_label] != 0).all() and (truth[at_label] != 0).all()
    q, p = F.softmax(z, 1)[at_label], F.softmax(v, 1)[at_label]
    close(truth[at_label], (q - p) / B)
    # as numbers, both cancel: eq. 7's sum is 0 whatever the nets say
    assert (dark.sum(1) + truth.sum(1)).abs().max() < 1e-16


def test_a_sure_and_right_teacher_leaves_the_labels_gradient():
    z, _ = logits(4)
    v = torch.where(F.one_hot(labels(), K).bool(), 0.0, -math.inf).double()
    dark, truth = gradient_parts(z, v, labels())
    hard = gradient(lambda z: F.cross_entropy(z, labels()), z)
    close(dark + truth, hard)
    close(dark, F.softmax(z, 1) / B * (dark != 0))


# --- CWTM


@pytest.mark.parametrize("b, k", [(1, 3), (6, 5), (1000, 100)])
def test_weights_sum_to_one_and_are_the_confidences(b, k):
    v = logits(5, b, k)[1]
    w = cwtm_weights(v)
    assert w.shape == (b,) and abs(float(w.sum()) - 1) < 1e-12 and (w > 0).all()
    p = np.exp(v.numpy()) / np.exp(v.numpy()).sum(1, keepdims=True)
    np.testing.assert_allclose(w.numpy(), p.max(1) / p.max(1).sum(), rtol=1e-12)
    assert abs(float(cwtm_weights(v.float()).sum()) - 1) < 1e-5


def test_cwtm_gradient_is_the_weight_times_the_labels():
    z, v = logits(6)
    assert (v.argmax(1) != labels()).any(), "a teacher that is wrong somewhere"
    w = cwtm_weights(v).unsqueeze(1)
    expected = w * (F.softmax(z, 1) - F.one_hot(labels(), K))
    close(gradient(lambda z: cwtm_loss(z, v, labels()), z), expected)
    log_q = F.log_softmax(z, 1)[torch.arange(B), labels()]
    close(cwtm_loss(z, v, labels()), -(w[:, 0] * log_q).sum())


def test_equal_confidences_give_the_mean_cross_entropy():
    z, v = logits(7)
    rolled = torch.stack([v[0].roll(s) for s in range(B)])  # the same numbers at other classes
    for same in (rolled, torch.zeros(B, K, dtype=torch.float64)):
        close(cwtm_loss(z, same, labels()), F.cross_entropy(z, labels()), 1e-14)
    assert abs(cwtm_loss(z, v, labels()) - F.cross_entropy(z, labels())) > 1e-3
    # weights sum to 1 over a batch of any size: twice the batch, the same loss
    twice = cwtm_loss(z.repeat(2, 1), v.repeat(2, 1), labels().repeat(2))
    close(twice, cwtm_loss(z, v, labels()), 1e-13)


# --- terms


def test_terms_are_the_functions():
    z, v = logits(12)
    torch.testing.assert_close(BornAgain()(seen(z, v)), born_again_loss(z, v))
    torch.testing.assert_close(CWTM()(seen(z, v)), cwtm_loss(z, v, labels()))
    both = (BornAgain() + CE(weight=0.3))(seen(z, v))["loss"]
    close(both, born_again_loss(z, v, labels(), 0.3))


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
def test_of_an_ensemble_the_mean_teaches(average):
    z, _ = logits(13)
    members = logits(14)
    out = TeacherOutputs(members, average=average)
    p = F.softmax(members, 2).mean(0) if average == "arithmetic" else F.softmax(members.mean(0), 1)
    batch = seen(z, out.logits, teacher_at=out.at)
    close(BornAgain()(batch), F.cross_entropy(z, p))
    w = p.amax(1) / p.amax(1).sum()
    each = F.cross_entropy(z, labels(), reduction="none")
    close(CWTM()(batch), (w * each).sum())
