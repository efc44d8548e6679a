"""A trained net in one safetensors file, with its architecture, classes and normalization.

The tensors of one net have the names of its state dict, so `safetensors.torch.load_file` gives a
state dict. In files of ensembles, and in those of schema 1, the net's number stands before each
name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from datadistill.data import Normalization, RealData
from datadistill.data.normalization import normalization_from
from datadistill.errors import DataError, UsageError
from datadistill.nets.copying import copy_net
from datadistill.nets.limits import LARGEST
from datadistill.nets.spec import CUSTOM, NetSpec, refuse_other_tensors
from datadistill.runs.artifact import Artifact
from datadistill.runs.content import (
    check_choice,
    check_class_names,
    check_object,
    check_text,
    check_whole,
    optional,
    parse_with,
    quote,
)
from datadistill.runs.file_kinds import read_kind
from datadistill.runs.folder import STUDENT_FILE, RunFolder
from datadistill.runs.header import OF_TORCH, read_header
from datadistill.runs.tensors import KEY
from kd_baselines.saved_model import SavedModel
from kd_baselines.scores import Scores
from kd_baselines.teachers import AVERAGES, Teacher

__all__ = ["STUDENT", "TEACHER", "SavedNet"]

STUDENT, TEACHER = STUDENT_FILE, "teacher.safetensors"
"""What a run folder calls its nets."""

NUMBERED_NAMES, PLAIN_NAMES = 1, 2
"""Schemas: of ensembles (and older files), and of a single net."""


def check_scores(field: str, value: Any) -> dict[str, Any]:
    """The value, if it is what `Scores.as_dict` gives."""
    found = check_object(field, value)
    Scores.from_dict(found)
    return found


def _check_classes(field: str, value: Any) -> tuple[str, ...]:
    return () if value == [] else check_class_names(value)


def _arguments(tensors: dict[str, Tensor], values: dict[str, Any], schema: int) -> dict[str, Any]:
    nets = values.pop("nets")
    # a net has a tensor: no more nets are made room for than there are tensors
    check_whole("nets", nets, least=1, most=max(len(tensors), 1))
    states: list[dict[str, Tensor]] = [{} for _ in range(nets)]
    plain = schema == PLAIN_NAMES and nets == 1
    for name, tensor in tensors.items():
        number, _, rest = ("0", "", name) if plain else name.partition(".")
        if number not in map(str, range(nets)) or not rest:
            raise DataError(f"tensor {quote(name)} is of none of the {nets} nets")
        states[int(number)][rest] = tensor
    spec = values.pop("net")
    _check(states, spec, values["normalization"], values["classes"], values["source_classes"])
    return {"states": tuple(states), "spec": spec, **values}


NET = Artifact(
    "kd-net",
    schema=PLAIN_NAMES,
    fields={
        "nets": check_whole,
        "net": parse_with(NetSpec.from_dict),
        "source_classes": optional(partial(check_whole, least=1, most=LARGEST)),
        "average": partial(check_choice, choices=AVERAGES),
        "dataset": check_text,
        "classes": _check_classes,
        "normalization": parse_with(normalization_from),
        "scores": optional(check_scores),
        "record": optional(check_object),
    },
    with_tensors=["normalization"],
    tensors=lambda saved: saved.tensors if len(saved.states) > 1 else saved.states[0],
    values=lambda saved: {
        "net": saved.spec,
        "nets": len(saved.states),
        "schema": PLAIN_NAMES if len(saved.states) == 1 else NUMBERED_NAMES,
    },
    arguments=_arguments,
    file_name=STUDENT,
    runs=["kd"],
    command="kd-baselines train",
)


@dataclass(frozen=True, eq=False, repr=False)
class SavedNet(SavedModel):
    """One trained net, or the nets of an ensemble.

    Args:
        states: a state dict a net.
        spec: how the net is built.
        dataset: name of the data it was trained on.
        classes: names of the classes, one a logit; empty for a net of other classes (ImageNet's).
        normalization: of the images it was trained on.
        source_classes: of the second head of a two-headed student; None: it has one head.
        average: "arithmetic" or "geometric", of an ensemble.
        scores: `Scores.as_dict()` on the test part, where it was measured.
        record: the config of the training.
    """

    artifact: ClassVar[Artifact] = NET

    states: tuple[Mapping[str, Tensor], ...]
    spec: NetSpec
    dataset: str
    classes: tuple[str, ...]
    normalization: Normalization
    source_classes: int | None = None
    average: str = "arithmetic"
    scores: Mapping[str, Any] | None = None
    record: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"SavedNet({len(self.states)} x {self.spec.name} trained on {self.dataset})"

    def net(self, number: int = 0, net: nn.Module | None = None) -> nn.Module:
        """A new net with these tensors, in evaluation mode, on the CPU. A file cannot build a
        module of the user's own: pass one as `net`, of which a copy gets the tensors."""
        if net is None and self.spec.name == CUSTOM:
            raise UsageError(
                "the net is a module of the user's own, which no file can build; pass one from "
                "Python: kd_baselines.SavedNet.load(PATH).net(net=MyNet())"
            )
        made = self.spec.build() if net is None else copy_net(net).cpu()
        if self.source_classes is not None:
            from kd_baselines.heads import two_headed

            made = two_headed(made, self.source_classes)
        state = dict(self.states[number])
        if net is not None:
            refuse_other_tensors(state, made.state_dict(), type(net).__name__)
        made.load_state_dict(state)
        return made.eval()

    def to_teacher(self) -> Teacher:
        return Teacher(*(self.net(n) for n in range(len(self.states))), average=self.average)

    def refuse_other(self, who: str, data: RealData) -> None:
        pairs = enumerate(zip(self.classes, data.classes, strict=False))
        other = next(((n, a, b) for n, (a, b) in pairs if a != b), None)
        if len(self.classes) == len(data.classes) and other is not None:
            n, a, b = other
            raise DataError(
                f"{who} was trained on other classes ({self.dataset}): class {n} is {a!r}, and "
                f"{b!r} here ({data.name}); pass a net of these classes"
            )

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {
            f"{n}.{name}": t for n, state in enumerate(self.states) for name, t in state.items()
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str], which: str = "student") -> SavedNet:
        """Read a file, or the one in a run folder: of the "student" or the "teacher"."""
        if which == "teacher":
            _refuse_without_teacher(Path(path))
        return cls.artifact.load(path, cls, name=f"{which}.safetensors")


