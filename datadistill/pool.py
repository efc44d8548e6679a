"""A pool: many nets of one architecture, trained alike on one data set, in one safetensors file.

Nets 0 .. nets - 1 are there to learn distilled sets with ("train"), the next `validation_nets` for
validation during a run, the last `held_out` for testing: no net is in two parts. Parameters and
buffers (the running statistics of BatchNorm) are stacked along a leading axis of all nets; the rest
is one canonical JSON object, so the same training gives the same bytes. The experts of trajectory
matching are a pool with a second axis, of epochs: each net at its start and after every epoch.
`datadistill.training.pretrain` makes pools; `Pool.of` makes one of modules that are trained.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.data import RealData
from datadistill.data.normalization import Normalization, normalization_from
from datadistill.errors import UsageError, suggest
from datadistill.nets.spec import CUSTOM, NetSpec
from datadistill.pool_checks import PLAIN, check_pool
from datadistill.pool_from_modules import arguments_of, pooled_tensors
from datadistill.runs.artifact import Artifact
from datadistill.runs.content import (
    check_class_names,
    check_list,
    check_texts,
    parse_with,
)
from datadistill.runs.folder import POOL_FILE
from datadistill.stats import mean
from datadistill.torch_defaults import use_library_defaults

KIND = "pool"
PARTS = ("train", "validation", "held_out")
POOL = Artifact(
    KIND,
    fields={
        **PLAIN,
        "net": parse_with(NetSpec.from_dict),
        "classes": parse_with(check_class_names),
        "normalization": parse_with(normalization_from),
        "accuracies": check_list,
        "buffers": check_texts,
    },
    # of a net of this library its architecture says them
    values=lambda pool: {"buffers": list(pool.buffers) if pool.net.name == CUSTOM else None},
    with_tensors=["normalization"],
    optional=["buffers", "epochs"],
    finite=False,  # the class names the net that is not
    file_name=POOL_FILE,
    runs=[KIND],
    command="datadistill pretrain",
)


@dataclass(frozen=True, eq=False, repr=False)
class Pool:
    """Trained nets to draw theta_0 from, and what is known about them.

    Args:
        tensors: name -> (nets + validation_nets + held_out, ...), the parameters and buffers of
            the nets; see `pooled_tensors`. With `epochs` (nets + ..., epochs + 1, ...).
        nets: nets to learn with, 1 or more.
        validation_nets: nets for validation during a run, 1 or more.
        held_out: nets for testing, 1 or more.
        net: the architecture and the initialization it started from; "custom" for modules of the
            user's own, which are needed beside the pool.
        dataset: name of the data set they were trained on.
        classes: its class names.
        normalization: its normalization.
        accuracies: of each net on images held out of the training part, in percent.
        record: the config of the training.
        data_fingerprint: `RealData.fingerprint` of what they were trained on.
        buffers: names of the tensors that are buffers; only needed for modules of the user's own.
        epochs: the number of epochs that each net is kept after, beside its start; None where only
            its end is kept.

    Example:
        >>> net = NetSpec("mlp", {"channels": 1, "size": 2, "classes": 2, "depth": 0})
        >>> tensors = {k: torch.zeros(4, *p.shape) for k, p in net.build().named_parameters()}
        >>> pool = Pool(
        ...     tensors,
        ...     nets=2,
        ...     validation_nets=1,
        ...     held_out=1,
        ...     net=net,
        ...     dataset="toy",
        ...     classes=("a", "b"),
        ...     normalization=Normalization((0.0,), (1.0,), 2, 1),
        ...     accuracies=(90.0, 80.0, 70.0, 60.0),
        ... )
        >>> pool
        Pool(2 + 1 + 1 nets of mlp trained on toy, 75.0% (60.0 to 90.0))
        >>> len(pool.part("train")["layers.0.bias"]), pool.part_accuracies("held_out")
        (2, (60.0,))
    """

    tensors: dict[str, Tensor]
    nets: int
    validation_nets: int
    held_out: int
    net: NetSpec
    dataset: str
    classes: tuple[str, ...]
    normalization: Normalization
    accuracies: tuple[float, ...]
    record: Mapping[str, Any] | None = None
    data_fingerprint: str = ""
    buffers: Sequence[str] | None = None
    epochs: int | None = None

    def __post_init__(self) -> None:
        parameters, buffers = check_pool(self)
        # in the net's own order
        order = (*parameters, *buffers)
        object.__setattr__(self, "tensors", {name: self.tensors[name] for name in order})
        object.__setattr__(self, "buffers", tuple(buffers))
        object.__setattr__(self, "accuracies", tuple(self.accuracies))

    def __repr__(self) -> str:
        found = self.accuracies
        kept = "" if self.epochs is None else f" with every epoch of {self.epochs}"
        return (
            f"Pool({self.nets} + {self.validation_nets} + {self.held_out} nets of {self.net.name} "
            f"trained on {self.dataset}{kept}, "
            f"{mean(found):.1f}% ({min(found):.1f} to {max(found):.1f}))"
        )

    @classmethod
    @use_library_defaults()
    def of(
        cls,
        modules: Sequence[nn.Module],
        *,
        data: RealData,
        held_out: int | None = None,
        validation_nets: int | None = None,
        dataset: str | None = None,
    ) -> Pool:
        """A pool of trained modules of one architecture, which are not changed. The last are held
        out, and no two have the same values, so no held-out net is learned on. What a module of
        your own has besides layers and tensors, such as a number that its `forward` reads, is not
        compared: that of the net that is passed to `distill` counts.

        Args:
            modules: three or more.
            data: images of the nets' classes, normalized as the nets want them; accuracies are
                measured on its validation split.
            held_out: how many; default: a fifth.
            validation_nets: how many; default: one in twenty, at least 1.
            dataset: name of the data that they were trained on; default: that of `data`.

        Raises:
            UsageError: fewer than three, nets that are not alike or do not fit the images, the same
                net twice.

        Example:
            >>> from datadistill.data import load
            >>> nets = [nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(5)]
            >>> pool = Pool.of(nets, data=load("digits"))
            >>> pool.nets, pool.validation_nets, pool.held_out
            (3, 1, 1)
        """
        return cls(**arguments_of(modules, data, held_out, validation_nets, dataset))

    @property
    def total(self) -> int:
        return self.nets + self.validation_nets + self.held_out

    @use_library_defaults()
    def part(self, name: str) -> dict[str, Tensor]:
        """Stacked parameters and buffers of one part, "train", "validation" or "held_out": name ->
        (nets of the part, ...), after their last epoch; views of `.tensors`."""
        begin, end = self._range(name)
        return {k: p[begin:end] for k, p in self.last.items()}

    @property
    def last(self) -> dict[str, Tensor]:
        """name -> (nets + validation_nets + held_out, ...): all nets after their last epoch."""
        if self.epochs is None:
            return self.tensors
        return {k: p[:, -1] for k, p in self.tensors.items()}

    @use_library_defaults()
    def trajectory(self, name: str) -> dict[str, Tensor]:
        """Stacked parameters and buffers of one part at the start and after every epoch: name ->
        (nets of the part, epochs + 1, ...); views of `.tensors`.

        Raises:
            UsageError: a pool that holds the nets at their end alone.
        """
        if self.epochs is None:
            raise UsageError(
                "the pool holds its nets at the end of their training alone, and their epochs are "
                "wanted; train it with --keep every-epoch"
            )
        begin, end = self._range(name)
        return {k: p[begin:end] for k, p in self.tensors.items()}

    def part_accuracies(self, name: str) -> tuple[float, ...]:
        """Accuracies of the nets of one part, in percent."""
        begin, end = self._range(name)
        return self.accuracies[begin:end]

    def find_differences(self, net: nn.Module) -> dict[str, str]:
        """Tensors in which a module is of another architecture than the pool's nets: name -> what
        the pool has, and what the module has; none where it is the same."""
        parameters, buffers = pooled_tensors(net)
        own = {**parameters, **buffers}
        wanted: dict[str, Any] = {k: tuple(x.shape) for k, x in own.items()}
        found: dict[str, Any] = {k: tuple(x.shape[1:]) for k, x in self.last.items()}
        for k, shape in wanted.items():
            if found.get(k) == shape and self.tensors[k].dtype != own[k].dtype:
                found[k], wanted[k] = self.tensors[k].dtype, own[k].dtype
        return {
            k: f"{found.get(k, 'missing')}, wanted {wanted.get(k, 'none')}"
            for k in {**wanted, **found}
            if wanted.get(k) != found.get(k)
        }

    def _range(self, name: str) -> tuple[int, int]:
        if name not in PARTS:
            raise UsageError(f"a pool has no part {name!r}; {suggest(str(name), PARTS)}")
        ends = (0, self.nets, self.nets + self.validation_nets, self.total)
        place = PARTS.index(name)
        return ends[place], ends[place + 1]

    @use_library_defaults()
    def to(self, device: torch.device | str) -> Pool:
        return replace(self, tensors={k: p.to(device) for k, p in self.tensors.items()})

    @cached_property
    def fingerprint(self) -> str:
        """The checksum of its file: equal for the same nets and record."""
        return POOL.fingerprint(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the pool's file; see `Artifact.save`."""
        POOL.save(self, path)

    @classmethod
    @use_library_defaults()
    def load(cls, path: str | os.PathLike[str], *, verify: bool = True) -> Pool:
        """Read a pool's file, or the one in a run folder; see `Artifact.load`."""
        return POOL.load(path, cls, verify=verify)
