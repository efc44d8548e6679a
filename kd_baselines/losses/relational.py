"""Relational knowledge distillation (RKD): distances and angles between the samples of a batch.

Notation: t_i and s_i the outputs of a layer of the teacher and of the student for sample i, as flat
vectors; mu the mean distance of two different samples of the batch; H the Huber loss, x^2/2 up to
|x| = 1 and |x| - 1/2 beyond.

    psi_D(i, j) = || t_i - t_j || / mu
    psi_A(i, j, k) = cos of the angle at t_j between t_i and t_k

Reference: Park et al., Relational Knowledge Distillation, CVPR 2019,
https://arxiv.org/abs/1904.05068
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kd_baselines.losses.checks import at_least_float32, flat_rows, pair_layers
from kd_baselines.losses.divergence import to_double
from kd_baselines.losses.layer_pairs import LayerPairs

__all__ = ["RKDAngle", "RKDDistance", "rkd_angle_loss", "rkd_distance_loss"]

# of the largest distance: samples that are nearer are taken for the same point
NEAR = 1e-6

Features = Tensor | Sequence[Tensor]


def rkd_distance_loss(student_features: Features, teacher_features: Features) -> Float[Tensor, ""]:
    """1/B^2 sum_ij H(psi_D of the student - psi_D of the teacher), summed over the pairs of layers
    (Park et al. 2019).

    The paper prints a sum over the pairs of a batch; the mean over B^2 pairs, of which B are 0, is
    the authors' code's, to which the usual weight 25 belongs. Samples that are the same point have
    distance 0 and no gradient of it.

    Args:
        student_features: (B,...) of one layer, or a list of these; B at least 2.
        teacher_features: of the same number of layers, in the same order, of any size; no gradient
            goes there.

    Example:
        >>> s, t = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [10.0], [20.0]])
        >>> rkd_distance_loss(s, t), rkd_distance_loss(s, t.roll(1))
        (tensor(0.), tensor(0.1250))
    """
    return _compare(_distances, student_features, teacher_features)


def rkd_angle_loss(student_features: Features, teacher_features: Features) -> Float[Tensor, ""]:
    """1/B^3 sum_ijk H(psi_A of the student - psi_A of the teacher), summed over the pairs of layers
    (Park et al. 2019).

    The paper prints a sum over the triplets of a batch; the mean over B^3, in which triplets with a
    sample twice are 0, is the authors' code's, to which the usual weight 50 belongs. Two samples
    have no angle. Memory: B^3 numbers.

    Args:
        student_features, teacher_features: see `rkd_distance_loss`.

    Example:
        >>> corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> rkd_angle_loss(corner, 5 * corner).item() < 1e-12  # size does not matter
        True
    """
    return _compare(_angles, student_features, teacher_features)


class RKDDistance(LayerPairs):
    """`rkd_distance_loss` of pairs of layers, the student's -> the teacher's."""

    def loss(self, student: list[Tensor], teacher: list[Tensor]) -> Float[Tensor, ""]:
        return rkd_distance_loss(student, teacher)


class RKDAngle(LayerPairs):
    """`rkd_angle_loss` of pairs of layers, the student's -> the teacher's."""

    def loss(self, student: list[Tensor], teacher: list[Tensor]) -> Float[Tensor, ""]:
        return rkd_angle_loss(student, teacher)


def _compare(
    relation: Callable[[Tensor], Tensor], student_features: Features, teacher_features: Features
) -> Float[Tensor, ""]:
    losses = []
    for pair in pair_layers("RKD", student_features, teacher_features):
        s, t = flat_rows(*pair)
        loss = F.huber_loss(relation(to_double(s)), relation(to_double(t)))
        losses.append(loss.to(at_least_float32(s).dtype))
    return torch.stack(losses).sum()


def _distances(points: Float[Tensor, "b n"]) -> Float[Tensor, "b b"]:
    """psi_D of every pair."""
    _, _, distances, _ = _pairs(points)
    mu = distances.sum() / (len(points) * (len(points) - 1))
    return distances / torch.where(mu > 0, mu, torch.ones_like(mu))


def _angles(points: Float[Tensor, "b n"]) -> Float[Tensor, "b b b"]:
    """psi_A of every triplet, by the sample at the corner first; 0 where a side has no length.

    With x_i the points, the product of the sides from corner j is (x_i - x_j) (x_k - x_j) = x_i x_k
    - x_i x_j - x_j x_k + x_j x_j, so that no difference vector is kept.
    """
    products, own, distances, apart = _pairs(points)
    corner = products.unsqueeze(0) - products.unsqueeze(2) - products.unsqueeze(1)
    corner = corner + own.view(-1, 1, 1)
    inverse = torch.where(apart, 1 / torch.where(apart, distances, 1.0), 0.0)
    return corner * inverse.unsqueeze(2) * inverse.unsqueeze(1)


def _pairs(
    points: Float[Tensor, "b n"],
) -> tuple[Float[Tensor, "b b"], Float[Tensor, " b"], Float[Tensor, "b b"], Float[Tensor, "b b"]]:
    """Inner products of the centred points, their diagonal, distances, and which are apart."""
    points = points - points.mean(0)
    products = points @ points.T
    own = products.diagonal()
    squared = own.unsqueeze(0) + own.unsqueeze(1) - 2 * products
    apart = squared.detach() > NEAR**2 * squared.detach().amax()
    distances = torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)
    return products, own, distances, apart
