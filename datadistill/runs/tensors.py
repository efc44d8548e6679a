"""Safetensors files that say what they are and prove that they are whole.

One file holds named tensors and, under one metadata key, one canonical JSON object. That object carries
`schema`, the version of its layout, and `checksum`, the SHA-256 of everything else. Only numbers and JSON are
read: no file can run code. Sizes claimed by a header are compared with the bytes there are before any memory
is taken.

The same tensors and the same object give the same bytes: safetensors sorts the tensors, the JSON is
canonical, and with a single metadata key there is no order left to chance.

Reference: the safetensors format, https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, BinaryIO

import safetensors.torch
import torch
from torch import Tensor

from ..errors import DataError, OutOfMemory
from .canonical import canonical_json, parse_json, refuse_unusable, text_of_plain
from .header import DTYPES, LARGEST_HEADER, Entry, clause, layout, read_header

KEY = "datadistill"
"""The metadata key under which the JSON object stands."""

Data = bytes | str | os.PathLike[str]

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def pack(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> bytes:
    """The bytes of a safetensors file with these tensors and this JSON object.

    Args:
        tensors: name -> tensor of a dtype in `DTYPES`, any device, any shape.
        meta: JSON-able; must hold `schema`, a whole number from 1; `checksum` is put in (or replaced) here.

    Returns:
        The file's content, the same for the same arguments.

    Raises:
        DataError: a dtype that the format cannot hold, or more metadata than a reader takes (10 MB).
        TypeError, ValueError: `meta` is not JSON-able, or its schema is not a whole number.

    Example:
        >>> data = pack({"x": torch.zeros(2)}, {"schema": 1, "what": "nothing"})
        >>> unpack(data, schema=1)[1]["what"]
        'nothing'
    """
    if type(meta.get("schema")) is not int or meta["schema"] < 1:
        raise ValueError(f"meta['schema'] is {meta.get('schema')!r}, wanted a whole number from 1")
    # clone: safetensors refuses tensors that share memory
    ready = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    document = {**meta, "checksum": checksum(ready, meta)}
    data = safetensors.torch.save(ready, {KEY: canonical_json(document)})
    length = int.from_bytes(data[:8], "little")
    if length > LARGEST_HEADER:
        raise DataError(
            f"the names, shapes and metadata take {length} bytes, more than the {LARGEST_HEADER} that a header "
            "can have; keep fewer tensors, or a shorter order of steps"
        )
    return data


def unpack(
    data: Data,
    *,
    schema: int,
    verify: bool = True,
    uncovered: Mapping[int, Collection[str]] | None = None,
    finite: bool = True,
    source: str | None = None,
    refuse: Callable[[Mapping[str, Any]], None] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `pack` wrote.

    Args:
        data: the content, or the path of a file.
        schema: the newest schema that the caller can read.
        verify: compare the checksum; False reads an edited or damaged file all the same.
        uncovered: schema -> the keys that the checksum of files of that schema leaves out.
        finite: refuse NaN and infinity in floating-point tensors.
        source: what to call the file in messages; default: its path.
        refuse: raises where the JSON object is that of another kind of file; called before all else is read.

    Returns:
        Fresh CPU tensors by name, sorted, and the JSON object.

    Raises:
        DataError: anything else than a whole file of `pack`, in one sentence with what was found.
        OutOfMemory: the file is whole but larger than the memory.
    """
    with _open(data, source) as (file, size, source):
        header, body_size = read_header(file, size, source)
        text = _only_key(header.pop("__metadata__", None), source)
        entries = layout(header, body_size, source)
        meta = _parse_meta(text, source)
        if refuse is not None:
            refuse(meta)
        _check_meta(meta, text, schema, source)
        try:
            body = memoryview(file.read(body_size))
            if len(body) != body_size:
                raise DataError(f"{source} is not a complete safetensors file: it was cut while it was read")
            if verify:
                left_out = {"checksum", *(uncovered or {}).get(meta["schema"], ())}
                _compare_checksum(body, entries, meta, left_out, source)
            tensors = {name: _tensor(body, entries[name]) for name in sorted(entries)}
        except MemoryError:
            raise OutOfMemory(f"{source} needs {body_size} bytes of memory, more than there is") from None
    if finite:
        for name, tensor in tensors.items():
            _refuse_nonfinite(name, tensor, source)
    return tensors, meta


def read_metadata(data: Data, source: str | None = None) -> dict[str, Any]:
    """The JSON object of a file of `pack`, from its header alone: neither checksum nor tensors are read.

    Raises:
        DataError: no such file.
    """
    with _open(data, source) as (file, size, source):
        header, _ = read_header(file, size, source)
        return _parse_meta(_only_key(header.get("__metadata__"), source), source)


@contextlib.contextmanager
def _open(data: Data, source: str | None) -> Iterator[tuple[BinaryIO, int, str]]:
    """The content as a file, its size, and what to call it."""
    if isinstance(data, bytes):
        yield io.BytesIO(data), len(data), source or "the data"
        return
    source = source or str(data)
    try:
        # looked at before it is opened: opening a pipe would wait for a writer
        status = os.stat(data)
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise DataError(f"{source} is {what}, wanted a safetensors file")
        with open(data, "rb") as file:
            yield file, status.st_size, source
    except FileNotFoundError:
        raise DataError(f"{source} does not exist; check the path") from None
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or error}") from error


