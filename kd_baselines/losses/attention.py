"""Attention transfer: the student looks where the teacher looks.

Notation: Z (B,C,H,W) the output of a layer, A(Z)_hw = sum_c |Z_chw|^p its attention map, N(A) = A / ||A||_2
the map of one sample as a unit vector of H W pixels, j a pair of layers.

    at_paper    sum_j || N(A_S) - N(A_T) ||_2                          mean over the batch
    at_code     sum_j || N(A_S) - N(A_T) ||_2^2 / (H W)                mean over the batch
    jm          sum_j || N(A_T) - N(A_S) ||_2                          mean over the batch

The first is the paper's without its factor beta / 2, which belongs to the weight. The second is what the
authors' code computes (with a mean over channels, which the normalization takes out): smaller by H W and a
square, so its weight is another one (beta = 1000 there). The third is what Jacobian matching adds for feature
maps; its printed formula has the value of the first at the same p.

References:
    Zagoruyko and Komodakis, Paying more attention to attention, 2017, https://arxiv.org/abs/1612.03928, eq. 2
    Srinivas and Fleuret, Knowledge transfer with Jacobian matching, 2018, https://arxiv.org/abs/1803.00443
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from datadistill.errors import UsageError, nearest
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["AttentionTransfer", "attention_map", "attention_transfer_loss", "check_layers", "to_same_size"]

Form = Literal["at_paper", "at_code", "jm"]
Pool = Literal["map", "features"]

EPS = 1e-12  # under the root of the norm: identical maps give 1e-6, and a gradient of 0


def attention_map(features: Float[Tensor, "b c h w"], p: float = 2) -> Float[Tensor, "b h w"]:
    """A(Z)_hw = sum_c |Z_chw|^p.

    The absolute value matters for odd p on signed features.

    Args:
        features: (B,C,H,W), a layer's output.
        p: 1 or more.

    Returns:
        (B,H,W), not normalized.

    Raises:
        UsageError: features of another rank, or p out of range.

    Example:
        >>> attention_map(torch.tensor([[[[1.0, -2.0]], [[3.0, 0.0]]]]))
        tensor([[[10.,  4.]]])

    References:
        Zagoruyko and Komodakis 2017, section 3.1, F_sum^p.
    """
    if features.ndim != 4 or 0 in features.shape:
        raise UsageError(
            f"an attention map was asked of features of shape {tuple(features.shape)}; wanted (batch, "
            "channels, height, width), none of them 0: name a convolution or pooling layer"
        )
    if not (math.isfinite(p) and p >= 1):
        raise UsageError(f"the power p of an attention map is {p}; give 1 or more (2 is the paper's)")
    if p % 2 == 0:  # without the kink of |z|, whose second derivative torch takes as 0 at 0
        return features.pow(p).sum(1)
    return features.abs().pow(p).sum(1)


def attention_transfer_loss(
    student_features: Tensor | Sequence[Tensor],
    teacher_features: Tensor | Sequence[Tensor],
    form: Form = "at_paper",
    *,
    p: float = 2,
    pool: Pool = "map",
) -> Float[Tensor, ""]:
    """Distance of normalized attention maps: sum over the pairs of layers, mean over the batch.

    Channels may differ. Where heights or widths differ, the larger is averaged down first. A map that is zero
    everywhere stays zero under the normalization. The norm of at_paper and jm is sqrt(||.||^2 + 1e-12), at most
    sqrt(2) up to 1e-12, so that the gradient is finite where maps are equal.

    Args:
        student_features: (B,C,H,W) of one layer, or a list of these.
        teacher_features: of the same number of layers, in the same order; no gradient goes there.
        form: "at_paper", "at_code" or "jm"; see the module's formulas.
        p: of `attention_map`.
        pool: what is averaged down where sizes differ: the "map", or the "features" before it. The results
            differ.

    Returns:
        0 or more, ().

    Raises:
        UsageError: an unknown form or pool, other numbers of layers or of images, features of another rank.

    Example:
        >>> one, other = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 3.0]]]])
        >>> attention_transfer_loss(one, other)                    # sqrt(2)
        tensor(1.4142)
        >>> attention_transfer_loss(one, other, "at_code")         # 2 / 2 pixels
        tensor(1.)

    References:
        Zagoruyko and Komodakis 2017, eq. 2, and the authors' code; Srinivas and Fleuret 2018, section 5.2.
    """
    _check_choice("form", form, get_args(Form))
    _check_choice("pool", pool, get_args(Pool))
    student = [student_features] if isinstance(student_features, Tensor) else list(student_features)
    teacher = [teacher_features] if isinstance(teacher_features, Tensor) else list(teacher_features)
    if len(student) != len(teacher) or not student:
        raise UsageError(
            f"attention transfer got {len(student)} layers of the student and {len(teacher)} of the teacher; "
            "give the same number, at least 1"
        )
    return torch.stack(
        [_pair(s, t.detach(), form, p, pool) for s, t in zip(student, teacher, strict=True)]
    ).sum()


def _pair(s: Tensor, t: Tensor, form: Form, p: float, pool: Pool) -> Tensor:
    if pool == "features" and s.ndim == t.ndim == 4:
        s, t = to_same_size(s, t)
    student, teacher = to_same_size(attention_map(s, p), attention_map(t, p))
    difference = _normalized(student) - _normalized(teacher).to(student.dtype)
    if form == "at_code":
        return difference.square().mean()
    return (difference.square().sum(1) + EPS).sqrt().mean()


def _normalized(maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b pixels"]:
    """A / ||A||_2 of each sample; 0 where A is 0.

    The division by the largest pixel changes no value, so its gradient may be left out; it keeps squares in
    range. Then ||A|| >= 1, except for maps below 1e-19 (float32), which the 1/2 keeps from being divided by 0.
    """
    flat = maps.flatten(1)
    largest = flat.detach().amax(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny ** 0.5)
    flat = flat / largest
    return flat / flat.square().sum(1, keepdim=True).clamp_min(0.5).sqrt()


def to_same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both averaged down to the smaller height and the smaller width; unchanged where they are the same.

    Args:
        a: (B,H,W) or (B,C,H,W).
        b: of the same rank and batch.

    Raises:
        UsageError: other numbers of images.

    Example:
        >>> a, b = to_same_size(torch.ones(1, 4, 4), torch.ones(1, 2, 3))
        >>> a.shape == b.shape == (1, 2, 3)
        True
    """
    if len(a) != len(b):
        raise UsageError(
            f"the student's map has {len(a)} images and the teacher's {len(b)}; wanted the same images through "
            "both nets: pass one batch to both"
        )
    size = (min(a.shape[-2], b.shape[-2]), min(a.shape[-1], b.shape[-1]))
    return tuple(x if x.shape[-2:] == size else F.adaptive_avg_pool2d(x, size) for x in (a, b))  # type: ignore[return-value]


