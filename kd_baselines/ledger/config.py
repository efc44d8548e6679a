"""The choices made before a ledger: one frozen dataclass, no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from datadistill.config import DistillConfig
from datadistill.config.choices import Value
from datadistill.config.plans import DataPlan, Optimizer
from datadistill.config.values import check_range
from datadistill.errors import UsageError
from datadistill.recipes import recipe

__all__ = ["LEDGER_KIND", "LedgerConfig", "distill_config"]

LEDGER_KIND = "kd-ledger"
"""What config.json calls the folder of a ledger."""


@dataclass(frozen=True)
class LedgerConfig(DataPlan):
    """One ledger: real data, what is sent, and how the receiver trains on it."""

    name: str = "custom"
    """Name of the ledger this config came from."""

    # --- real data
    real_per_class: int | None = None
    """Images of each class that the sender has at all, the same for every row and seed; None:
    all."""
    per_class: int = 10
    """Images of each class that are sent, in the rows that send images."""

    # --- receiver
    student_net: str = "lenet"
    """Architecture of every student."""
    student_args: dict[str, Value] = field(default_factory=dict)
    """Arguments of the students' architecture."""
    student_init: str = "xavier"
    """Initialization of every student, and of the nets that the distilled set is learned for."""
    steps: int = 1000
    """Gradient steps on the images that were sent, the same for every row but distilled-own."""
    batch: int = 50
    """Images a gradient step."""
    optimizer: Optimizer = "adam"
    """Adam, SGD with momentum, or RMSProp."""
    lr: float = 1e-3
    """Learning rate of the receiver."""

    # --- nets that are sent
    teacher_net: str = "wide-cnn"
    """Architecture of the teacher and of its Born-Again student."""
    teacher_args: dict[str, Value] = field(default_factory=dict)
    """Arguments of the teacher's architecture."""
    teacher_init: str = "default"
    """Initialization of the teacher."""
    net_epochs: int = 3
    """Passes over all real data: of teachers, their students, and the students that learn from the
    data."""
    net_batch: int = 64
    """Images a gradient step of these nets."""
    net_optimizer: Optimizer = "adam"
    """Optimizer of these nets."""
    net_lr: float = 1e-3
    """Learning rate of these nets."""
    net_augment: tuple[str, ...] = ()
    """Augmentations of their batches: "crop", "flip", or a strategy such as "color_crop_rotate"."""
    net_storages: tuple[Literal["float32", "float16", "int8"], ...] = ("float32", "float16")
    """How weights are stored, a row each."""
    teachers: Literal["each", "one"] = "each"
    """Whether each seed trains a teacher of its own, or all share that of seed 0."""
    temperature: float = 4.0
    """Of the student that is distilled on all real data and sent."""

    # --- the distilled set
    distill: str = "mnist-random"
    """Recipe of datadistill. Data, images a class, net and initialization are the ledger's own."""
    distill_changes: dict[str, Value] = field(default_factory=dict)
    """Fields of that recipe that are changed; several augmentations with a comma between them."""

    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = ("per_class", "real_per_class", "steps", "batch", "net_epochs", "net_batch")
        check_range(self, counts, least=1)
        check_range(self, ("lr", "net_lr", "temperature"), above=0)
        if self.real_per_class is not None and self.real_per_class < self.per_class:
            raise UsageError(
                f"{self.per_class} images of each class are sent, but the sender has "
                f"{self.real_per_class}; lower --per-class"
            )
        if not self.net_storages or len(set(self.net_storages)) < len(self.net_storages):
            raise UsageError(f"net_storages is {self.net_storages}; give one or more, each once")
        distill_config(self)  # refuses a recipe or a field that there is not


def distill_config(config: LedgerConfig) -> DistillConfig:
    """The config of the distilled set: the recipe for the ledger's own data, count and student."""
    own: dict[str, Any] = {
        **asdict(DataPlan.of(config)),
        "ipc": config.per_class,
        "device": config.device,
    }
    for name in config.distill_changes:
        if name in own:
            field = "per_class" if name == "ipc" else name
            raise UsageError(
                f"distill_changes has {name}, which is the ledger's own; change {field} instead"
            )
    net = {"net": config.student_net, "net_args": config.student_args, "init": config.student_init}
    lists = {f.name for f in fields(DistillConfig) if isinstance(f.default, tuple)}
    changes: dict[str, Any] = {
        name: tuple(filter(None, value.split(",")))
        if name in lists and isinstance(value, str)
        else value
        for name, value in config.distill_changes.items()
    }
    return recipe(config.distill).with_changes(**{**net, **own, **changes})