def checksum(tensors: Mapping[str, Tensor], meta: Mapping[str, Any] | None = None) -> str:
    """SHA-256 of named tensors and a JSON object.

    Hashed are, in order: the canonical JSON of [meta less `checksum`, [[name, dtype, shape] for each tensor by
    name]], a zero byte, and the tensors' little-endian bytes in the same order.

    Args:
        tensors: name -> tensor of a dtype in `DTYPES`.
        meta: JSON-able, or None for tensors alone (the fingerprint of a data set, say).

    Returns:
        'sha256:' and 64 hexadecimal digits.

    Raises:
        DataError: a dtype that the format cannot hold.

    Example:
        >>> checksum({"x": torch.zeros(2)}) == checksum({"x": torch.zeros(2, 1)})
        False
    """
    shapes = {}
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise DataError(f"tensor {name!r} is {tensor.dtype}, wanted one of {', '.join(map(str, _NAMES))}")
        shapes[name] = (_NAMES[tensor.dtype], list(tensor.shape))
    # view as bytes: numpy knows no bfloat16. reshape first: a 0-dimensional tensor has no byte view.
    parts = (tensors[n].detach().cpu().reshape(-1).view(torch.uint8).numpy().data for n in sorted(shapes))
    covered = {k: v for k, v in (meta or {}).items() if k != "checksum"}
    return _digest(shapes, parts, canonical_json(covered))


def _digest(shapes: Mapping[str, tuple[str, list[int]]], parts: Any, covered: str) -> str:
    layout = canonical_json([[name, *shapes[name]] for name in sorted(shapes)])
    digest = hashlib.sha256(f"[{covered},{layout}]".encode("ascii") + b"\0")
    for part in parts:
        digest.update(part)
    return f"sha256:{digest.hexdigest()}"


def _compare_checksum(
    body: memoryview, entries: Mapping[str, Entry], meta: Mapping[str, Any], left_out: set[str], source: str
) -> None:
    shapes = {name: (entry.dtype, entry.shape) for name, entry in entries.items()}
    parts = (body[entries[name].begin : entries[name].end] for name in sorted(entries))
    found = _digest(shapes, parts, text_of_plain({k: v for k, v in meta.items() if k not in left_out}))
    if meta.get("checksum") != found:
        stated = repr(meta["checksum"])[:90] if "checksum" in meta else "no checksum"
        raise DataError(
            f"{source} is damaged or was edited: it states {stated}, its content has {found!r}; "
            "get the file again"
        )


def _only_key(metadata: Any, source: str) -> str:
    if not isinstance(metadata, dict) or KEY not in metadata:
        found = f"metadata {sorted(metadata)}" if isinstance(metadata, dict) else "no metadata"
        raise DataError(f"{source} has {found[:200]}, wanted the key {KEY!r}: this library did not write it")
    if len(metadata) > 1 or not isinstance(metadata[KEY], str):
        found = f"metadata {sorted(metadata)}"
        raise DataError(f"{source} has {found[:200]}, wanted the text {KEY!r} alone: it was edited")
    text: str = metadata[KEY]
    return text


def _parse_meta(text: str, source: str) -> dict[str, Any]:
    try:
        meta = parse_json(text)
    except ValueError as error:
        raise DataError(f"{source}: its metadata {KEY!r} is {clause(error)}") from None
    if not isinstance(meta, dict):
        raise DataError(f"{source}: its metadata {KEY!r} is {text[:40]!r}, wanted a JSON object")
    return meta


def _check_meta(meta: dict[str, Any], text: str, schema: int, source: str) -> None:
    found = meta.get("schema")
    if type(found) is not int or found < 1:
        raise DataError(f"{source}: its schema is {repr(found)[:40]}, wanted a whole number from 1")
    if found > schema:
        raise DataError(
            f"{source} was written by schema {found}, this reads up to {schema}; install a newer version"
        )
    if text_of_plain(meta) != text:
        raise DataError(f"{source}: its metadata {KEY!r} is not in canonical form: it was edited by hand")
    try:
        refuse_unusable(meta, text)
    except ValueError as error:
        raise DataError(f"{source}: in its metadata, {error}; get the file again") from None


def _tensor(body: memoryview, entry: Entry) -> Tensor:
    dtype = DTYPES[entry.dtype]
    if entry.begin == entry.end:
        return torch.empty(entry.shape, dtype=dtype)
    fresh = bytearray(body[entry.begin : entry.end])
    if dtype is torch.bool:  # a byte other than 0 and 1 is no bool: make it one
        return torch.frombuffer(fresh, dtype=torch.uint8).ne(0).reshape(entry.shape)
    return torch.frombuffer(fresh, dtype=dtype).reshape(entry.shape)


def _refuse_nonfinite(name: str, tensor: Tensor, source: str) -> None:
    if not tensor.is_floating_point() or bool((ok := torch.isfinite(tensor)).all()):
        return
    first = int(ok.reshape(-1).logical_not().nonzero()[0])
    place = torch.unravel_index(torch.tensor(first), tensor.shape) if tensor.dim() else ()
    index, value = tuple(int(i) for i in place), tensor.reshape(-1)[first].item()
    raise DataError(f"{source}: tensor {name[:80]!r} is {value} at index {index}, wanted finite numbers")
