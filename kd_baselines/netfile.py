"""A trained net in one safetensors file, with what is needed to use it: architecture, classes, normalization.

saved = SavedNet.load("runs/hinton-missing-digit-s0")     # the student; which="teacher" for the other
net = saved.net()                                          # in evaluation mode

The tensors of one net have the names of its state dict, so `safetensors.torch.load_file` gives a state dict. In
files of ensembles, and in those of schema 1, the net's number stands before each name.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.data import Normalization
from datadistill.errors import DataError
from datadistill.nets.limits import LARGEST
from datadistill.nets.spec import NetSpec
from datadistill.runs.atomic import write_bytes
from datadistill.runs.canonical import parse_json
from datadistill.runs.content import (
    check_class_names,
    check_record,
    check_text,
    check_whole,
    content_of,
    shown,
)
from datadistill.runs.folder import RunFolder
from datadistill.runs.header import read_header
from datadistill.runs.tensors import checksum, pack, unpack
from kd_baselines.scores import Scores
from kd_baselines.teachers import AVERAGES

__all__ = ["LANGUAGE_NET", "STUDENT", "TEACHER", "SavedNet", "kind_of", "read_net"]

STUDENT, TEACHER = "student.safetensors", "teacher.safetensors"
"""What a run folder calls its nets."""

SCHEMA = 1
PLAIN_NAMES = 2  # the schema of a single net
KIND = "kd-net"
LANGUAGE_NET = "kd-language-net"
_WHAT = {KIND: "an image classifier", LANGUAGE_NET: "a language model"}
_KEYS = {
    "schema", "kind", "checksum", "nets", "net", "source_classes", "average", "dataset", "classes",
    "normalization", "scores", "record",
}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class SavedNet:
    """One net, or the nets of an ensemble, as a file holds them.

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

    def net(self, number: int = 0) -> nn.Module:
        """A net of its own with these tensors, in evaluation mode, on the CPU."""
        net = self.spec.build()
        if self.source_classes is not None:
            from kd_baselines.heads import two_headed

            net = two_headed(net, self.source_classes)
        net.load_state_dict(dict(self.states[number]))
        return net.eval()

    @property
    def bytes(self) -> int:
        """Of all tensors."""
        return sum(t.numel() * t.element_size() for state in self.states for t in state.values())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the nets' tensors alone."""
        return checksum(self._tensors())

    def _tensors(self) -> dict[str, Tensor]:
        return {f"{n}.{name}": t for n, state in enumerate(self.states) for name, t in state.items()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, atomically: the same bytes for the same content.

        Raises:
            UsageError, ResourceError: it could not be written.
        """
        single = len(self.states) == 1
        meta = {
            "schema": PLAIN_NAMES if single else SCHEMA,
            "kind": KIND, "nets": len(self.states), "net": self.spec.as_dict(),
            "source_classes": self.source_classes, "average": self.average, "dataset": self.dataset,
            "classes": list(self.classes), "normalization": self.normalization.as_dict(),
            "scores": self.scores, "record": self.record,
        }  # fmt: skip
        write_bytes(path, pack(self.states[0] if single else self._tensors(), meta))

    @classmethod
    def load(cls, path: str | os.PathLike[str], which: str = "student") -> SavedNet:
        """Read a file, or the one in a run folder.

        Args:
            path: the file or the folder.
            which: "student" or "teacher", of a folder.

        Raises:
            DataError: it is missing, unfinished, damaged, or something else.
        """
        path, tensors, meta = read_net(path, KIND, _KEYS, which)
        with content_of(path, "a net"):
            # a net has a tensor: no more nets are made room for than there are tensors
            check_whole("nets", meta["nets"], least=1, most=max(len(tensors), 1))
            states: list[dict[str, Tensor]] = [{} for _ in range(meta["nets"])]
            plain = meta["schema"] == PLAIN_NAMES and meta["nets"] == 1
            for name, tensor in tensors.items():
                number, _, rest = ("0", "", name) if plain else name.partition(".")
                if number not in map(str, range(meta["nets"])) or not rest:
                    raise DataError(f"tensor {shown(name)} is of none of the {meta['nets']} nets")
                states[int(number)][rest] = tensor
            saved = cls(
                tuple(states), NetSpec.from_dict(meta["net"]), meta["dataset"], meta["classes"],
                Normalization.from_dict(meta["normalization"]), meta["source_classes"], meta["average"],
                meta["scores"], meta["record"],
            )  # fmt: skip
            _check(saved)
            return replace(saved, classes=tuple(saved.classes))


def _check(saved: SavedNet) -> None:
    """Refuse fields that make no sense, and a net that is not of its tensors."""
    check_text("dataset", saved.dataset)
    if saved.classes != []:
        check_class_names(saved.classes)
    if saved.average not in AVERAGES:
        raise DataError(f"average is {shown(saved.average)}, wanted {' or '.join(AVERAGES)}")
    if saved.source_classes is not None:
        check_whole("source_classes", saved.source_classes, least=1, most=LARGEST)
    if saved.scores is not None:
        Scores.from_dict(saved.scores)
    check_record("record", saved.record)
    args, scale = saved.spec.args, saved.normalization
    if args.get("channels") != scale.channels or scale.size not in (None, args.get("size")):
        raise DataError(
            f"the net takes images of {args.get('channels')} channels and {args.get('size')} px, its "
            f"normalization makes {scale.channels} channels and {scale.size} px"
        )
    if saved.classes and args.get("classes") != len(saved.classes):
        raise DataError(f"the net has {args.get('classes')} outputs for {len(saved.classes)} classes")
    net = saved.spec.shapes(max(map(len, saved.states)))
    if saved.source_classes is not None:
        from kd_baselines.heads import two_headed

        with torch.device("meta"):
            net = two_headed(net, saved.source_classes)
    refuse_other_tensors(net, saved.states, saved.spec.name)


def refuse_other_tensors(net: nn.Module, states: Sequence[Mapping[str, Tensor]], name: str) -> None:
    """DataError for states that are not those of a net, by name, shape and kind of number.

    Args:
        net: of any device, also "meta".
        states: one or more.
        name: of the net.
    """
    wanted = {k: _kind(t) for k, t in net.state_dict().items()}
    for state in states:
        found = {k: _kind(t) for k, t in state.items()}
        if other := sorted(k for k in {**wanted, **found} if wanted.get(k) != found.get(k)):
            there, should = found.get(other[0], "not there"), wanted.get(other[0], "none")
            raise DataError(
                f"its tensors are not those of a {name} ({shown(other[0])} is {there}, wanted {should}; "
                f"{len(other)} differ); get the file again"
            )


def _kind(t: Tensor) -> str:
    return f"{'floats' if t.is_floating_point() else str(t.dtype)} {tuple(t.shape)}"


def read_net(
    path: str | os.PathLike[str], kind: str, keys: Collection[str], which: str = "student"
) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    """Read the file of a net, or the one in a run folder.

    Args:
        path: the file or the folder.
        kind: of the net that is wanted.
        keys: that its metadata has.
        which: "student" or "teacher", of a folder.

    Returns:
        The file's path, its tensors and its metadata.

    Raises:
        DataError: it is missing, unfinished, damaged, or something else.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / f"{which}.safetensors").exists():
            raise DataError(f"{path} has no {which}.safetensors; {_way(path, which)}")
        path = path / f"{which}.safetensors"
    tensors, meta = unpack(path, schema=PLAIN_NAMES, kind=list(_WHAT), what="a net of kd-baselines train")
    if meta["kind"] != kind:
        raise DataError(f"{path} holds {_WHAT[meta['kind']]}, wanted {_WHAT[kind]}; pass the file of one")
    if meta.keys() != set(keys):
        missing, unknown = sorted(set(keys) - meta.keys()), sorted(meta.keys() - set(keys))
        found = f"lacks {missing} and has unknown {shown(unknown)}"
        raise DataError(f"{path}: its metadata {found}; get the file again")
    return path, tensors, meta


