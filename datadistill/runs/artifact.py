"""A kind of file, declared once: named tensors and one canonical JSON object in a checksummed
safetensors file.

    POOL = Artifact("pool", fields={"nets": check_whole, "net": parse_with(NetSpec.from_dict), ...})
    POOL.save(pool, path)                 # the same bytes for the same content
    pool = POOL.load(path, Pool)          # or a DataError that says what was found, wanted, and to
                                          be done
    POOL.fingerprint(pool)                # the checksum in its file

The table `fields` says which values stand in the file beside the tensors, and how each is checked
when it is read. A value is the object's attribute of that name where `values` does not say
otherwise, and the class takes the tensors and the values as keyword arguments. `tensors.py` has the
layout of the file and its checksum.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from ..errors import DataError
from .atomic import write_bytes
from .content import Check, check_fields, check_texts, content_of
from .file_kinds import FILE_KINDS, kind_of, mismatch, read_kind
from .tensors import checksum, pack, unpack

T = TypeVar("T")
Arguments = Callable[[dict[str, Tensor], dict[str, Any], int], dict[str, Any]]


@runtime_checkable
class _Described(Protocol):
    """A value that is stored as an object, such as a `NetSpec`."""

    def as_dict(self) -> dict[str, Any]: ...


def _tensors_of(value: object) -> Mapping[str, Tensor]:
    """The tensors of a value that is stored as an object; {} for one that has none."""
    return getattr(value, "tensors", {}) if isinstance(value, _Described) else {}


class Content(NamedTuple):
    """Tensors and values of a file that no class stands for."""

    tensors: dict[str, Tensor]
    values: Mapping[str, Any]


def _keywords(tensors: dict[str, Tensor], values: dict[str, Any], schema: int) -> dict[str, Any]:
    return {"tensors": tensors, **values}


@dataclass(frozen=True)
class Artifact:
    """One kind of file.

    Args:
        kind: what the file calls itself, a key of `FILE_KINDS`.
        fields: name -> check of every value that the file has beside the tensors; None takes any
            names, from a `Content` and into one.
        schema: the newest layout that is read, and the one that is written where `values` has no
            "schema".
        tensors: the object's tensors by name.
        values: the values that are not the object's attributes of that name. Values with `as_dict`
            are stored as objects.
        arguments: (tensors, checked values, schema of the file) -> keyword arguments of the class.
        upgrade: (values, schema of the file) -> the values as a file of the newest schema has them.
        name_key: the key under which the file states its kind.
        with_tensors: names of fields whose value may have `tensors` of its own. They stand in the
            file as FIELD.NAME, and the check gets them under "tensors".
        optional: names of fields that are left out of a file where the value is None.
        uncovered: schema -> the names that the checksum of such files leaves out.
        finite: refuse NaN and infinity; False where the class does, with a better sentence.
        file_name: of the file in a run folder.
        runs: the kinds of runs that leave such a file.
        command: that makes it, and resumes the run.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> from datadistill.runs.content import check_text
        >>> NET = Artifact("net", fields={"dataset": check_text})
        >>> thing, path = (
        ...     SimpleNamespace(tensors={"w": torch.ones(2)}, dataset="digits"),
        ...     getfixture("tmp_path") / "f",
        ... )
        >>> NET.save(thing, path)
        >>> NET.load(path, dict)
        {'tensors': {'w': tensor([1., 1.])}, 'dataset': 'digits'}
    """

    kind: str
    fields: Mapping[str, Check] | None = None
    schema: int = 1
    tensors: Callable[[Any], Mapping[str, Tensor]] = attrgetter("tensors")
    values: Callable[[Any], Mapping[str, Any]] = lambda thing: {}
    arguments: Arguments = _keywords
    upgrade: Callable[[dict[str, Any], int], dict[str, Any]] = lambda values, schema: values
    name_key: str = "kind"
    with_tensors: Collection[str] = ()
    optional: Collection[str] = ()
    uncovered: Mapping[int, Collection[str]] = field(default_factory=dict)
    finite: bool = True
    file_name: str = ""
    runs: Collection[str] = ()
    command: str = ""

    @property
    def words(self) -> str:
        """The kind of file in words."""
        return FILE_KINDS[self.kind][0]

    # --- writing

    def metadata(self, thing: Any) -> dict[str, Any]:
        """The JSON object of the file, less the checksum."""
        own = thing.values if self.fields is None else self.values(thing)
        values = {"schema": self.schema, self.name_key: self.kind, **own}
        for name in self.fields or ():
            if name not in values:
                values[name] = getattr(thing, name)
        for name in self.with_tensors:
            if own := _tensors_of(values[name]):
                values[name] = {**values[name].as_dict(), "tensors": sorted(own)}
        return {
            name: value.as_dict() if isinstance(value, _Described) else value
            for name, value in values.items()
            if not (value is None and name in self.optional)
        }

    def all_tensors(self, thing: Any) -> dict[str, Tensor]:
        """The tensors of the file by name."""
        found = dict(self.tensors(thing))
        for name in self.with_tensors:
            found |= {f"{name}.{k}": x for k, x in _tensors_of(getattr(thing, name)).items()}
        return found

    def pack(self, thing: Any) -> bytes:
        """The content of the file."""
        return pack(self.all_tensors(thing), self.metadata(thing))

    def save(self, thing: Any, path: str | os.PathLike[str]) -> None:
        """Write the file, atomically: the same bytes for the same content."""
        write_bytes(path, self.pack(thing))

    def fingerprint(self, thing: Any, schema: int | None = None) -> str:
        """The checksum that a file of the object has, of the given schema where one is named."""
        stored = self.metadata(thing)
        if schema is not None:
            stored["schema"] = schema
        left_out = self.uncovered.get(stored["schema"], ())
        return checksum(
            self.all_tensors(thing), {k: v for k, v in stored.items() if k not in left_out}
        )

    # --- reading

    def load(
        self,
        path: str | os.PathLike[str],
        make: Callable[..., T],
        *,
        name: str | None = None,
        verify: bool = True,
    ) -> T:
        """Read a file, or the one in a run folder.

        Args:
            path: the file or the folder.
            make: the class that is made of tensors and values.
            name: of the file in a folder, where it is not `file_name`.
            verify: compare the checksum; False reads an edited or damaged file all the same.

        Raises:
            DataError: it is missing, unfinished, damaged, or something else; the sentence says
                which.
        """
        path = self.find(path, name)
        tensors, stored = self.read(path, verify=verify)
        values = {k: v for k, v in stored.items() if k not in ("schema", "checksum", self.name_key)}
        if self.fields is None:
            return make(tensors, values)
        with content_of(path, self.words):
            values = self.upgrade(values, stored["schema"])
            take_tensors(self.with_tensors, tensors, values)
            values = check_fields("", values, self.fields, self.optional)
            return make(**self.arguments(tensors, values, stored["schema"]))

    def read(
        self, path: str | os.PathLike[str], *, verify: bool = True
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors and the JSON object of a file of this kind, its values unchecked; see
        `load`."""

        def refuse(stored: Mapping[str, Any]) -> None:
            if kind_of(stored) != self.kind:
                raise DataError(f"{path} holds {mismatch(stored, path, self._wanted)}")

        return unpack(
            path,
            schema=self.schema,
            verify=verify,
            uncovered=self.uncovered,
            finite=self.finite,
            refuse=refuse,
        )

    def find(self, path: str | os.PathLike[str], name: str | None = None) -> Path:
        """The file itself, or the one in a run folder."""
        path, name = Path(path), name or self.file_name
        if not name or not path.is_dir():
            return path
        if (path / name).exists():
            return path / name
        if not (path / "config.json").exists():
            raise DataError(
                f"{path} is a folder without {name}; pass a file of {self._wanted}, "
                "or its run folder"
            )
        if (kind := read_kind(path)) not in (None, *self.runs):
            raise DataError(
                f"{path} holds a run of {kind}, wanted {self._wanted}; pass its file or run folder"
            )
        raise DataError(
            f"{path} has no {name}: the run has not finished; go on with it ({self.command} "
            f"--resume {path})"
        )

    @property
    def _wanted(self) -> str:
        return f"{self.words} ({self.command})" if self.command else self.words


def take_tensors(
    fields: Collection[str], tensors: dict[str, Tensor], values: dict[str, Any]
) -> None:
    """Move the tensors that the values of these fields have of their own into these values, where
    their checks look for them."""
    for name in fields:
        if isinstance(values.get(name), dict) and "tensors" in values[name]:
            names = values[name]["tensors"]
            check_texts(f"{name}.tensors", names)
            if missing := [k for k in names if f"{name}.{k}" not in tensors]:
                raise DataError(f"the tensor {name}.{missing[0]} is missing")
            values[name] = {
                **values[name],
                "tensors": {k: tensors.pop(f"{name}.{k}") for k in names},
            }
