"""DKD, DIST, logit standardization, RKD, SP and gradient-based attention against the formulas
written out in numpy and scipy, or by torch.func."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loss_cases import close, gradient, jacobians, labels, logits, normal, smooth_conv
from scipy.spatial.distance import pdist
from scipy.special import softmax
from scipy.stats import entropy, pearsonr, zscore

from kd_baselines import losses

(Z, V), Y = logits(seed=4), labels()
S, T = normal(5, 2, 3, seed=5), normal(5, 4, seed=6)


def dkd(alpha, beta, temperature):
    """A sample at a time, from probabilities."""
    found = []
    for z, v, y in zip(Z.numpy(), V.numpy(), Y.tolist(), strict=True):
        q, p = softmax(z / temperature), softmax(v / temperature)
        true = entropy([p[y], 1 - p[y]], [q[y], 1 - q[y]])
        others = entropy(np.delete(p, y), np.delete(q, y))  # scipy makes both sum to 1
        found.append(temperature**2 * (alpha * true + beta * others))
    return np.mean(found)


def dist(beta, gamma, temperature):
    q, p = softmax(Z.numpy() / temperature, 1), softmax(V.numpy() / temperature, 1)
    inter, intra = (
        np.mean([1 - pearsonr(a, b).statistic for a, b in zip(x, y, strict=True)])
        for x, y in ((q, p), (q.T, p.T))
    )
    return temperature**2 * (beta * inter + gamma * intra)


def huber(x):
    return np.where(np.abs(x) <= 1, x**2 / 2, np.abs(x) - 0.5)


def distances():
    """Each pair once: it stands in the mean over B^2 twice."""
    psi = [(d := pdist(x.flatten(1).numpy())) / d.mean() for x in (S, T)]
    return 2 * huber(psi[0] - psi[1]).sum() / len(S) ** 2


def angles():
    total = 0.0
    for i, j, k in itertools.permutations(range(len(S)), 3):
        cosines = []
        for x in (S.flatten(1).numpy(), T.numpy()):
            a, b = x[i] - x[j], x[k] - x[j]
            cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        total += float(huber(cosines[0] - cosines[1]))
    return total / len(S) ** 3


def similarity():
    rows = []
    for x in (S.flatten(1).numpy(), T.numpy()):
        g = np.array([[a @ b for b in x] for a in x])
        rows.append(np.array([row / np.linalg.norm(row) for row in g]))
    return np.linalg.norm(rows[1] - rows[0], "fro") ** 2 / len(S) ** 2


def gradient_attention():
    x, y, total = normal(3, 1, 4, 4), (2, 0, 1), 0.0
    for b, label in enumerate(y):
        student, teacher = (
            jacobians(smooth_conv(seed), x, lambda z, k=label: -F.log_softmax(z, 0)[k, None])[b]
            for seed in (0, 1)
        )
        total += float((student - teacher).detach().norm()) / len(y)
    found = losses.gradient_attention_loss(smooth_conv(0), smooth_conv(1), x, torch.tensor(y))
    return found.detach(), total


CASES = {
    **{
        f"dkd {case}": (losses.dkd_loss(Z, V, Y, *case), dkd(*case))
        for case in ((1.0, 8.0, 4.0), (1.0, 0.0, 0.5), (0.0, 2.0, 20.0))
    },
    **{
        f"dist {case}": (losses.dist_loss(Z, V, *case), dist(*case))
        for case in ((1.0, 1.0, 1.0), (2.0, 0.0, 4.0), (0.0, 3.0, 0.5))
    },
    "z-scores": (losses.standardize_logits(Z), zscore(Z.numpy(), axis=1)),
    "rkd distance": (losses.rkd_distance_loss(S, T), distances()),
    "rkd angle": (losses.rkd_angle_loss(S, T), angles()),
    "similarity": (losses.similarity_loss(S, T), similarity()),
    "gradient attention": gradient_attention(),
}


@pytest.mark.parametrize("name", CASES)
def test_a_second_formulation(name):
    found, wanted = CASES[name]
    close(found, torch.as_tensor(wanted, dtype=torch.float64), 1e-10, 1e-12)


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_soft_targets_are_dkd_whose_beta_is_the_teachers_doubt(temperature):
    """KL = TCKD + (1 - p_y) NCKD, a sample at a time, and the same gradient."""
    p = (V / temperature).softmax(1)
    for b in range(len(Z)):
        one, beta = slice(b, b + 1), 1 - float(p[b, Y[b]])

        def decoupled(z, one=one, beta=beta):
            return losses.dkd_loss(z, V[one], Y[one], 1.0, beta, temperature)

        def soft(z, one=one):
            return losses.soft_target_loss(z, V[one], temperature)

        close(decoupled(Z[one]), soft(Z[one]), 1e-10)
        close(gradient(decoupled, Z[one]), gradient(soft, Z[one]), 1e-9, 1e-12)


def test_dkd_of_two_classes_has_no_other_classes():
    z, v = Z[:, :2], V[:, :2]
    close(losses.dkd_loss(z, v, Y % 2, 1.0, 8.0, 2.0), losses.soft_target_loss(z, v, 2.0))


def test_scale_and_shift_of_standardized_logits_do_not_matter():
    a, b = normal(6, 1, seed=7).abs(), normal(6, 1, seed=8)
    close(losses.standardize_logits(a * Z + b), losses.standardize_logits(Z))


def test_equal_logits_are_only_centred_and_keep_a_small_gradient():
    flat = torch.full((2, 3), 0.1)
    assert torch.equal(losses.standardize_logits(flat).round(decimals=6), torch.zeros(2, 3))
    found = gradient(
        lambda z: losses.soft_target_loss(losses.standardize_logits(z), Z[:2, :3], 2.0), flat
    )
    assert bool(torch.isfinite(found).all()) and 0 < float(found.abs().max()) < 10


def test_relations_do_not_see_where_the_points_are_nor_how_they_are_turned():
    turn = torch.linalg.qr(normal(4, 4, seed=9)).Q
    for loss in (losses.rkd_distance_loss, losses.rkd_angle_loss):
        close(loss(S, 7 * T @ turn + 100), loss(S, T), 1e-8)
        assert float(loss(3 * T @ turn - 5, T)) < 1e-12
    close(losses.similarity_loss(S, 7 * T @ turn), losses.similarity_loss(S, T))


SAME = {
    "dist, equal logits": (losses.dist_loss, torch.zeros(4, 3), normal(4, 3)),
    "dist, equal logits of 7 classes": (losses.dist_loss, torch.full((4, 7), 0.3), normal(4, 7)),
    "rkd distance": (losses.rkd_distance_loss, torch.zeros(4, 3), normal(4, 5)),
    "rkd angle": (losses.rkd_angle_loss, torch.ones(4, 3), normal(4, 5)),
    "rkd distance, two the same": (
        losses.rkd_distance_loss,
        normal(3, 3)[[0, 1, 2, 0]],
        normal(4, 5),
    ),
    "rkd angle, two the same": (losses.rkd_angle_loss, normal(3, 3)[[0, 1, 2, 0]], normal(4, 5)),
    "similarity": (losses.similarity_loss, torch.zeros(4, 3), normal(4, 5)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SAME)
def test_samples_that_are_the_same_have_a_finite_gradient(name, dtype):
    loss, student, teacher = SAME[name]
    found = gradient(lambda s: loss(s, teacher.to(dtype)), student.to(dtype))
    assert bool(torch.isfinite(found).all()) and float(found.abs().max()) < 1e3
    swapped = gradient(lambda s: loss(s, student.to(dtype)), teacher.to(dtype))
    assert bool(torch.isfinite(swapped).all())


@pytest.mark.parametrize("size", [1e-15, 1e15])
def test_features_of_any_size_stay_in_range(size):
    for loss in (losses.similarity_loss, losses.rkd_distance_loss, losses.rkd_angle_loss):
        small = loss(size * S.float(), T.float())
        torch.testing.assert_close(small, loss(S, T).float(), rtol=1e-5, atol=0)


def test_layers_are_added():
    for loss in (losses.similarity_loss, losses.rkd_distance_loss, losses.rkd_angle_loss):
        close(loss([S, T], [T, T.roll(1)]), loss(S, T) + loss(T, T.roll(1)))
