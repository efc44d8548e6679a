"""Similarity preserving (SP): images that look alike to the teacher look alike to the student.

Notation: Q (B,N) the outputs of a layer, one flat row a sample; G(Q) (B,B) the rows of Q Q^T, each
as a unit vector: how similar a sample is to each sample of its batch.

Reference: Tung and Mori, Similarity-Preserving Knowledge Distillation, ICCV 2019,
https://arxiv.org/abs/1907.09682
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kd_baselines.losses.checks import at_least_float32, flat_rows, pair_layers
from kd_baselines.losses.layer_pairs import LayerPairs

__all__ = ["SimilarityPreserving", "similarity_loss"]


def similarity_loss(
    student_features: Tensor | Sequence[Tensor], teacher_features: Tensor | Sequence[Tensor]
) -> Float[Tensor, ""]:
    """1/B^2 || G(Q_T) - G(Q_S) ||_F^2, summed over the pairs of layers (Tung and Mori 2019, without
    its weight gamma).

    Channels and sizes of maps may differ; only the similarities are compared. A sample whose
    outputs are all 0 is similar to none.

    Args:
        student_features: (B,...) of one layer, or a list of these; B at least 2.
        teacher_features: of the same number of layers, in the same order; no gradient goes there.

    Example:
        >>> alike, apart = torch.tensor([[1.0], [1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> similarity_loss(alike, apart)  # 4 entries: 0.7071 against 1 or 0; 2 - sqrt(2)
        tensor(0.2929)
    """
    pairs = pair_layers("similarity preserving", student_features, teacher_features)
    return torch.stack([_pair(*flat_rows(s, t)) for s, t in pairs]).sum()


class SimilarityPreserving(LayerPairs):
    """`similarity_loss` of pairs of layers, the student's -> the teacher's. The weight is the
    paper's gamma, there 3000."""

    def loss(self, student: list[Tensor], teacher: list[Tensor]) -> Float[Tensor, ""]:
        return similarity_loss(student, teacher)


def _pair(s: Float[Tensor, "b n"], t: Float[Tensor, "b m"]) -> Float[Tensor, ""]:
    difference = _similarities(s) - _similarities(t).to(at_least_float32(s).dtype)
    return difference.square().mean()


def _similarities(rows: Float[Tensor, "b n"]) -> Float[Tensor, "b b"]:
    rows = at_least_float32(rows)
    largest = rows.detach().abs().amax()
    # a common factor changes nothing, so it needs no gradient; it keeps the squares in range
    rows = rows / torch.where(largest > 0, largest, torch.ones_like(largest))
    similar = rows @ rows.T
    squared = similar.square().sum(1, keepdim=True)
    return similar / torch.where(squared > 0, squared, torch.ones_like(squared)).sqrt()
