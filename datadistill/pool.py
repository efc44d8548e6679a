"""A pool: many nets of one architecture, trained alike on one data set, in one safetensors file.

Nets 0 .. nets - 1 are there to learn distilled sets with ("train"), the next `validation_nets` for
validation during a run, the last `held_out` for testing: no net is in two parts. Tensors are
stacked along a leading axis of all nets; the rest is one canonical JSON object, so the same
training gives the same bytes. `datadistill.training.pretrain` makes pools.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.data.normalization import Normalization, normalization_from
from datadistill.errors import DataError, UsageError, suggest
from datadistill.nets import INITIALIZATIONS, has_batchnorm
from datadistill.nets.spec import NetSpec, refuse_other_tensors
from datadistill.runs.artifact import Artifact
from datadistill.runs.content import (
    Check,
    check_class_names,
    check_list,
    check_object,
    check_text,
    check_whole,
    optional,
    parse_with,
    quote,
)
from datadistill.stats import mean
from datadistill.torch_defaults import use_library_defaults

KIND = "pool"
FILE_NAME = "pool.safetensors"
PARTS = ("train", "validation", "held_out")
_PLAIN: dict[str, Check] = {
    **dict.fromkeys(("nets", "validation_nets", "held_out"), partial(check_whole, least=1)),
    **dict.fromkeys(("dataset", "data_fingerprint"), check_text),
    "record": optional(check_object),
}
POOL = Artifact(
    KIND,
    fields={
        **_PLAIN,
        "net": parse_with(NetSpec.from_dict),
        "classes": parse_with(check_class_names),
        "normalization": parse_with(normalization_from),
        "accuracies": check_list,
    },
    with_tensors=["normalization"],
    finite=False,  # the class names the net that is not
    file_name=FILE_NAME,
    runs=[KIND],
    command="datadistill pretrain",
)


@dataclass(frozen=True, eq=False, repr=False)
class Pool:
    """Trained nets to draw theta_0 from, and what is known about them.

    Args:
        tensors: name -> (nets + validation_nets + held_out, ...), every parameter of the net.
        nets: nets to learn with, 1 or more.
        validation_nets: nets for validation during a run, 1 or more.
        held_out: nets for testing, 1 or more.
        net: the architecture and the initialization it started from.
        dataset: name of the data set they were trained on.
        classes: its class names.
        normalization: its normalization.
        accuracies: of each net on images held out of the training part, in percent.
        record: the config of the training.
        data_fingerprint: `RealData.fingerprint` of what they were trained on.

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

    def __post_init__(self) -> None:
        _check(self)
        order = [name for name, _ in self.net.shapes(len(self.tensors)).named_parameters()]
        # in the net's own order, by which step sizes of a parameter tensor go
        object.__setattr__(self, "tensors", {name: self.tensors[name] for name in order})
        object.__setattr__(self, "accuracies", tuple(self.accuracies))

    def __repr__(self) -> str:
        found = self.accuracies
        return (
            f"Pool({self.nets} + {self.validation_nets} + {self.held_out} nets of {self.net.name} "
            f"trained on {self.dataset}, {mean(found):.1f}% ({min(found):.1f} to {max(found):.1f}))"
        )

    @property
    def total(self) -> int:
        return self.nets + self.validation_nets + self.held_out

    @use_library_defaults()
    def part(self, name: str) -> dict[str, Tensor]:
        """Stacked parameters of one part, "train", "validation" or "held_out": name -> (nets of the
        part, ...), in the net's order; views of `.tensors`."""
        begin, end = self._range(name)
        return {k: p[begin:end] for k, p in self.tensors.items()}

    def part_accuracies(self, name: str) -> tuple[float, ...]:
        """Accuracies of the nets of one part, in percent."""
        begin, end = self._range(name)
        return self.accuracies[begin:end]

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


def refuse_buffers(net: nn.Module, name: str) -> None:
    """UsageError for a net that keeps more than parameters: a pool holds parameters only."""
    if has_batchnorm(net) or next(net.buffers(), None) is not None:
        raise UsageError(
            f"the net {name} has BatchNorm layers or other buffers, which a pool does not hold; "
            "choose another normalization (--net-args norm instance, or norm none), or another net"
        )


def _check(pool: Pool) -> None:
    for name, check in _PLAIN.items():
        check(name, getattr(pool, name))
    k = len(check_class_names(pool.classes))
    if pool.net.init not in INITIALIZATIONS:
        init = pool.net.init[:80]
        raise DataError(f"the initialization is {init!r}; {suggest(init, INITIALIZATIONS)}")
    args = pool.net.args
    if args.get("classes") != k or args.get("channels") != pool.normalization.channels:
        raise DataError(
            f"the net has {args.get('classes')} outputs and {args.get('channels')} channels for "
            f"{k} classes and {pool.normalization.channels} channels of images"
        )
    found = pool.accuracies
    if len(found) != pool.total or not all(
        type(a) in (int, float) and 0 <= a <= 100 for a in found
    ):
        raise DataError(
            f"accuracies are {quote(list(found))}, wanted {pool.total} numbers from 0 to 100"
        )
    _check_tensors(pool)


def _check_tensors(pool: Pool) -> None:
    net = pool.net.shapes(len(pool.tensors))
    refuse_buffers(net, pool.net.name)
    own = {k: p.new_empty(pool.total, *p.shape) for k, p in net.named_parameters()}
    refuse_other_tensors(pool.tensors, own, pool.net.name)
    for name, p in pool.tensors.items():
        if not bool(torch.isfinite(p).all()):
            n = int((~torch.isfinite(p)).flatten(1).any(1).nonzero()[0])
            raise DataError(
                f"tensor {name!r} of net {n} is not finite; train the pool again, or get it again"
            )
