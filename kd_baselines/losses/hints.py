"""Hints: a layer of the student, the guided one, learns to predict a layer of the teacher, the
hint.

Notation: hint u_h(x) of the teacher, (B,O_h,N_h1,N_h2); guided layer v_g(x) of the student,
(B,O_g,N_g1,N_g2); regressor r on top of the guided layer, which is trained with it and then thrown
away.

FitNets trains the layers up to the guided one on `hint_loss` alone (a `Stage` with `until`), then
the whole student on `CE() + FitNetsKD()`. Many re-implementations add it to the second stage's loss
instead; the paper tried that on its 19-layer net, which then failed to learn.

Reference: Romero et al., FitNets: Hints for Thin Deep Nets, 2015, https://arxiv.org/abs/1412.6550,
section 2.2 and algorithm 1
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.layers import check_choice
from kd_baselines.losses.checks import check_layers
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["Hint", "Regressor", "hint_loss"]

ACTIVATIONS = {"none": 1, "relu": 1, "maxout": 2}
"""What may follow the regressor's sum, and how many sums it takes for one output."""
KINDS = ("convolution", "linear")
"""What the regressor's sum is."""


def hint_loss(regressed: Float[Tensor, "b ..."], hint: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """1/(2B) sum_b || u_h(x_b) - r(v_g(x_b)) ||^2, summed over channels and pixels (Romero et al.
    2015, eq. 3).

    Args:
        regressed: r(v_g(x)), (B,...).
        hint: u_h(x), of the same shape; no gradient flows to it.

    Example:
        >>> import torch
        >>> hint_loss(torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4))  # 48 / 2
        tensor(24.)
    """
    if regressed.shape != hint.shape or hint.dim() < 2 or not hint.numel():
        raise UsageError(
            f"the student gives {tuple(regressed.shape)} for a hint of {tuple(hint.shape)}; both "
            "must be (samples, features...) of the same shape: put a Regressor on "
            "the student's layer"
        )
    return (regressed - hint.detach()).square().flatten(1).sum(1).mean() / 2


class Regressor(nn.Module):
    """The prediction of a hint from a guided layer: a convolution of kernel N_g - N_h + 1, stride
    1, no padding, with bias (Romero et al. 2015, eq. 4).

    Vectors get a linear layer instead. A convolution has k1 k2 O_h O_g weights; a linear layer
    between the same maps, `kind` "linear", has N_h1 N_h2 O_h N_g1 N_g2 O_g. Section 2.2 names that
    as what the convolution saves.

    Args:
        guided: shape of the student's features without the batch: (O_g,N_g1,N_g2), or (O_g,).
        hint: shape of the teacher's: (O_h,N_h1,N_h2), maps not larger than the student's, or
            (O_h,).
        identity: where both shapes are the same, pass the student's features on as they are,
            without parameters, as the authors' code does; by default they get a regressor like all
            others.
        activation: "none", "relu" or "maxout" (of two pieces) on the output. The paper wants the
            regressor to have the hint's own: a ReLU cannot predict a hint taken before one.
        kind: "convolution"; or "linear", a fully connected layer between the flattened maps.

    Example:
        >>> Regressor(guided=(16, 12, 12), hint=(32, 8, 8)).predict
        Conv2d(16, 32, kernel_size=(5, 5), stride=(1, 1))
        >>> import torch
        >>> full = Regressor(guided=(16, 12, 12), hint=(32, 8, 8), kind="linear")
        >>> full.predict, full(torch.ones(5, 16, 12, 12)).shape
        (Linear(in_features=2304, out_features=2048, bias=True), torch.Size([5, 32, 8, 8]))
    """

    def __init__(
        self,
        guided: Sequence[int],
        hint: Sequence[int],
        *,
        identity: bool = False,
        activation: str = "none",
        kind: str = "convolution",
    ) -> None:
        super().__init__()
        guided, hint = tuple(guided), tuple(hint)
        check_choice("activation", activation, ACTIVATIONS)
        check_choice("kind", kind, KINDS)
        if len(guided) != len(hint) or len(hint) not in (1, 3):
            raise UsageError(
                f"the student's layer gives {guided} a sample, the hint is {hint}; "
                "name two layers that both give (channels, height, width), or both vectors"
            )
        if any(g < h for g, h in zip(guided[1:], hint[1:], strict=True)):
            raise UsageError(
                f"the hint has maps of {_times(hint[1:])}, larger than the student's "
                f"{_times(guided[1:])}; the regressor can only shrink a map: guide an earlier "
                "layer of the student, or take a later hint"
            )
        self.activation = activation if not (identity and guided == hint) else "none"
        outputs = hint[0] * ACTIVATIONS[activation]
        self.flat = kind == "linear" and len(hint) == 3
        self.maps = hint[1:]
        self.predict: nn.Module
        if identity and guided == hint:
            self.predict, self.flat = nn.Identity(), False
        elif self.flat:
            self.predict = nn.Linear(math.prod(guided), outputs * math.prod(self.maps))
        elif len(hint) == 1:
            self.predict = nn.Linear(guided[0], outputs)
        else:
            kernel = (guided[1] - hint[1] + 1, guided[2] - hint[2] + 1)
            self.predict = nn.Conv2d(guided[0], outputs, kernel)

    def forward(self, features: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        predicted = self.predict(features.flatten(1) if self.flat else features)
        if self.flat:
            predicted = predicted.unflatten(1, (-1, *self.maps))
        if self.activation == "relu":
            predicted = predicted.relu()
        if self.activation == "maxout":
            predicted = predicted.unflatten(1, (-1, ACTIVATIONS["maxout"])).amax(2)
        return predicted  # type: ignore[no-any-return]


class Hint(Term):
    """`hint_loss` of each pair of layers, the student's guided layer -> the teacher's hint, summed
    over pairs. `prepare` makes one `Regressor` a pair, with the arguments `identity`, `activation`
    and, as `regressor`, `kind`."""

    def __init__(
        self,
        layers: Mapping[str, str],
        weight: Weight = 1.0,
        identity: bool = False,
        activation: str = "none",
        name: str | None = None,
        regressor: str = "convolution",
    ) -> None:
        super().__init__(weight, name)
        check_choice("activation", activation, ACTIVATIONS)
        check_choice("regressor", regressor, KINDS)
        self.layers, self.identity, self.activation = check_layers(layers), identity, activation
        self.regressor = regressor
        self.regressors = nn.ModuleList()
        self.needs = Needs.layers(self.layers)

    def prepare(self, seen: Seen) -> None:
        regressors = []
        for guided_name, hint_name in self.layers.items():
            guided, hint = seen.student_features[guided_name], seen.teacher_features[hint_name]
            try:
                made = Regressor(
                    guided.shape[1:],
                    hint.shape[1:],
                    identity=self.identity,
                    activation=self.activation,
                    kind=self.regressor,
                )
            except UsageError as error:
                raise UsageError(f"hint {hint_name!r} for {guided_name!r}: {error}") from None
            regressors.append(made.to(guided.device, guided.dtype))
        self.regressors = nn.ModuleList(regressors)

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        if not self.regressors:
            raise UsageError(
                "the hint's regressors are not made yet; call prepare(seen) once before training"
            )
        losses = [
            hint_loss(
                regressor(seen.student_features[guided_name]), seen.teacher_features[hint_name]
            )
            for (guided_name, hint_name), regressor in zip(
                self.layers.items(), self.regressors, strict=True
            )
        ]
        return sum(losses[1:], losses[0])


def _times(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))
