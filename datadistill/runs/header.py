"""The header of a safetensors file: its length and its JSON, read strictly.

Format: 8 bytes, the header's length (little-endian); the header, a JSON object of name -> {dtype,
shape, data_offsets}; the tensors' bytes, without gap or overlap, which safetensors itself compares
with the header.

Reference: the safetensors format, https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

from typing import Any, BinaryIO

import torch

from ..errors import DataError
from .canonical import parse_json

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The dtypes that our files hold, and the format's names of them."""

LARGEST_HEADER = 10_000_000
"""Bytes. The format allows 100 MB, which as Python objects take gigabytes and a minute to check.
Ours have a few kB; a set whose order has 100,000 steps, or a language model of a large vocabulary,
some MB."""

OF_TORCH = (b"PK\x03\x04", b"\x80\x02\x8a\n")
"""The first bytes of a file of torch.save: of a zip archive, and of a pickle before torch 1.6. As
the length of a header they would be more than `LARGEST_HEADER`."""


def read_header(file: BinaryIO, size: int, source: str) -> dict[str, Any]:
    """The header's JSON object; DataError for none, for one that is no strict JSON, and for one
    that is longer than the file of `size` bytes or `LARGEST_HEADER`."""
    broken = f"{source} is not a complete safetensors file"
    if size < 8:
        raise DataError(f"{broken}: it has {size} bytes")
    start = file.read(8)
    if start.startswith(OF_TORCH):
        raise DataError(
            f"{source} is a file of torch.save, which does not say what its tensors are of; wanted "
            "a safetensors file that this program wrote"
        )
    length = int.from_bytes(start, "little")
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
    return header


def clause(error: ValueError) -> str:
    """The fault of a JSON text, to go after "is"."""
    text = str(error)
    return text if text.startswith("not ") else f"not acceptable ({text})"