class AttentionTransfer(Term):
    """`attention_transfer_loss` of named layers.

    Args:
        layers: the student's layer -> the teacher's layer; outputs (B,C,H,W).
        form: "at_paper", "at_code" or "jm".
        p: of `attention_map`, 1 or more.
        pool: "map" or "features".
        weight: see `Term`. Papers: beta / 2 for at_paper, beta for at_code, with beta = 1000.
        name: see `Term`.

    Raises:
        UsageError: no layer, an unknown form or pool, p out of range; at the first batch, features that are
            no maps.

    Example:
        >>> sorted(AttentionTransfer({"layer3": "layer2"}, weight=1e3).needs.teacher_features)
        ['layer2']
    """

    def __init__(
        self,
        layers: Mapping[str, str],
        form: Form = "at_paper",
        p: float = 2,
        pool: Pool = "map",
        weight: Weight = 1.0,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, name)
        self.layers = check_layers(layers)
        _check_choice("form", form, get_args(Form))
        _check_choice("pool", pool, get_args(Pool))
        attention_map(torch.zeros(1, 1, 1, 1), p)  # refuses a power out of range
        self.form, self.p, self.pool = form, p, pool
        self.needs = Needs(
            student_features=frozenset(self.layers), teacher_features=frozenset(self.layers.values())
        )

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        student = [seen.student_features[name] for name in self.layers]
        teacher = [seen.teacher_features[name] for name in self.layers.values()]
        return attention_transfer_loss(student, teacher, self.form, p=self.p, pool=self.pool)

    def prepare(self, seen: Seen) -> None:
        """Refuse layers whose outputs are no maps, by name."""
        check_maps(self.layers, seen)


def check_layers(layers: Mapping[str, str]) -> dict[str, str]:
    """A copy of the pairs of layers; UsageError where there is none.

    Args:
        layers: the student's layer -> the teacher's layer.

    Example:
        >>> check_layers({"conv1": "conv2"})
        {'conv1': 'conv2'}
    """
    if not isinstance(layers, Mapping) or not layers:
        raise UsageError(
            f"attention is to be matched on {layers!r}; name pairs of layers, the student's first: "
            '{"layer3": "layer3"}'
        )
    return dict(layers)


def check_maps(layers: Mapping[str, str], seen: Seen) -> None:
    """UsageError that names a layer whose output is not (B,C,H,W)."""
    for side, features, names in (
        ("student", seen.student_features, layers),
        ("teacher", seen.teacher_features, layers.values()),
    ):
        for name in names:
            if features[name].ndim != 4:
                raise UsageError(
                    f"the {side}'s layer {name!r} makes {tuple(features[name].shape)} of a batch; wanted "
                    "(batch, channels, height, width): name a convolution or pooling layer"
                )


def _check_choice(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"attention transfer has no {what} {value!r}; {nearest(str(value), known)}")
