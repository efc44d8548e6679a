"""Safetensors files that say what they are and prove that they are whole.

One file holds named tensors and, under one metadata key, one canonical JSON object. That object
carries `schema`, the version of its layout, and `checksum`, the SHA-256 of everything else. Only
numbers and JSON are read: no file can run code. Sizes claimed by a header are compared with the
bytes there are before any memory is taken.

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
from safetensors import safe_open
from torch import Tensor

from ..errors import DataError, OutOfMemory
from .canonical import canonical_json, dump_plain, parse_json, refuse_unusable
from .header import DTYPES, LARGEST_HEADER, clause, read_header

KEY = "datadistill"
"""The metadata key under which the JSON object stands."""

Data = bytes | str | os.PathLike[str]


def pack(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> bytes:
    """The bytes of a safetensors file with these tensors and this JSON object, the same for the
    same arguments.

    Args:
        tensors: name -> tensor of a dtype in `DTYPES`, any device, any shape.
        meta: JSON-able, at most 10 MB; must hold `schema`, a whole number from 1; `checksum` is put
            in here.

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
            f"the names, shapes and metadata take {length} bytes, more than the {LARGEST_HEADER} "
            "that a header can have; keep fewer tensors, or a shorter order of steps"
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
    """Fresh CPU tensors by name, sorted, and the JSON object of a file of `pack`; DataError for
    anything else.

    Args:
        data: the content, or the path of a file.
        schema: the newest schema that the caller can read.
        verify: compare the checksum; False reads an edited or damaged file all the same.
        uncovered: schema -> the keys that the checksum of files of that schema leaves out.
        finite: refuse NaN and infinity in floating-point tensors.
        source: what to call the file in messages; default: its path.
        refuse: raises where the JSON object is that of another kind of file; called before all else
            is read.
    """
    with _open(data, source) as (file, size, source):
        text = _get_only_key(read_header(file, size, source), source)
        meta = _parse_meta(text, source)
        if refuse is not None:
            refuse(meta)
        _check_meta(meta, text, schema, source)
        tensors = _read_tensors(data, file, size, source)
    if verify:
        left_out = {"checksum", *(uncovered or {}).get(meta["schema"], ())}
        found = _digest(tensors, dump_plain({k: v for k, v in meta.items() if k not in left_out}))
        if meta.get("checksum") != found:
            stated = repr(meta["checksum"])[:90] if "checksum" in meta else "no checksum"
            raise DataError(
                f"{source} is damaged or was edited: it states {stated}, its content has "
                f"{found!r}; get the file again"
            )
    if finite:
        for name, tensor in tensors.items():
            _refuse_nonfinite(name, tensor, source)
    return tensors, meta


def read_metadata(data: Data, source: str | None = None) -> dict[str, Any]:
    """The JSON object of a file of `pack`, from its header alone: neither checksum nor tensors are
    read."""
    with _open(data, source) as (file, size, source):
        return _parse_meta(_get_only_key(read_header(file, size, source), source), source)


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
    """'sha256:' and the digest of named tensors and a JSON object, in 64 hexadecimal digits.

    Hashed are, in order: the canonical JSON of [meta less `checksum`, [[name, dtype, shape] for
    each tensor by name]], a zero byte, and the tensors' little-endian bytes in the same order.
    Without `meta` it is the fingerprint of tensors alone.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise DataError(
                f"tensor {name!r} is {tensor.dtype}, wanted one of {', '.join(map(str, DTYPES))}"
            )
    covered = {k: v for k, v in (meta or {}).items() if k != "checksum"}
    return _digest(tensors, canonical_json(covered))


def _digest(tensors: Mapping[str, Tensor], covered: str) -> str:
    names = sorted(tensors)
    layout = canonical_json(
        [[name, DTYPES[tensors[name].dtype], list(tensors[name].shape)] for name in names]
    )
    digest = hashlib.sha256(f"[{covered},{layout}]".encode("ascii") + b"\0")
    for name in names:
        # view as bytes: numpy knows no bfloat16. reshape first: a 0-dimensional tensor has no byte
        # view.
        digest.update(tensors[name].detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def _read_tensors(data: Data, file: BinaryIO, size: int, source: str) -> dict[str, Tensor]:
    """The tensors, sorted by name; safetensors compares the header with the bytes there are."""
    broken = f"{source} is not a complete safetensors file"
    try:
        if not isinstance(data, bytes):
            # refuses a header that does not fit before the file is read
            with safe_open(data, "pt"):
                pass
        file.seek(0)
        tensors = safetensors.torch.load(file.read(size))
    except MemoryError:
        raise OutOfMemory(f"{source} needs {size} bytes of memory, more than there is") from None
    except OSError:
        raise
    except Exception as error:  # SafetensorError, and what torch says of a shape that overflows
        raise DataError(f"{broken}: {' '.join(str(error).split())[:200]}") from None
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES or tensor.dim() > 64:
            raise DataError(
                f"{broken}: tensor {name[:80]!r} is {tensor.dtype} of {tensor.dim()} dimensions"
            )
        if tensor.dtype is torch.bool:  # a byte other than 0 and 1 is no bool: make it one
            tensors[name] = tensor.view(torch.uint8).ne(0)
    return dict(sorted(tensors.items()))


def _get_only_key(header: Mapping[str, Any], source: str) -> str:
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or KEY not in metadata:
        found = f"metadata {sorted(metadata)}" if isinstance(metadata, dict) else "no metadata"
        raise DataError(
            f"{source} has {found[:200]}, wanted the key {KEY!r}: this library did not write it"
        )
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
            f"{source} was written by schema {found}, this reads up to {schema}; "
            "install a newer version"
        )
    if dump_plain(meta) != text:
        raise DataError(
            f"{source}: its metadata {KEY!r} is not in canonical form: it was edited by hand"
        )
    try:
        refuse_unusable(meta, text)
    except ValueError as error:
        raise DataError(f"{source}: in its metadata, {error}; get the file again") from None


def is_finite(tensor: Tensor) -> bool:
    """Whether no number of a tensor is NaN or infinite.

    >>> is_finite(torch.ones(3)), is_finite(torch.tensor([1, float("inf"), -float("inf")]))
    (True, False)
    """
    tensor = tensor.detach()
    # a sum with such a number is not finite, and summing is the faster; a sum may overflow
    if tensor.dtype in (torch.float32, torch.float64) and bool(torch.isfinite(tensor.sum())):
        return True
    return bool(torch.isfinite(tensor).all())


def _refuse_nonfinite(name: str, tensor: Tensor, source: str) -> None:
    if not tensor.is_floating_point() or is_finite(tensor):
        return
    first = int(torch.isfinite(tensor).reshape(-1).logical_not().nonzero()[0])
    place = torch.unravel_index(torch.tensor(first), tensor.shape) if tensor.dim() else ()
    index, value = tuple(int(i) for i in place), tensor.reshape(-1)[first].item()
    raise DataError(
        f"{source}: tensor {name[:80]!r} is {value} at index {index}, wanted finite numbers"
    )
