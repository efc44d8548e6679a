"""A trained net in one safetensors file, with what is needed to use it: architecture, classes, normalization.

saved = SavedNet.load("runs/hinton-missing-digit-s0")     # the student; which="teacher" for the other
net = saved.net()                                          # in evaluation mode
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.data import Normalization
from datadistill.errors import DataError, UsageError
from datadistill.nets.spec import NetSpec
from datadistill.runs.atomic import write_bytes
from datadistill.runs.canonical import parse_json
from datadistill.runs.header import read_header
from datadistill.runs.tensors import checksum, pack, unpack
from kd_baselines import nets as _registers_the_papers_nets  # noqa: F401

__all__ = ["LANGUAGE_NET", "STUDENT", "TEACHER", "SavedNet", "kind_of", "read_net"]

STUDENT, TEACHER = "student.safetensors", "teacher.safetensors"
"""What a run folder calls its nets."""

SCHEMA = 1
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
        meta = {
            "schema": SCHEMA, "kind": KIND, "nets": len(self.states), "net": self.spec.as_dict(),
            "source_classes": self.source_classes, "average": self.average, "dataset": self.dataset,
            "classes": list(self.classes), "normalization": self.normalization.as_dict(),
            "scores": self.scores, "record": self.record,
        }  # fmt: skip
        write_bytes(path, pack(self._tensors(), meta))

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
        try:
            states: list[dict[str, Tensor]] = [{} for _ in range(meta["nets"])]
            for name, tensor in tensors.items():
                number, _, rest = name.partition(".")
                states[int(number)][rest] = tensor
            saved = cls(
                tuple(states), NetSpec.from_dict(meta["net"]), meta["dataset"], tuple(meta["classes"]),
                Normalization.from_dict(meta["normalization"]), meta["source_classes"], meta["average"],
                meta["scores"], meta["record"],
            )  # fmt: skip
            with torch.device("meta"):
                saved.spec.build()
            return saved
        except (DataError, UsageError) as error:
            raise DataError(f"{path}: {error}") from None
        except (TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            what = f"its content is not that of a net ({error!r:.200})"
            raise DataError(f"{path}: {what}; get the file again") from None


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
            way = f"go on with it (kd-baselines train --resume {path})"
            is_run = (path / "config.json").exists()
            raise DataError(f"{path} has no {which}.safetensors; {way if is_run else 'pass a run folder'}")
        path = path / f"{which}.safetensors"
    tensors, meta = unpack(path, schema=SCHEMA)
    found = meta.get("kind")
    if found != kind and found in _WHAT:
        raise DataError(f"{path} holds {_WHAT[found]}, wanted {_WHAT[kind]}; pass the file of one")
    if found != kind or meta.keys() != set(keys):
        what = found or "something else"
        raise DataError(f"{path} holds {str(what)[:40]!r}, wanted a net of kd-baselines train")
    return path, tensors, meta


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """What a file says that it holds, from its header alone; None where it says nothing that can be read."""
    try:
        with open(path, "rb") as file:
            header, _ = read_header(file, os.fstat(file.fileno()).st_size, str(path))
        found = parse_json(header["__metadata__"]["datadistill"])["kind"]
    except (OSError, DataError, LookupError, TypeError, ValueError):
        return None
    return found if isinstance(found, str) else None
