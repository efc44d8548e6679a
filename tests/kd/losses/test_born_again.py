"""Born-Again Networks: BAN's loss and gradient, its two parts, and CWTM."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from datadistill.errors import UsageError
from kd_baselines.losses import (
    CE,
    CWTM,
    BornAgain,
    Seen,
    born_again_loss,
    cwtm_loss,
    cwtm_weights,
    dkpp_targets,
    gradient_parts,
)
from kd_baselines.teachers import TeacherOutputs

B, K = 6, 5


def logits(seed=0, b=B, k=K, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    return 3.0 * torch.randn(2, b, k, generator=draw, dtype=dtype)


def labels(b=B, k=K):
    return torch.arange(b) % k


def gradient(function, z):
    z = z.clone().requires_grad_()
    return torch.autograd.grad(function(z), z)[0]


def seen(z, v, **more):
    images = torch.zeros(len(v), 1, 1, 1, dtype=v.dtype)
    return Seen(images, labels(len(v), v.shape[1]), z, v, **{"teacher_at": lambda T: v, **more})


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
    torch.testing.assert_close(found, F.cross_entropy(z, F.softmax(v, 1)), rtol=1e-10, atol=0)
    assert float(found) == pytest.approx(by_numpy(z, v), rel=1e-10)
    with_labels = born_again_loss(z, v, labels(), 0.3)
    one_hot = torch.eye(K, dtype=torch.float64)[labels()]
    assert float(with_labels) == pytest.approx(
        by_numpy(z, v) - 0.3 * float((one_hot * F.log_softmax(z, 1)).sum()) / B, rel=1e-10
    )


def test_gradients():
    z, v = logits(1)
    q, p, y = F.softmax(z, 1), F.softmax(v, 1), F.one_hot(labels(), K)
    torch.testing.assert_close(
        gradient(lambda z: born_again_loss(z, v), z), (q - p) / B, rtol=1e-12, atol=1e-15
    )
    found = gradient(lambda z: born_again_loss(z, v, labels(), 0.3), z)
    torch.testing.assert_close(found, (q - p + 0.3 * (q - y)) / B, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", ["ban", "ban+l", "cwtm"])
def test_gradient_is_the_central_difference_and_the_jacobian(loss):
    z, v = logits(2)
    function = {
        "ban": lambda z: born_again_loss(z, v),
        "ban+l": lambda z: born_again_loss(z, v, labels()),
        "cwtm": lambda z: cwtm_loss(z, v, labels()),
    }[loss]
    found, h = gradient(function, z), 1e-4
    steps = h * torch.eye(B * K, dtype=torch.float64).view(-1, B, K)
    differences = torch.stack([(function(z + s) - function(z - s)) / (2 * h) for s in steps]).view(B, K)
    torch.testing.assert_close(found, differences, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found, torch.func.jacrev(function)(z), rtol=1e-12, atol=1e-15)
    assert torch.autograd.gradcheck(function, (z.clone().requires_grad_(),))


def test_no_temperature_and_the_minimum_is_the_teacher():
    z, v = logits()
    entropy = F.cross_entropy(v, F.softmax(v, 1))
    torch.testing.assert_close(born_again_loss(v + 7.0, v), entropy, rtol=1e-12, atol=0)
    assert born_again_loss(z, v) > entropy
    assert gradient(lambda z: born_again_loss(z, v), v + 7.0).abs().max() < 1e-15
    # not K times too weak, as a mean over everything would be
    over_everything = F.kl_div(F.log_softmax(z, 1), F.softmax(v, 1), reduction="none").mean()
    torch.testing.assert_close(born_again_loss(z, v) - entropy, K * over_everything, rtol=1e-11, atol=0)


def test_the_teacher_gets_no_gradient_and_inputs_stay():
    z, v = (x.requires_grad_() for x in logits(3))
    before = z.detach().clone(), v.detach().clone()
    draw = torch.Generator().manual_seed(0)
    targets = dkpp_targets(v, draw)
    (born_again_loss(z, v, labels()) + cwtm_loss(z, v, labels()) + F.cross_entropy(z, targets)).backward()
    parts = gradient_parts(z, v, labels())
    assert v.grad is None and z.grad is not None
    assert not any(x.requires_grad for x in (targets, cwtm_weights(v), *parts))
    assert torch.equal(z, before[0]) and torch.equal(v, before[1])


# --- the gradient's parts


@pytest.mark.parametrize("seed", range(3))
def test_the_parts_add_up_to_autograds_gradient(seed):
    z, v = logits(seed)
    dark, truth = gradient_parts(z, v, labels())
    torch.testing.assert_close(
        dark + truth, gradient(lambda z: born_again_loss(z, v), z), rtol=1e-12, atol=1e-15
    )
    at_label = F.one_hot(labels(), K).bool()
    assert (dark[at_label] == 0).all() and (truth[~at_label] == 0).all()
    assert (dark[~at_label] != 0).all() and (truth[at_label] != 0).all()
    q, p = F.softmax(z, 1)[at_label], F.softmax(v, 1)[at_label]
    torch.testing.assert_close(truth[at_label], (q - p) / B, rtol=1e-12, atol=1e-15)
    # as numbers, both cancel: eq. 7's sum is 0 whatever the nets say
    assert (dark.sum(1) + truth.sum(1)).abs().max() < 1e-16


def test_a_sure_and_right_teacher_leaves_the_gradient_of_the_label():
    z, _ = logits(4)
    v = torch.where(F.one_hot(labels(), K).bool(), 0.0, -math.inf).double()
    dark, truth = gradient_parts(z, v, labels())
    hard = gradient(lambda z: F.cross_entropy(z, labels()), z)
    torch.testing.assert_close(dark + truth, hard, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(dark, F.softmax(z, 1) / B * (dark != 0), rtol=1e-12, atol=1e-15)


# --- CWTM


@pytest.mark.parametrize("b, k", [(1, 3), (6, 5), (1000, 100)])
def test_weights_sum_to_one_and_are_the_confidences(b, k):
    v = logits(5, b, k)[1]
    w = cwtm_weights(v)
    assert w.shape == (b,) and abs(float(w.sum()) - 1) < 1e-12 and (w > 0).all()
    p = np.exp(v.numpy()) / np.exp(v.numpy()).sum(1, keepdims=True)
    np.testing.assert_allclose(w.numpy(), p.max(1) / p.max(1).sum(), rtol=1e-12)
    assert abs(float(cwtm_weights(v.float()).sum()) - 1) < 1e-5


def test_cwtm_gradient_is_the_weight_times_that_of_the_true_label():
    z, v = logits(6)
    assert (v.argmax(1) != labels()).any(), "a teacher that is wrong somewhere"
    w = cwtm_weights(v).unsqueeze(1)
    expected = w * (F.softmax(z, 1) - F.one_hot(labels(), K))
    torch.testing.assert_close(
        gradient(lambda z: cwtm_loss(z, v, labels()), z), expected, rtol=1e-12, atol=1e-15
    )
    log_q = F.log_softmax(z, 1)[torch.arange(B), labels()]
    torch.testing.assert_close(cwtm_loss(z, v, labels()), -(w[:, 0] * log_q).sum(), rtol=1e-12, atol=0)


def test_equal_confidences_give_the_mean_cross_entropy():
    z, v = logits(7)
    rolled = torch.stack([v[0].roll(s) for s in range(B)])  # the same numbers at other classes
    for same in (rolled, torch.zeros(B, K, dtype=torch.float64)):
        torch.testing.assert_close(
            cwtm_loss(z, same, labels()), F.cross_entropy(z, labels()), rtol=1e-14, atol=0
        )
    assert abs(cwtm_loss(z, v, labels()) - F.cross_entropy(z, labels())) > 1e-3
    # weights sum to 1 over a batch of any size: twice the batch, the same loss
    twice = cwtm_loss(z.repeat(2, 1), v.repeat(2, 1), labels().repeat(2))
    torch.testing.assert_close(twice, cwtm_loss(z, v, labels()), rtol=1e-13, atol=0)


# --- terms


def test_terms_are_the_functions():
    z, v = logits(12)
    torch.testing.assert_close(BornAgain()(seen(z, v)), born_again_loss(z, v))
    torch.testing.assert_close(CWTM()(seen(z, v)), cwtm_loss(z, v, labels()))
    both = (BornAgain() + CE(weight=0.3))(seen(z, v))["loss"]
    torch.testing.assert_close(both, born_again_loss(z, v, labels(), 0.3), rtol=1e-12, atol=0)


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
def test_of_an_ensemble_the_mean_teaches(average):
    z, _ = logits(13)
    members = logits(14)
    out = TeacherOutputs(members, average=average)
    p = F.softmax(members, 2).mean(0) if average == "arithmetic" else F.softmax(members.mean(0), 1)
    batch = seen(z, out.logits, teacher_at=out.at)
    torch.testing.assert_close(BornAgain()(batch), F.cross_entropy(z, p), rtol=1e-12, atol=0)
    w = p.amax(1) / p.amax(1).sum()
    each = F.cross_entropy(z, labels(), reduction="none")
    torch.testing.assert_close(CWTM()(batch), (w * each).sum(), rtol=1e-12, atol=0)


REFUSED = [
    (lambda z, v: born_again_loss(z, v[:, :3]), "the student has 5 classes, the teacher 3"),
    (lambda z, v: born_again_loss(z[:4], v), "of 4 samples, the teacher of 6"),
    (lambda z, v: born_again_loss(z, v, labels(), -1.0), "a weight is -1.0"),
    (lambda z, v: born_again_loss(z, v, labels() + 1), "labels go from 1 to 5"),
    (lambda z, v: gradient_parts(z, v[:, :3], labels()), "the student has 5 classes, the teacher 3"),
    (lambda z, v: gradient_parts(z, v, labels()[:3]), "labels are (3,)"),
    (lambda z, v: cwtm_loss(z, v[:, :3], labels()), "the student has 5 classes, the teacher 3"),
    (lambda z, v: cwtm_loss(z, v, labels() - 1), "labels go from -1 to 3"),
    (lambda z, v: cwtm_weights(v[0]), "the teacher's logits are (5,)"),
    (lambda z, v: cwtm_weights(v.long()), "torch.int64; pass floats"),
    (lambda z, v: BornAgain().prepare(seen(z[:, :3], v)), "the student has 3 classes, the teacher 5"),
    (lambda z, v: CWTM().prepare(seen(z[:, :3], v)), "the student has 3 classes, the teacher 5"),
]


@pytest.mark.parametrize("call, sentence", REFUSED, ids=[f"{i}: {s}" for i, (_, s) in enumerate(REFUSED)])
def test_what_does_not_fit_is_refused(call, sentence):
    with pytest.raises(UsageError) as refused:
        call(*logits())
    assert sentence in str(refused.value)
