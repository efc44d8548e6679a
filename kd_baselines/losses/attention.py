"""Attention transfer: the student looks where the teacher looks.

Notation: Z (B,C,H,W) the output of a layer, A(Z) its attention map, N(A) = A / ||A||_2 the map of
one sample as a unit vector of H W pixels, j a pair of layers.

References:
    Zagoruyko and Komodakis, Paying more attention to attention, 2017,
        https://arxiv.org/abs/1612.03928
    Srinivas and Fleuret, Knowledge transfer with Jacobian matching, 2018,
        https://arxiv.org/abs/1803.00443
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from datadistill.errors import UsageError
from datadistill.nets.layers import check_choice
from kd_baselines.features import Layer, Reading, read
from kd_baselines.losses.checks import check_layers, pair_layers
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = [
    "AttentionTransfer",
    "attention_map",
    "attention_transfer_loss",
    "check_power",
    "to_same_size",
]

Form = Literal["at_paper", "at_code", "jm"]
Pool = Literal["map", "features"]

EPS = 1e-12  # under the root of the norm: identical maps give 1e-6, and a gradient of 0


def attention_map(features: Float[Tensor, "b c h w"], p: float = 2) -> Float[Tensor, "b h w"]:
    """A(Z)_hw = sum_c |Z_chw|^p, not normalized (Zagoruyko and Komodakis 2017, section 3.1).

    Args:
        features: Z, (B,C,H,W), a layer's output.
        p: 1 or more; 2 is the paper's. The absolute value matters for odd p on signed features.

    Returns:
        (B,H,W).

    Example:
        >>> attention_map(torch.tensor([[[[1.0, -2.0]], [[3.0, 0.0]]]]))
        tensor([[[10.,  4.]]])
    """
    if features.ndim != 4 or 0 in features.shape:
        raise UsageError(
            f"an attention map was asked of features of shape {tuple(features.shape)}; wanted "
            "(batch, channels, height, width), none of them 0: name a convolution or pooling layer"
        )
    check_power(p)
    if p % 2 == 0:  # without the kink of |z|, whose second derivative torch takes as 0 at 0
        return features.pow(p).sum(1)
    return features.abs().pow(p).sum(1)


def check_power(p: float) -> None:
    """Refuse a power of an attention map that is not finite or below 1."""
    if not (math.isfinite(p) and p >= 1):
        raise UsageError(
            f"the power p of an attention map is {p}; give 1 or more (2 is the paper's)"
        )


def attention_transfer_loss(
    student_features: Tensor | Sequence[Tensor],
    teacher_features: Tensor | Sequence[Tensor],
    form: Form = "at_paper",
    *,
    p: float = 2,
    pool: Pool = "map",
) -> Float[Tensor, ""]:
    """Distance of normalized attention maps: sum over the pairs of layers, mean over the batch.

        at_paper    sum_j || N(A_S) - N(A_T) ||_2              Zagoruyko and Komodakis 2017, eq. 2
        at_code     sum_j || N(A_S) - N(A_T) ||_2^2 / (H W)    the authors' code
        jm          sum_j || N(A_T) - N(A_S) ||_2              Srinivas and Fleuret 2018, section
                                                               5.2

    The first is the paper's without its factor beta / 2, which belongs to the weight. The second
    (with a mean over channels there, which the normalization takes out) is smaller by H W and a
    square, so its weight is another one (beta = 1000 there). The third's printed formula has the
    value of the first at the same p.

    Channels may differ. Where heights or widths differ, the larger is averaged down first. A map
    that is zero everywhere stays zero under the normalization. The norm of at_paper and jm is
    sqrt(||.||^2 + 1e-12), at most sqrt(2) up to 1e-12, so that the gradient is finite where maps
    are equal.

    Args:
        student_features: (B,C,H,W) of one layer, or a list of these.
        teacher_features: of the same number of layers, in the same order; no gradient goes there.
        form: "at_paper", "at_code" or "jm".
        p: of `attention_map`.
        pool: what is averaged down where sizes differ: the "map", or the "features" before it. The
            results differ.

    Example:
        >>> one, other = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 3.0]]]])
        >>> attention_transfer_loss(one, other)                    # sqrt(2)
        tensor(1.4142)
        >>> attention_transfer_loss(one, other, "at_code")         # 2 / 2 pixels
        tensor(1.)
    """
    check_choice("form", form, get_args(Form))
    check_choice("pool", pool, get_args(Pool))
    pairs = pair_layers("attention transfer", student_features, teacher_features)
    return torch.stack([_pair(s, t, form, p, pool) for s, t in pairs]).sum()


def _pair(s: Tensor, t: Tensor, form: Form, p: float, pool: Pool) -> Tensor:
    if pool == "features" and s.ndim == t.ndim == 4:
        s, t = to_same_size(s, t)
    return _distance(attention_map(s, p), attention_map(t, p), form)


def _distance(student: Tensor, teacher: Tensor, form: Form) -> Float[Tensor, ""]:
    student, teacher = to_same_size(student, teacher)
    difference = _normalize(student) - _normalize(teacher).to(student.dtype)
    if form == "at_code":
        return difference.square().mean()
    return (difference.square().sum(1) + EPS).sqrt().mean()


def _normalize(maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b pixels"]:
    """A / ||A||_2 of each sample; 0 where A is 0.

    The division by the largest pixel changes no value and keeps squares in range, so it needs no
    gradient. Then ||A|| >= 1, except for maps below 1e-19 (float32), which the 1/2 keeps from being
    divided by 0.
    """
    flat = maps.flatten(1)
    largest = flat.detach().amax(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny ** 0.5)
    flat = flat / largest
    return flat / flat.square().sum(1, keepdim=True).clamp_min(0.5).sqrt()


def to_same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (B,H,W) or features (B,C,H,W), averaged down to the smaller height and the smaller
    width."""
    if len(a) != len(b):
        raise UsageError(
            f"the student's map has {len(a)} images and the teacher's {len(b)}; wanted the same "
            "images through both nets: pass one batch to both"
        )
    size = (min(a.shape[-2], b.shape[-2]), min(a.shape[-1], b.shape[-1]))
    return tuple(x if x.shape[-2:] == size else F.adaptive_avg_pool2d(x, size) for x in (a, b))  # type: ignore[return-value]