def _refuse_without_teacher(path: Path) -> None:
    """Refuse a run folder whose run keeps no teacher."""
    if (path / TEACHER).exists() or not (path / "config.json").exists():
        return
    if "teacher" in RunFolder.open(path).environment:
        raise DataError(
            f"{path} has no {TEACHER}; its teacher came from elsewhere; pass the file or "
            "the run of that one"
        )
    if (path / STUDENT).exists():
        raise DataError(
            f"{path} has no {TEACHER}; it has finished without one, as its method or its teacher's "
            "weights have it; pass another run"
        )


def _check(
    states: Sequence[Mapping[str, Tensor]],
    spec: NetSpec,
    normalization: Normalization,
    classes: Sequence[str],
    source_classes: int | None,
) -> None:
    """Refuse values that do not fit together, and tensors of another net."""
    args, size = spec.args, normalization.size
    if args.get("channels") != normalization.channels or size not in (None, args.get("size")):
        raise DataError(
            f"the net takes images of {args.get('channels')} channels and {args.get('size')} px, "
            f"its normalization makes {normalization.channels} channels and {size} px"
        )
    if classes and args.get("classes") != len(classes):
        raise DataError(f"the net has {args.get('classes')} outputs for {len(classes)} classes")
    if spec.name == CUSTOM:  # of which no file knows the tensors
        return
    net = spec.shapes(max(map(len, states)))
    if source_classes is not None:
        from kd_baselines.heads import two_headed

        with torch.device("meta"):
            net = two_headed(net, source_classes)
    for state in states:
        refuse_other_tensors(state, net.state_dict(), spec.name)


def is_plain_weights(path: str | os.PathLike[str]) -> bool:
    """Whether a file holds weights by name alone: one of torch.save, somebody else's safetensors
    file, or one of `datadistill finetune` or `kd-baselines export`."""
    path = Path(path)
    if not path.is_file() or path.suffix.lower() in (".pt", ".pth", ".bin"):
        return path.is_file()
    try:
        with open(path, "rb") as file:
            if file.read(4) in OF_TORCH:
                return True
            file.seek(0)
            header = read_header(file, os.fstat(file.fileno()).st_size, str(path))
    except (OSError, DataError):
        return False
    return KEY not in header.get("__metadata__", {}) or read_kind(path) == "net"
