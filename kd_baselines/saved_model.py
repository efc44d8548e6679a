"""The common part of files of trained nets, image classifiers and language models."""

from __future__ import annotations

import abc
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from datadistill.config.mean_std import parse_mean_std
from datadistill.runs.artifact import Artifact
from datadistill.runs.jsonconfig import dump_config
from datadistill.runs.tensors import checksum
from kd_baselines.config import LATER
from kd_baselines.teachers import Teacher

__all__ = ["SavedModel", "copy_state", "to_record"]


class SavedModel(abc.ABC):
    """A trained net and what is needed to use it."""

    artifact: ClassVar[Artifact]
    """The kind of file."""
    dataset: str
    """Name of the data it was trained on."""
    scores: Mapping[str, Any] | None
    """On the test part, where they were measured."""
    record: Mapping[str, Any] | None
    """The config of the training."""

    @property
    @abc.abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """All tensors, by the names that the fingerprint is of."""

    @abc.abstractmethod
    def to_teacher(self) -> Teacher:
        """The trained net as a teacher, on the CPU."""

    @abc.abstractmethod
    def refuse_other(self, who: str, data: Any) -> None:
        """Refuse data of other words than the net's, or of as many classes, but others."""

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.numel() * t.element_size() for t in self.tensors.values())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the tensors alone."""
        return checksum(self.tensors)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file; see `Artifact.save`."""
        self.artifact.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file, or the one in a run folder; see `Artifact.load`."""
        return cls.artifact.load(path, cls)


def copy_state(net: nn.Module) -> dict[str, Tensor]:
    """The state dict of a net as a file holds it: copies on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in net.state_dict().items()}


def to_record(config: Any) -> dict[str, Any]:
    """The config of a training for the net's file: no machine, of paths the last name alone, and no
    later field at its default."""
    record, defaults = dump_config(config), dump_config(type(config)())
    same = [name for name in LATER if name in record and record[name] == defaults[name]]
    for name in ("device", "data", "teacher_number", *same):
        record.pop(name, None)
    for name in ("text", "weights", "teacher_weights", "data_from", "normalization"):
        if record.get(name) and (name != "normalization" or not parse_mean_std(record[name])):
            record[name] = Path(record[name]).name
    return record
