"""Kinds of our files: the name in the file, the same in words, and the command that reads it.

A new kind is declared as an `Artifact` beside its class and gets a line here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..errors import DataError, UsageError
from .content import quote
from .folder import RunFolder
from .tensors import read_metadata

FILE_KINDS = {
    "distilled dataset": ("a distilled set", "datadistill inspect {}"),
    "pool": ("a pool of nets", "datadistill inspect {}"),
    "nets": (
        "trained nets of an unfinished pool",
        "datadistill pretrain --resume, on its run folder",
    ),
    "net": ("the weights of a net", "datadistill inspect {}"),
    "kd-net": ("an image classifier", "kd-baselines evaluate {}"),
    "kd-language-net": ("a language model", "kd-baselines evaluate {}"),
    "kd-payload": ("a payload of kd-baselines ledger", "Payload.load({!r})"),
    "teacher outputs": ("the outputs of a teacher", "CachedTeacher(teacher, split, path={!r})"),
}
"""What a file calls itself -> the same in words, and what reads such a file."""


def kind_of(stored: Mapping[str, Any]) -> str | None:
    """The kind that a file's JSON object states; None where it states none."""
    found = stored.get("kind", stored.get("what"))
    return found if isinstance(found, str) else None


def read_kind(path: str | os.PathLike[str]) -> str | None:
    """The kind that a file's header states, or the kind of run in a folder; None where nothing can
    be read."""
    try:
        return RunFolder.open(path).kind if os.path.isdir(path) else kind_of(read_metadata(path))
    except (DataError, UsageError):
        return None


def mismatch(stored: Mapping[str, Any], source: object, wanted: str) -> str:
    """What a file of ours holds, what was wanted, and what reads the file, for a refusal."""
    kind = kind_of(stored)
    if kind is None or kind not in FILE_KINDS:
        return f"{'something else' if kind is None else quote(kind, 40)}, wanted {wanted}"
    words, use = FILE_KINDS[kind]
    return f"{words}, wanted {wanted}; to use it: {use.format(str(source))}"
