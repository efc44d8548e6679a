"""The nets of a pool that are trained already, before the pool is written: groups of nets, each a
file nets/net-000012.safetensors (named by its first net)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datadistill.errors import DataError
from datadistill.runs.artifact import Artifact
from datadistill.runs.content import check_number, check_object, check_whole, list_of


def _arguments(tensors: dict[str, Tensor], values: dict[str, Any], schema: int) -> dict[str, Any]:
    counts = {len(values["accuracies"]), len(values["losses"]), *(len(p) for p in tensors.values())}
    if len(counts) > 1:
        raise DataError(
            f"accuracies, losses and tensors are of {sorted(counts)} nets, wanted one each a net"
        )
    first = values.pop("first")
    return {"numbers": range(first, first + counts.pop()), "tensors": tensors, **values}


NETS = Artifact(
    "nets",
    fields={
        "first": check_whole,
        "accuracies": list_of(partial(check_number, least=0, most=100)),
        "losses": list_of(partial(check_number, least=0)),
        "config": check_object,
    },
    values=lambda group: {"first": group.numbers[0]},
    arguments=_arguments,
    command="datadistill pretrain",
)


@dataclass(frozen=True)
class TrainedGroup:
    """A finished group: the numbers of its nets, name -> (nets of the group, ...) on the CPU (with
    keep "every-epoch" (nets of the group, epochs + 1, ...)), accuracies on the validation split in
    percent, mean training losses of the last epoch, and the pool's config, known of groups on
    disk."""

    numbers: range
    tensors: dict[str, Tensor]
    accuracies: list[float]
    losses: list[float]
    config: dict[str, Any] = field(default_factory=dict)


class FinishedNets:
    """The finished groups: files of `folder` in a run folder, or in memory where that is None."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.groups: list[TrainedGroup] = []  # without their tensors where there is a folder

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def accuracies(self) -> list[float]:
        return [a for group in self.groups for a in group.accuracies]

    def path(self, numbers: range) -> Path:
        assert self.folder is not None
        return self.folder / f"net-{numbers[0]:06d}.safetensors"

    def add(self, group: TrainedGroup, config: Mapping[str, Any]) -> None:
        """Keep a group; on disk, it is there for good when this returns."""
        if self.folder is not None:
            self.folder.mkdir(exist_ok=True)
            NETS.save(replace(group, config=dict(config)), self.path(group.numbers))
            group = replace(group, tensors={})
        self.groups.append(group)

    def read(self, numbers: range) -> TrainedGroup | None:
        """A group from its file; None where it is missing, DataError where it is damaged."""
        path = self.path(numbers)
        if not path.exists():
            return None
        group = NETS.load(path, TrainedGroup)
        if group.numbers != numbers:
            raise DataError(f"{path} is not the file of nets {numbers[0]} to {numbers[-1]}")
        return group

    def stack(self) -> dict[str, Tensor]:
        """name -> (total, ...): the tensors of all groups."""
        parts: list[dict[str, Tensor]] = []
        for group in self.groups:
            found = group if self.folder is None else self.read(group.numbers)
            if found is None:
                raise DataError(
                    f"{self.path(group.numbers)} has gone; resume the run to train it again"
                )
            parts.append(found.tensors)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def remove(self) -> None:
        """Remove the files: the pool holds the nets now."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