class AttentionTransfer(Term):
    """`attention_transfer_loss` of pairs of layers, the student's -> the teacher's. The weight is
    beta / 2 for at_paper and beta for at_code; the papers have beta = 1000.

    Where maps are averaged down (`pool`), the term reads no more of the teacher than its maps, C
    times less than its features.
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
        check_choice("form", form, get_args(Form))
        check_choice("pool", pool, get_args(Pool))
        check_power(p)
        self.form, self.p, self.pool = form, p, pool
        self.read: dict[str, Layer] = dict(self.layers)
        if pool == "map":
            self.read = {mine: _map_of(theirs, p) for mine, theirs in self.layers.items()}
        self.needs = Needs(
            student_features=frozenset(self.read), teacher_features=frozenset(self.read.values())
        )

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        student = [seen.student_features[name] for name in self.layers]
        known = read(seen.teacher_features, self.read.values())
        teacher = [known[one] for one in self.read.values()]
        if self.pool == "features":
            return attention_transfer_loss(student, teacher, self.form, p=self.p, pool=self.pool)
        maps = zip((attention_map(s, self.p) for s in student), teacher, strict=True)
        return torch.stack([_distance(mine, theirs, self.form) for mine, theirs in maps]).sum()

    def prepare(self, seen: Seen) -> None:
        for name in self.layers:
            _check_map("student", name, seen.student_features[name])
        for one, found in read(seen.teacher_features, self.read.values()).items():
            if isinstance(one, str):
                _check_map("teacher", one, found)


def _map_of(layer: str, p: float) -> Reading:
    def read_map(features: Tensor) -> Tensor:
        _check_map("teacher", layer, features)
        return attention_map(features, p)

    return Reading(layer, f"attention map, p = {float(p)!r}", read_map)


def check_maps(layers: Mapping[str, str], seen: Seen) -> None:
    """Refuse a layer whose output is not (B,C,H,W), by name."""
    for side, features, names in (
        ("student", seen.student_features, layers),
        ("teacher", seen.teacher_features, layers.values()),
    ):
        for name in names:
            _check_map(side, name, features[name])


def _check_map(side: str, name: str, features: Tensor) -> None:
    if features.ndim != 4:
        raise UsageError(
            f"the {side}'s layer {name!r} makes {tuple(features.shape)} of a batch; wanted "
            "(batch, channels, height, width): name a convolution or pooling layer"
        )
