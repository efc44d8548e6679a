"""What is decided before a teacher and its student are trained: one frozen dataclass, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from datadistill.config.choices import Value, change_fields
from datadistill.config.values import check_images, check_range, check_types
from datadistill.errors import UsageError

__all__ = ["KdConfig"]


@dataclass(frozen=True)
class KdConfig:
    """One teacher, one student, one method.

    Example:
        >>> KdConfig(method="soft-targets", method_args={"temperature": 20.0}).with_changes(seed=3).seed
        3
    """

    recipe: str = "custom"
    """Name of the recipe this config came from."""
    arm: str = "own"
    """Which of the recipe's students this is: "own", or a name from the recipe's list."""
    seed: int = 0
    """Seed of the student: its first weights, its images, their order, and noise."""

    # --- real data
    dataset: str = "mnist5k"
    """A data set of `datadistill doctor`'s list, or "folder"."""
    data: str | None = None
    """With dataset "folder": the folder of class sub-folders, of which a fifth is held out as the test set."""
    size: int | None = None
    """Side in pixels that images are brought to; None keeps the data set's own."""
    channels: int | None = None
    """1 or 3; None keeps the data set's own."""
    validation: int | None = None
    """Images of the training data left out of training; None takes the data set's default."""
    augment: tuple[str, ...] = ()
    """Augmentations of the batches: "crop", "flip"."""
    per_class: int | None = None
    """Images of each class that the student sees, drawn by the seed; None: all of them."""
    images_seed: int | None = None
    """Seed of the draw of those images; None: the student's. Born-again generations share their images."""
    without: tuple[str, ...] = ()
    """Classes, by name, of which the student sees no image; the teacher sees them."""

    # --- method and student
    method: str = "plain"
    """How the student learns; `kd-baselines methods` lists them."""
    method_args: dict[str, Value] = field(default_factory=dict)
    """Arguments of the method, such as temperature 20."""
    net: str = "mlp"
    """Architecture of the student."""
    net_args: dict[str, Value] = field(default_factory=dict)
    """Arguments of the student's architecture."""
    init: str = "default"
    """Initialization: default (torch's own), xavier, xavier-uniform, kaiming, orthogonal, normal, small."""
    weights: str | None = None
    """The student starts from a file of weights, or from "imagenet", torchvision's; its last layer is fresh."""
    shared: tuple[str, ...] = ()
    """Layers whose tensors are the teacher's and stay frozen: the student's name, or STUDENT:TEACHER."""
    epochs: int = 10
    """Passes over the student's images."""
    batch: int = 128
    """Images a gradient step."""
    optimizer: Literal["adam", "sgd", "rmsprop"] = "adam"
    """Adam, SGD with momentum, or RMSProp."""
    lr: float = 1e-3
    """Learning rate."""
    momentum: float = 0.9
    """Of SGD."""
    weight_decay: float = 0.0
    """Added to the gradient."""
    decay_epochs: int | None = None
    """Epochs after which the learning rate is multiplied by `decay_factor`, again and again; None never."""
    decay_factor: float = 0.5
    """What the learning rate is multiplied by."""

    # --- teacher
    teacher_net: str = "mlp"
    """Architecture of the teacher."""
    teacher_args: dict[str, Value] = field(default_factory=dict)
    """Arguments of the teacher's architecture."""
    teacher_init: str = "default"
    """Initialization of the teacher."""
    teacher_weights: str | None = None
    """The teacher is not trained: a file of weights, or "imagenet" for torchvision's."""
    teacher_seed: int = 0
    """Seed of the teacher; students of several seeds share it."""
    teacher_number: int | None = None
    """Which net of a teacher this run trains, from 0; None: a student. `teacher_config` sets it."""
    teachers: int = 1
    """Nets of the teacher, an ensemble from 2 on."""
    average: Literal["arithmetic", "geometric"] = "arithmetic"
    """Mean of an ensemble: of the probabilities, or of the logits."""
    teacher_epochs: int = 10
    """Passes over all training images."""
    teacher_batch: int = 128
    """Images a gradient step of the teacher."""
    teacher_optimizer: Literal["adam", "sgd", "rmsprop"] = "adam"
    """Optimizer of the teacher."""
    teacher_lr: float = 1e-3
    """Learning rate of the teacher."""
    teacher_weight_decay: float = 0.0
    """Weight decay of the teacher."""
    teacher_decay_epochs: int | None = None
    """Epochs after which the teacher's learning rate is multiplied by `decay_factor`; None never."""
    teacher_augment: tuple[str, ...] = ()
    """Augmentations of the teacher's batches."""
    cache: bool = True
    """Whether the teacher's outputs are computed once and kept, where the method allows it."""

    # --- what is told beside the accuracy
    noise: tuple[float, ...] = ()
    """Deviations of Gaussian noise on the test images' pixels, in the range 0 to 1, to test under."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        check_types(self)
        counts = ("epochs", "batch", "teachers", "teacher_epochs", "teacher_batch", "per_class")
        check_range(self, counts, least=1)
        check_range(self, ("decay_epochs", "teacher_decay_epochs"), least=1)
        check_range(self, ("teacher_number",), least=0)
        check_images(self)
        check_range(self, ("weight_decay", "teacher_weight_decay"), least=0)
        check_range(self, ("lr", "teacher_lr"), above=0, hint="Adam's usual one is 0.001")
        check_range(self, ("momentum",), least=0, below=1)
        check_range(self, ("decay_factor",), above=0, most=1)
        if self.dataset == "folder" and not self.data:
            raise UsageError("the data set is your own folder, but none was given; pass --data FOLDER")
        if self.teacher_weights is not None and self.teachers > 1:
            raise UsageError(
                f"teachers is {self.teachers}, but the weights {self.teacher_weights} are one net's; take one "
                "teacher (--teachers 1), or let the ensemble be trained"
            )
        for value in self.noise:
            if not 0 <= value < float("inf"):
                raise UsageError(f"noise is {value}, but a deviation is 0 or more")

    def with_changes(self, **changes: Any) -> KdConfig:
        """A copy with some fields changed; an unknown one names the nearest."""
        return change_fields(self, changes)
