"""The header of a safetensors file, checked against the size of the file.

Format: 8 bytes, the header's length (little-endian); the header, a JSON object of name -> {dtype, shape,
data_offsets}; the tensors' bytes, without gap or overlap. Nothing is allocated for what a header claims
before it is known that the file holds as many bytes.

Reference: the safetensors format, https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import math
from typing import Any, BinaryIO, NamedTuple

import torch

from ..errors import DataError
from .canonical import parse_json

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}

LARGEST_HEADER = 10_000_000
"""Bytes. The format allows 100 MB, which as Python objects take gigabytes and a minute to check. Ours have a
few kB; a set whose order has 100,000 steps, or a language model of a large vocabulary, some MB."""


class Entry(NamedTuple):
    """Where one tensor lies: bytes [begin, end) after the header."""

    dtype: str
    shape: list[int]
    begin: int
    end: int


def read_header(file: BinaryIO, size: int, source: str) -> tuple[dict[str, Any], int]:
    """The header's JSON and the number of bytes after it. Format: u64 length, JSON, tensor bytes."""
    broken = f"{source} is not a complete safetensors file"
    if size < 8:
        raise DataError(f"{broken}: it has {size} bytes")
    length = int.from_bytes(file.read(8), "little")
    if length > size - 8:
        raise DataError(f"{broken}: its header claims {length} bytes, the file has {size}")
    if length > LARGEST_HEADER:
        raise DataError(
            f"{source}: its header has {length} bytes, more than the {LARGEST_HEADER} that are read"
        )
    try:
        header = parse_json(file.read(length))
    except ValueError as error:
        raise DataError(f"{broken}: its header is {clause(error)}") from None
    if not isinstance(header, dict):
        raise DataError(f"{broken}: its header is no JSON object")
    return header, size - 8 - length


def layout(header: dict[str, Any], body_size: int, source: str) -> dict[str, Entry]:
    """The tensors' places, which must fill the body exactly, without gap or overlap."""
    broken = f"{source} is not a complete safetensors file"
    entries = {}
    for name, value in header.items():
        entry = _entry(value)
        if entry is None:
            raise DataError(f"{broken}: its header describes tensor {name[:80]!r} as {repr(value)[:160]}")
        entries[name] = entry
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != end:
            raise DataError(f"{broken}: tensor {name[:80]!r} starts at byte {entry.begin}, wanted {end}")
        end = entry.end
    if end != body_size:
        raise DataError(f"{broken}: its tensors take {end} bytes, the file has {body_size} for them")
    return entries


def _entry(value: Any) -> Entry | None:
    """One tensor's description, or None if it makes no sense."""
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        return None
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        return None
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or any(type(n) is not int or n < 0 for n in numbers):
            return None
    # a zero among huge sizes: no bytes, but strides that overflow
    if len(offsets) != 2 or len(shape) > 64 or math.prod(max(n, 1) for n in shape) > 2**62:
        return None
    if offsets[1] - offsets[0] != math.prod(shape) * DTYPES[dtype].itemsize:
        return None
    return Entry(dtype, shape, *offsets)


def clause(error: ValueError) -> str:
    """What is wrong with a JSON text, to go after "is"."""
    text = str(error)
    return text if text.startswith("not ") else f"not acceptable ({text})"
