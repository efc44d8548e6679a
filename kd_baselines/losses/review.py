"""ReviewKD: each layer of the teacher is taught to the student's layer of the same depth and all
deeper ones, fused.

Notation: student layers x_1 (shallow) to x_n (deep), teacher layers t_1 to t_n. From the deepest
on, with convolutions that are trained with the student and then thrown away,

    m_n = C(x_n),   m_i = a_i * C(x_i) + b_i * resize(m_(i+1))     fused, `middle` channels
    f_i = D(resize(m_i))                                           of the size and channels of t_i

where C is a convolution of kernel 1 and D one of kernel 3, both followed by BatchNorm, and the
attention maps (a_i, b_i) = sigmoid(convolution of kernel 1 of [C(x_i), resize(m_(i+1))]).

Reference: Chen et al., Distilling Knowledge via Knowledge Review, CVPR 2021,
https://arxiv.org/abs/2104.09044
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from kd_baselines.losses.checks import at_least_float32, check_layers, pair_layers
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["Fusion", "ReviewKD", "hierarchical_context_loss"]

LEVELS = (4, 2, 1)
"""Sides of the maps after pooling, each with half the weight of the level before."""

Features = Tensor | Sequence[Tensor]


def hierarchical_context_loss(
    student_features: Features, teacher_features: Features
) -> Float[Tensor, ""]:
    """Mean squared differences of maps as they are, and averaged down to 4 x 4, 2 x 2 and 1 x 1,
    with the weights 1, 1/2, 1/4, 1/8 over their sum; added up over the pairs of layers (Chen et al.
    2021; the weights are the authors' code's).

    Levels that are not smaller than the map are left out.

    Args:
        student_features: (B,C,H,W) of one layer, or a list of these.
        teacher_features: of the same shapes, in the same order; no gradient goes there.

    Example:
        >>> hierarchical_context_loss(torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8))
        tensor(1.)
    """
    pairs = pair_layers("hierarchical context", student_features, teacher_features)
    return torch.stack([_compare(s, t) for s, t in pairs]).sum()


def _compare(student: Tensor, teacher: Tensor) -> Float[Tensor, ""]:
    if student.shape != teacher.shape or student.dim() != 4 or not student.numel():
        raise UsageError(
            f"the student's maps are {tuple(student.shape)} and the teacher's "
            f"{tuple(teacher.shape)}; give (samples, channels, height, width), the same of both"
        )
    s, t = at_least_float32(student), at_least_float32(teacher)
    found, weight, total = F.mse_loss(s, t), 1.0, 1.0
    for side in LEVELS:
        if side < min(s.shape[2:]):
            weight /= 2
            difference = F.adaptive_avg_pool2d(s - t, side)  # the pooling is linear
            found = found + weight * difference.square().mean()
            total += weight
    return found / total


class Fusion(nn.Module):
    """m_i and f_i of the module's table, from x_i and m_(i+1).

    Args:
        student: channels of x_i.
        middle: channels of m_i.
        teacher: channels of t_i.
        deepest: whether there is no m_(i+1).
    """

    def __init__(self, student: int, middle: int, teacher: int, deepest: bool) -> None:
        super().__init__()
        self.enter = nn.Sequential(
            nn.Conv2d(student, middle, 1, bias=False), nn.BatchNorm2d(middle)
        )
        self.attend = None if deepest else nn.Conv2d(2 * middle, 2, 1)
        self.leave = nn.Sequential(
            nn.Conv2d(middle, teacher, 3, padding=1, bias=False), nn.BatchNorm2d(teacher)
        )
        for convolution in (self.enter[0], self.leave[0]):
            assert isinstance(convolution, nn.Conv2d)
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(
        self, x: Float[Tensor, "b c h w"], deeper: Tensor | None, size: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """m_i and f_i, both of height and width `size`."""
        fused = self.enter(x)
        if self.attend is not None:
            assert deeper is not None
            deeper = _resize(deeper, fused.shape[2:])
            a, b = self.attend(torch.cat([fused, deeper], 1)).sigmoid().split(1, 1)
            fused = a * fused + b * deeper
        fused = _resize(fused, size)
        return fused, self.leave(fused)


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    return maps if maps.shape[2:] == tuple(size) else F.interpolate(maps, tuple(size))


class ReviewKD(Term):
    """`hierarchical_context_loss` of fused layers of the student and the teacher's layers.

    The fusions are the term's own and trained with the student. Vectors (B,C) are taken as maps of
    one pixel. The paper warms the weight up over 20 epochs and has weights from 0.6 to 8, mostly 5.

    Args:
        layers: pairs of layers, the student's -> the teacher's, from shallow to deep.
        middle: channels of the fused maps; None: those of the student's deepest layer, at most 512.
    """

    def __init__(
        self,
        layers: Mapping[str, str],
        middle: int | None = None,
        weight: Weight = 1.0,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, name)
        self.layers, self.middle = check_layers(layers), middle
        if middle is not None and (isinstance(middle, bool) or middle < 1):
            raise UsageError(f"middle is {middle}; give a number of channels, at least 1, or None")
        self.fusions = nn.ModuleList()
        self.needs = Needs.layers(self.layers)

    def prepare(self, seen: Seen) -> None:
        student, teacher = self._maps(seen)
        middle = min(512, student[-1].shape[1]) if self.middle is None else self.middle
        self.fusions = nn.ModuleList(
            Fusion(s.shape[1], middle, t.shape[1], deepest=s is student[-1]).to(s.device, s.dtype)
            for s, t in zip(student, teacher, strict=True)
        )

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        if not self.fusions:
            raise UsageError(
                "the fusions of ReviewKD are not made yet; call prepare(seen) once before training"
            )
        student, teacher = self._maps(seen)
        if self.training and len(student[0]) < 2:
            raise UsageError("one sample has no batch statistics; give batches of 2 or more")
        fused: Tensor | None = None
        found = []
        for fusion, s, t in list(zip(self.fusions, student, teacher, strict=True))[::-1]:
            fused, own = fusion(s, fused, t.shape[2:])
            found.append(own)
        return hierarchical_context_loss(found[::-1], teacher)

    def _maps(self, seen: Seen) -> tuple[list[Tensor], list[Tensor]]:
        """The outputs of the layers, all as maps."""
        sides = []
        for whose, names, outputs in zip(
            ("student", "teacher"),
            (self.layers, self.layers.values()),
            seen.features_of(self.layers),
            strict=True,
        ):
            maps = [x[:, :, None, None] if x.dim() == 2 else x for x in outputs]
            for name, x in zip(names, maps, strict=True):
                if x.dim() != 4:
                    raise UsageError(
                        f"the {whose}'s layer {name!r} makes {tuple(x.shape)} of a batch; wanted "
                        "(batch, channels, height, width) or (batch, channels)"
                    )
            sides.append(maps)
        return sides[0], sides[1]
