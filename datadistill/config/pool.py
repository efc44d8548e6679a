"""The config of a pool of nets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datadistill.config.plans import (
    DataPlan,
    NetPlan,
    NormalizationPlan,
    RunConfig,
    SgdPlan,
)
from datadistill.config.values import check_range

LATER = ("keep", "momentum", "weight_decay")
"""Fields that a pool's file leaves out where they are at their defaults: they came later, and the
same training gives the same bytes as before."""


@dataclass(frozen=True)
class PoolConfig(SgdPlan, NetPlan, NormalizationPlan, DataPlan, RunConfig):
    """Many nets trained on one data set by the same schedule, each from a draw of its own.

    Nets 0 .. nets - 1 are for learning distilled sets, the next `validation_nets` for validation,
    the last `held_out` for testing: no net serves two ends.

    Example:
        >>> PoolConfig(nets=8, validation_nets=2, held_out=4).total
        14
    """

    net: str = "lenet"
    """Architecture; "custom" for a net of your own, which Python passes."""
    nets: int = 64
    """Nets to learn distilled sets with."""
    validation_nets: int = 4
    """Nets for validation during a run."""
    held_out: int = 16
    """Nets for testing."""
    at_once: int = 1
    """Nets trained side by side in one vectorized pass; pays for tiny nets and on
    accelerators. Nets with BatchNorm, and nets of your own, train one at a time."""
    keep: Literal["last", "every-epoch"] = "last"
    """The nets at the end of their training, or as they were at its start and after every epoch:
    the experts of trajectory matching."""

    epochs: int = 2
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or SGD."""
    decay_epochs: int = 1
    """Epochs after which the learning rate is multiplied by `decay_factor`, again and again."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("nets", "validation_nets", "held_out", "at_once"), least=1)

    @property
    def kept_epochs(self) -> int | None:
        """The number of epochs that are kept beside the start; None for the end alone."""
        return self.epochs if self.keep == "every-epoch" else None

    @property
    def total(self) -> int:
        """All nets of the pool."""
        return self.nets + self.validation_nets + self.held_out
