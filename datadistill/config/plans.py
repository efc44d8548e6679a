"""The fields that configs of several kinds share, each written once. No torch.

A config inherits the plans whose fields it has:
`PoolConfig(TrainingPlan, NetPlan, DataPlan, RunConfig)`. Its fields stay flat, as attributes, as
flags and in config.json. What needs one plan alone reads it from a config by the names of its
fields: `FitPlan.of(config)`, or of fields with a prefix, `FitPlan.of(config, "teacher_")`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from datadistill.config.choices import Value, change_fields
from datadistill.config.mean_std import parse_mean_std
from datadistill.config.values import MOST_PIXELS, check_range, check_types, quote
from datadistill.config.zca import parse_zca
from datadistill.errors import UsageError

__all__ = [
    "Config",
    "DataPlan",
    "FolderPlan",
    "NetPlan",
    "NormalizationPlan",
    "RunConfig",
    "SgdPlan",
    "TrainingPlan",
]

Optimizer = Literal["adam", "adamw", "sgd", "rmsprop"]


@dataclass(frozen=True)
class Config:
    """Choices made before a run. A subclass adds its checks to `__post_init__`, after those of its
    bases."""

    def __post_init__(self) -> None:
        check_types(self)

    @classmethod
    def of(cls, config: Any, prefix: str = "") -> Self:
        """The fields of this class in another config; with a prefix, a field is read under its name
        behind the prefix, or where there is none under its name.

        >>> from datadistill.config import PoolConfig
        >>> TrainingPlan.of(PoolConfig(epochs=7)).epochs
        7
        """
        known = {f.name for f in fields(config)}
        names = {
            f.name: prefix + f.name if prefix + f.name in known else f.name for f in fields(cls)
        }
        return cls(**{own: getattr(config, name) for own, name in names.items() if name in known})

    def with_changes(self, **changes: Any) -> Self:
        """A copy with some fields changed; an unknown one names the nearest."""
        return change_fields(self, changes)


@dataclass(frozen=True)
class RunConfig(Config):
    """The fields of every run."""

    recipe: str = "custom"
    """Name of the recipe this config came from."""
    seed: int = 0
    """Seed of every random stream of the run."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class DataPlan(Config):
    """The choice of real data."""

    dataset: str = "mnist5k"
    """A data set of `datadistill doctor`'s list."""
    size: int | None = None
    """Side in pixels that images are brought to; None keeps the data set's own."""
    channels: int | None = None
    """1 or 3; None keeps the data set's own."""
    validation: int | None = None
    """Images of the training data held out of training; None takes the data set's default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("size",), least=1, most=MOST_PIXELS)
        check_range(self, ("validation",), least=0)
        if self.channels not in (None, 1, 3):
            raise UsageError(
                f"channels is {quote(self.channels)}, but images have 1 (grey) or 3 (colour)"
            )


@dataclass(frozen=True)
class FolderPlan(DataPlan):
    """The choice of real data, a folder of images among them."""

    data: str | None = None
    """With dataset "folder": the folder of class sub-folders. Its images are brought to the size,
    32 pixels where none is said, and 3 channels; a share of each class is held out as the test
    set."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset == "folder" and not self.data:
            raise UsageError(
                "the data set is your own folder, but none was given; pass --data FOLDER"
            )


@dataclass(frozen=True)
class NormalizationPlan(Config):
    """The normalization of the images."""

    normalization: str = "auto"
    """Mean and deviation that pixels are normalized by: "own", measured on the training images;
    "imagenet", ImageNet's, of torchvision's weights their own; those of a FILE, a distilled set,
    pool or net of ours; or numbers MEAN/STD, such as 0.5,0.5,0.5/0.2,0.2,0.2. "zca-kip" (or "zca"),
    "zca-frepo" and "zca-kornia" whiten, by a matrix measured on the training images, with a
    regularization of 0.1, or another behind a colon, such as zca-kip:100. "auto": ImageNet's for a
    folder with weights imagenet, else the data set's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_mean_std(self.normalization)  # refuses bad numbers
        parse_zca(self.normalization)
        if not self.normalization:
            raise UsageError(
                "normalization is empty; wanted auto, own, imagenet, zca, a file, or MEAN/STD"
            )


@dataclass(frozen=True)
class NetPlan(Config):
    """The choice of a net."""

    net: str = "lenet"
    """Architecture: lenet, alexcifarnet, alexnet, convnet, mlp, resnet18, vgg11, torchvision, or
    "custom"."""
    net_args: dict[str, Value] = field(default_factory=dict)
    """Arguments of the architecture, such as width 32 norm instance."""
    init: str = "xavier"
    """Initialization: xavier, xavier-uniform, kaiming, orthogonal, normal, small, default (torch's
    own)."""


@dataclass(frozen=True)
class TrainingPlan(Config):
    """The training of a net on images."""

    epochs: int = 10
    """Passes over the training images."""
    batch: int = 128
    """Images a gradient step."""
    optimizer: Optimizer = "adam"
    """Adam, AdamW, SGD with momentum, or RMSProp."""
    lr: float = 1e-3
    """Learning rate."""
    decay_epochs: int | None = None
    """Epochs after which the learning rate is multiplied by `decay_factor`, again and again; None
    never."""
    decay_factor: float = 0.5
    """What the learning rate is multiplied by."""
    augment: tuple[str, ...] = ()
    """Augmentations of the batches: "crop", "flip", or a strategy such as "color_crop_rotate"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("epochs", "batch", "decay_epochs"), least=1)
        check_range(self, ("lr",), above=0, hint="Adam's usual one is 0.001")
        check_range(self, ("decay_factor",), above=0, most=1)


@dataclass(frozen=True)
class SgdPlan(TrainingPlan):
    """The training of a net on images, with the choices that SGD has."""

    momentum: float = 0.9
    """Of SGD."""
    weight_decay: float = 0.0
    """Added to the gradient; by AdamW taken from the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("momentum",), least=0, below=1)
        check_range(self, ("weight_decay",), least=0)
