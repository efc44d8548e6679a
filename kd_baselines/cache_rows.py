"""What a cached teacher keeps: rows by image and view, the marks that tell images apart, and the file of both.

File: one safetensors file with, for each view V, `V.have` (N,) bool, `V.mark` (N,), `V.members` (N,M,K) and
`V.feature.NAME` (N,...); its header states what the rows were computed from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from datadistill.errors import DataError
from datadistill.runs.atomic import write_bytes
from datadistill.runs.tensors import pack, unpack
from datadistill.streams import generator

__all__ = ["Marks", "View", "read", "write"]

SCHEMA = 1
KIND = "teacher outputs"
_PIXELS = 128  # of an image at most; enough to tell images apart, few enough to cost nothing
_ALIKE = 1e-4  # of a pixel, as marks are; rounding moves them by about 1e-7 of the largest


@dataclass(eq=False)
class View:
    """Rows of all images of a split, of which `have` are computed.

    Args:
        have: (N,) bool.
        rows: name -> (N,...).
        complete: have.all(), without asking the device at every step.
    """

    have: Tensor
    rows: dict[str, Tensor]
    complete: bool = False


class Marks:
    """A number by which an image is known again: a random projection of up to 128 of its pixels.

    Args:
        images: (N,C,H,W), all that are to be told apart; they give the type, the device and the scale.

    Example:
        >>> images = torch.arange(8.0).view(2, 1, 2, 2)
        >>> marks = Marks(images)
        >>> kept = marks.of(images)
        >>> marks.different(images, kept), marks.different(images.flip(0), kept)
        (None, tensor([True, True]))
    """

    def __init__(self, images: Float[Tensor, "n c h w"]) -> None:
        pixels = images[0].numel()
        self._stride = -(-pixels // _PIXELS)
        seen = -(-pixels // self._stride)
        ray = torch.randn(seen, generator=generator(0, "teacher_cache_mark"), dtype=torch.float64)
        self._ray = (ray / math.sqrt(seen)).to(images)  # the images' dtype and device
        self._alike = _ALIKE * (1 + float(images.abs().max()))

    def of(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The mark of each image."""
        # no matrix product, whose precision on some devices is a setting
        return (images.detach().flatten(1)[:, :: self._stride] * self._ray).sum(1)

    def different(
        self, images: Float[Tensor, "b c h w"], kept: Float[Tensor, " b"]
    ) -> Bool[Tensor, " b"] | None:
        """Which images have another mark than the one kept for them; None where none has."""
        away = (self.of(images) - kept).abs()
        if not len(away) or float(away.max()) <= self._alike:
            return None
        return ~(away <= self._alike)


def write(path: Path, views: Mapping[int, View], meta: Mapping[str, Any]) -> None:
    """Write the rows, atomically.

    Args:
        path: the file.
        views: by number.
        meta: what the rows were computed from.

    Raises:
        UsageError, ResourceError: it could not be written.
    """
    tensors = {}
    for view, table in views.items():
        tensors[f"{view}.have"] = table.have
        tensors |= {f"{view}.{name}": rows for name, rows in table.rows.items()}
    write_bytes(path, pack(tensors, {"schema": SCHEMA, "kind": KIND, **meta}))


def read(
    path: Path, meta: Mapping[str, Any], like: Mapping[str, Tensor], n: int, device: torch.device
) -> dict[int, View]:
    """The rows of a file, by view.

    Args:
        path: the file.
        meta: what the rows must have been computed from.
        like: name -> (1,...), what a row looks like.
        n: images of the split.
        device: where the rows go.

    Raises:
        DataError: a file that is stale, damaged, or something else.
    """
    tensors, found = unpack(path, schema=SCHEMA)
    if found.get("kind") != KIND:
        what = str(found.get("kind") or found.get("what") or "something else")[:40]
        raise DataError(f"{path} holds a {what}, wanted outputs of a teacher; give another path")
    found = {k: v for k, v in found.items() if k not in ("schema", "kind", "checksum")}
    names = [k for k in {**meta, **found} if found.get(k) != meta.get(k)]
    if names:
        parts = [f"{k} was {str(found.get(k))[:24]} and is {str(meta.get(k))[:24]}" for k in names]
        raise DataError(
            f"{path} is stale: {'; '.join(parts)}; delete it to compute the teacher's outputs again, or "
            "give another path"
        )
    return _views(tensors, path, like, n, device)


def _views(
    tensors: Mapping[str, Tensor], path: Path, like: Mapping[str, Tensor], n: int, device: torch.device
) -> dict[int, View]:
    names = {name.partition(".")[0] for name in tensors}
    row: dict[str, Any] = {name: (x.dtype, x.shape[1:]) for name, x in like.items()}
    row["have"] = (torch.bool, torch.Size())
    wanted = {f"{v}.{name}": (dtype, (n, *shape)) for v in names for name, (dtype, shape) in row.items()}
    if {k: (x.dtype, tuple(x.shape)) for k, x in tensors.items()} != wanted or not all(
        v.isascii() and v.isdigit() for v in names
    ):
        raise DataError(f"{path}: its tensors are not rows of this split and teacher; delete it")
    views = {}
    for v in names:
        rows = {name: tensors[f"{v}.{name}"].to(device) for name in like}
        have = tensors[f"{v}.have"].to(device)
        views[int(v)] = View(have, rows, bool(have.all()))
    return views
