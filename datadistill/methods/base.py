"""The interface of outer methods."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from datadistill.synthetic import Synthetic

__all__ = ["OF_NETS", "OuterMethod"]

OF_NETS = "of_nets"
"""In the state of a method that keeps something for each of several nets of an iteration: number ->
what it keeps."""


class OuterMethod(abc.ABC):
    """The loss whose gradient moves a synthetic set. `training.outer.OuterLoop` calls it once an
    iteration.

    Every random choice is drawn from streams named by the iteration, or kept in `state()`, so that
    a run can be resumed at any iteration.

    A method with fields `nets` and `own` takes several nets an iteration, 0 .. nets - 1, of which
    `own` are this process's: its loss is the sum over these, divided by `nets`, and its state has
    what it keeps of each below `OF_NETS` where nets is not 1.
    """

    takes_second_derivatives: ClassVar[bool] = False
    """Whether a gradient in the net's parameters is differentiated again, so that nets other than
    this library's are checked for it before learning."""

    matches_in_fresh_nets: ClassVar[bool] = False
    """Whether a set is matched in nets of all kinds of draws, so that one draw for ever is refused,
    unless it is a pretrained net."""

    def check(self, synthetic: Synthetic) -> None:  # noqa: B027
        """UsageError for a set that the method cannot learn; called by the loop before its first
        iteration."""

    def differentiated_steps(self, synthetic: Synthetic) -> int:
        """The most steps of training on the set whose graphs the loss keeps; 0 for a loss that
        keeps none."""
        return 0

    @abc.abstractmethod
    def loss(self, synthetic: Synthetic, iteration: int) -> Float[Tensor, ""]:
        """The outer loss, differentiable in the set's leaves. A leaf that it does not reach
        stays."""

    def after(self, synthetic: Synthetic, iteration: int) -> None:  # noqa: B027
        """Called after the set was updated, not where an iteration is skipped; matching methods
        train their net here."""

    def diagnose(self, synthetic: Synthetic, iteration: int) -> str:
        """The place where an iteration with a loss or gradient that is not finite went wrong, for
        the error."""
        return ""

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, as nested tensors and plain values."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Resume from `state()`."""
