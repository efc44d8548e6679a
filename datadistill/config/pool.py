"""What is decided before a pool of nets is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from datadistill.config.choices import Value, change_fields
from datadistill.config.values import check_images, check_range, check_types


@dataclass(frozen=True)
class PoolConfig:
    """Many nets trained on one data set by the same schedule, each from a draw of its own.

    Nets 0 .. nets - 1 are for learning distilled sets, the next `validation_nets` for looks during a run, the
    last `held_out` for testing: no net serves two ends.

    Example:
        >>> PoolConfig(nets=8, validation_nets=2, held_out=4).total
        14
    """

    recipe: str = "custom"
    """Name of the recipe this config came from."""
    seed: int = 0
    """Seed of every random stream of the pool."""

    # --- real data
    dataset: str = "mnist5k"
    """A data set of `datadistill doctor`'s list."""
    size: int | None = None
    """Side in pixels that images are brought to; None keeps the data set's own."""
    channels: int | None = None
    """1 or 3; None keeps the data set's own."""
    validation: int | None = None
    """Images of the training data left out of training; None takes the data set's default."""
    augment: tuple[str, ...] = ()
    """Augmentations of the batches: "crop", "flip"."""

    # --- nets
    net: str = "lenet"
    """Architecture; it must have no BatchNorm buffers."""
    net_args: dict[str, Value] = field(default_factory=dict)
    """Arguments of the architecture, such as width 32 norm instance."""
    init: str = "xavier"
    """Initialization: xavier, xavier-uniform, kaiming, orthogonal, normal, small, default (torch's own)."""
    nets: int = 64
    """Nets to learn distilled sets with."""
    validation_nets: int = 4
    """Nets for looks during a run."""
    held_out: int = 16
    """Nets for testing."""
    at_once: int = 1
    """Nets trained side by side in one vectorized pass; pays for tiny nets and on accelerators."""

    # --- training
    epochs: int = 2
    """Passes over the training data."""
    batch: int = 128
    """Images a gradient step."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or SGD with momentum 0.9."""
    lr: float = 1e-3
    """Learning rate."""
    decay_epochs: int = 1
    """Epochs after which the learning rate is multiplied by `decay_factor`, again and again."""
    decay_factor: float = 0.5
    """What the learning rate is multiplied by."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        check_types(self)
        counts = ("nets", "validation_nets", "held_out", "at_once", "epochs", "batch", "decay_epochs")
        check_range(self, counts, least=1)
        check_images(self)
        check_range(self, ("lr",), above=0, hint="Adam's usual one is 0.001")
        check_range(self, ("decay_factor",), above=0, most=1)

    @property
    def total(self) -> int:
        """All nets of the pool."""
        return self.nets + self.validation_nets + self.held_out

    def with_changes(self, **changes: Any) -> PoolConfig:
        """A copy with some fields changed; an unknown one names the nearest."""
        return change_fields(self, changes)
