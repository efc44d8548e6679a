"""A term that is a loss of the outputs of pairs of layers, and of nothing else."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from kd_baselines.losses.checks import check_layers
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["LayerPairs"]


class LayerPairs(Term):
    """A loss of pairs of layers, the student's -> the teacher's."""

    def __init__(
        self, layers: Mapping[str, str], weight: Weight = 1.0, name: str | None = None
    ) -> None:
        super().__init__(weight, name)
        self.layers = check_layers(layers)
        self.needs = Needs.layers(self.layers)

    @abstractmethod
    def loss(self, student: list[Tensor], teacher: list[Tensor]) -> Float[Tensor, ""]:
        """Of the outputs (B,...) of the student's layers and of the teacher's, in order."""

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        return self.loss(*seen.features_of(self.layers))