def _way(path: Path, which: str) -> str:
    """What to do about a folder without a net's file."""
    if not (path / "config.json").exists():
        return "pass a run folder"
    if which == "teacher" and "teacher" in RunFolder.open(path).environment:
        return "its teacher came from elsewhere; pass the file or the run of that one"
    if which == "teacher" and (path / STUDENT).exists():
        return "it has finished without one, as its method or its teacher's weights have it; pass another run"
    return f"go on with it (kd-baselines train --resume {path})"


def is_plain_weights(path: str | os.PathLike[str]) -> bool:
    """Whether a file holds weights by name alone: a torch checkpoint, or somebody else's safetensors file."""
    path = Path(path)
    if not path.is_file() or path.suffix.lower() in (".pt", ".pth", ".bin"):
        return path.is_file()
    try:
        with open(path, "rb") as file:
            header, _ = read_header(file, os.fstat(file.fileno()).st_size, str(path))
    except (OSError, DataError):
        return False
    return "datadistill" not in header.get("__metadata__", {})


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """What a file says that it holds, from its header alone; None where it says nothing that can be read."""
    try:
        with open(path, "rb") as file:
            header, _ = read_header(file, os.fstat(file.fileno()).st_size, str(path))
        found = parse_json(header["__metadata__"]["datadistill"])["kind"]
    except (OSError, DataError, LookupError, TypeError, ValueError):
        return None
    return found if isinstance(found, str) else None
