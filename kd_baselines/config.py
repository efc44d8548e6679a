"""The config of a student and the teacher that it learns from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from datadistill.config.choices import Value
from datadistill.config.mean_std import parse_mean_std
from datadistill.config.plans import (
    FolderPlan,
    NetPlan,
    NormalizationPlan,
    Optimizer,
    RunConfig,
)
from datadistill.config.schedule_plan import Precision, Schedule, SchedulePlan, check_schedule
from datadistill.config.values import check_range
from datadistill.errors import UsageError

__all__ = ["LATER", "KdConfig"]

CORESETS = ("random", "herding", "k-means")
"""Coresets that `data_from` names, with the images of a class behind a colon."""

FROM_TEACHER = "teacher"
"""What `weights` is for a student that starts from its teacher's tensors."""

SCHEDULES = ("milestones", "schedule", "warmup", "nesterov", "precision")
IMAGES = ("normalization", "data_from", "data_schedule", "data_labels", "teacher_images")
SOURCE = ("source", "source_part", "target")
LATER = (*SCHEDULES, *(f"teacher_{name}" for name in SCHEDULES), *IMAGES, *SOURCE)
"""Fields that a net's file leaves out where they are at their defaults: they came later, and the
same training gives the same bytes as before."""


@dataclass(frozen=True)
class StudentTask(NetPlan, NormalizationPlan, FolderPlan, RunConfig):
    """What a student is, and what it learns from by which method."""

    arm: str = "own"
    """Which of the recipe's students this is: "own", or a name from the recipe's list."""
    seed: int = 0
    """Seed of the student: its first weights, its images, their order, and noise."""
    per_class: int | None = None
    """Images of each class that the student sees, drawn by the seed; None: all of them."""
    images_seed: int | None = None
    """Seed of the draw of those images; None: the student's. Born-again generations share their
    images."""
    without: tuple[str, ...] = ()
    """Classes, by name, of which the student sees no image; the teacher sees them."""
    data_from: str | None = None
    """Images that the student sees in place of the real training images: the file or run folder of
    a distilled set, or random:IPC, herding:IPC or k-means:IPC, coresets of IPC images a class. The
    teacher learns from the real ones."""
    data_schedule: Literal["plain", "own"] = "plain"
    """How the student is trained on a distilled set: by the epochs, batch, learning rate and
    augmentations here, or in the set's own steps, with its step sizes, update rule and
    augmentations."""
    data_labels: Literal["own", "hard"] = "own"
    """Labels of a distilled set: as it has them, probabilities where they are learned; or the class
    of the largest."""

    # --- method and net
    method: str = "plain"
    """How the student learns; `kd-baselines methods` lists them."""
    method_args: dict[str, Value] = field(default_factory=dict)
    """Arguments of the method, such as temperature 20."""
    net: str = "mlp"
    """Architecture of the student."""
    init: str = "default"
    weights: str | None = None
    """The student starts from a file of weights, from "imagenet", torchvision's, or from its
    "teacher", a net of the same kind; its last layer is fresh."""
    shared: tuple[str, ...] = ()
    """Layers whose tensors are the teacher's and stay frozen: the student's name, or
    STUDENT:TEACHER."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("per_class",), least=1)
        if self.data_from is None:
            for name, default in (("data_schedule", "plain"), ("data_labels", "own")):
                if getattr(self, name) != default:
                    raise UsageError(
                        f"{name} is {getattr(self, name)}, but the images are the real ones; say "
                        "which set with --data-from"
                    )
            return
        for name in ("per_class", "without"):
            if value := getattr(self, name):
                option = "--without" if name == "without" else "--per-class None"
                raise UsageError(
                    f"{name} is {value}, but the student sees the images of {self.data_from}; take "
                    f"it out ({option})"
                )
        if parse_coreset(self.data_from) and self.data_schedule == "own":
            raise UsageError(
                f"{self.data_from} are real images, which have no steps of their own; take "
                "--data-schedule plain"
            )


def parse_coreset(data_from: str) -> tuple[str, int] | None:
    """The name and the images a class of a coreset; None where a file is named.

    >>> parse_coreset("herding:10"), parse_coreset("runs/mnist")
    (('herding', 10), None)
    """
    name, colon, count = data_from.partition(":")
    if name not in CORESETS or Path(data_from).exists():
        return None
    if not colon or not count.isascii() or not count.isdigit() or int(count) < 1:
        raise UsageError(
            f"data_from is {data_from!r}; say how many images of each class, such as {name}:10"
        )
    return name, int(count)


@dataclass(frozen=True)
class KdConfig(SchedulePlan, StudentTask):
    """One teacher, one student, one method."""

    # --- source
    source: str | None = None
    """Data set that the teacher is trained on and whose classes it knows; None: the student's. Its
    images are brought to the size, the channels and the normalization of the student's."""
    source_part: tuple[float, float] = (0.0, 1.0)
    """Which of the source's images the teacher sees: of each class those between two shares in the
    order of their distance to the nearest training image of the student's data set, such as 0 0.2
    for the nearest fifth."""
    target: str | None = None
    """Of the run of a teacher: the data set that distances are measured to; None: a student.
    `teacher_config` sets it."""

    # --- teacher
    teacher_net: str = "mlp"
    """Architecture of the teacher."""
    teacher_args: dict[str, Value] = field(default_factory=dict)
    """Arguments of the teacher's architecture."""
    teacher_init: str = "default"
    """Initialization of the teacher."""
    teacher_weights: str | None = None
    """The teacher is not trained: a file of weights, or "imagenet" for torchvision's."""
    teacher_images: int | None = None
    """Images of each class that the teacher sees, drawn by its seed; None: all of them."""
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
    teacher_optimizer: Optimizer = "adam"
    """Optimizer of the teacher."""
    teacher_lr: float = 1e-3
    """Learning rate of the teacher."""
    teacher_weight_decay: float = 0.0
    """Weight decay of the teacher."""
    teacher_decay_epochs: int | None = None
    """Epochs after which the teacher's learning rate is multiplied by `decay_factor`; None
    never."""
    teacher_milestones: tuple[int, ...] = ()
    """Epochs after which it is multiplied by `decay_factor`, once each."""
    teacher_schedule: Schedule = "constant"
    """Schedule of the teacher's learning rate: constant, linear or cosine."""
    teacher_warmup: int = 0
    """Epochs over which the teacher's learning rate rises to its value."""
    teacher_nesterov: bool = False
    """Whether the momentum of the teacher's SGD is Nesterov's."""
    teacher_precision: Precision = "float32"
    """Of the teacher's passes while it is trained: float32 or bfloat16."""
    teacher_augment: tuple[str, ...] = ()
    """Augmentations of the teacher's batches."""
    cache: bool = True
    """Whether the teacher's outputs are computed once and kept, where the method allows it."""

    # --- what is told beside the accuracy
    noise: tuple[float, ...] = ()
    """Deviations of Gaussian noise on the test images' pixels, in the range 0 to 1, to test
    under."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(
            self,
            (
                "teachers",
                "teacher_epochs",
                "teacher_batch",
                "teacher_decay_epochs",
                "teacher_images",
            ),
            least=1,
        )
        check_range(self, ("teacher_number", "teacher_weight_decay"), least=0)
        check_range(self, ("teacher_lr",), above=0, hint="Adam's usual one is 0.001")
        check_schedule(self, "teacher_")
        if self.precision != "float32" and self.data_schedule == "own":
            raise UsageError(
                f"precision is {self.precision}, but a set's own steps are taken in float32; take "
                "--data-schedule plain, or --precision float32"
            )
        if self.teacher_number is not None and self.method != "plain":
            raise UsageError(
                f"teacher_number is {self.teacher_number}, but the method is {self.method}; a "
                "teacher's net learns from labels alone (method plain), and of a student it is None"
            )
        if self.teacher_weights is not None and self.teacher_images is not None:
            raise UsageError(
                f"teacher_images is {self.teacher_images}, but the teacher is not trained here "
                f"(teacher_weights {self.teacher_weights}); drop one"
            )
        self._check_source()
        if self.teacher_weights is not None and self.teachers > 1:
            raise UsageError(
                f"teachers is {self.teachers}, but the weights {self.teacher_weights} are one "
                "net's; take one teacher (--teachers 1), or let the ensemble be trained"
            )
        for value in self.noise:
            if not 0 <= value < float("inf"):
                raise UsageError(f"noise is {value}, but a deviation is 0 or more")

    def _check_source(self) -> None:
        low, high = self.source_part
        if not 0 <= low < high <= 1:
            raise UsageError(
                f"source_part is {low:g} to {high:g}; give two shares from 0 to 1, the lower one "
                "first, such as 0 0.2"
            )
        if self.source is None and self.target is None and self.source_part != (0, 1):
            raise UsageError(
                f"source_part is {low:g} to {high:g}, but there is no source; name the data set "
                "that the teacher is trained on (--source usps)"
            )
        if self.source is None:
            return
        if self.teacher_weights is not None:
            raise UsageError(
                f"source is {self.source}, but the teacher is not trained here (teacher_weights "
                f"{self.teacher_weights}); drop one"
            )
        if parse_mean_std(self.normalization) is None and self.normalization != "imagenet":
            raise UsageError(
                f"source is {self.source}, whose images are normalized as the student's are; "
                f"normalization is {self.normalization!r}, which may differ between data sets; "
                "give numbers, such as --normalization 0.5/0.25"
            )
