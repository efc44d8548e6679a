"""The rows of a cached teacher by image and view, the marks that tell images apart, and the file of
both.

File: one safetensors file with, for each view V, `V.have` (N,) bool, `V.mark` (N,2) int64,
`V.members` (N,M,K) and `V.feature.NAME` (N,...); its header states what the rows were computed
from. Older files have marks (N,) of some pixels only: of the split's own images they are made
again, rows of augmented images are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from datadistill.errors import DataError
from datadistill.runs.artifact import Artifact, Content

__all__ = ["View", "marks", "read_rows", "write_rows"]


CACHE = Artifact("teacher outputs")


@dataclass(eq=False)
class View:
    """Rows of all images of a split: name -> (N,...), of which `have` (N,) bool are computed.
    `complete` is have.all(), known without asking the device at every step. `images` is the version
    of the split's images of which all rows were seen to be; None where they were not compared."""

    have: Tensor
    rows: dict[str, Tensor]
    complete: bool = False
    images: int | None = None

    def compare(self, images: Tensor) -> None:
        """Note whether all rows are those of the split's images as they are now."""
        if self.complete and torch.equal(marks(images), self.rows["mark"]):
            self.images = get_version(images)

    def is_of(self, batch: Tensor, images: Tensor, index: Tensor) -> bool:
        """Whether the batch is to the bit what the split has at these places and had when its rows
        were compared. False where that is not known: marks tell then."""
        if self.images is None or self.images != get_version(images):
            return False
        whole = _WHOLE[images.element_size()]
        return batch.dtype == images.dtype and torch.equal(
            batch.detach().view(whole), images.index_select(0, index).view(whole)
        )


_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Types whose equality is that of bits, by bytes."""


def get_version(images: Tensor) -> int | None:
    """A number that torch changes with every change of the tensor in place; None where it keeps
    none."""
    return None if images.is_inference() else images._version


def marks(images: Shaped[Tensor, "b c h w"]) -> Int[Tensor, "b 2"]:
    """Half of the SHA-256 of each image: of its shape, its type and all its bytes."""
    start = hashlib.sha256(f"{images.dtype} {tuple(images.shape[1:])}".encode())
    found = []
    for row in images.detach().cpu().contiguous().flatten(1).view(torch.uint8).numpy():
        own = start.copy()
        own.update(row)
        found.append(own.digest()[:16])
    return (
        torch.frombuffer(bytearray(b"".join(found)), dtype=torch.int64)
        .view(-1, 2)
        .to(images.device)
    )


def write_rows(path: Path, views: Mapping[int, View], meta: Mapping[str, Any]) -> None:
    """Write the rows by view, and what they were computed from, atomically."""
    tensors = {}
    for view, table in views.items():
        tensors[f"{view}.have"] = table.have
        tensors |= {f"{view}.{name}": rows for name, rows in table.rows.items()}
    CACHE.save(Content(tensors, meta), path)


def read_rows(
    path: Path, meta: Mapping[str, Any], like: Mapping[str, Tensor], images: Tensor
) -> dict[int, View]:
    """The rows of a file, by view; DataError for a file that is stale, damaged, or something else.

    Args:
        meta: what the rows must have been computed from.
        like: name -> (1,...), what a row looks like.
        images: of the split, on the device where the rows go.
    """
    tensors, found = CACHE.load(path, Content)
    names = [k for k in {**meta, **found} if found.get(k) != meta.get(k)]
    if names:
        parts = [f"{k} was {str(found.get(k))[:24]} and is {str(meta.get(k))[:24]}" for k in names]
        raise DataError(
            f"{path} is stale: {'; '.join(parts)}; delete it to compute the teacher's outputs "
            "again, or give another path"
        )
    return _views(
        _mark_whole(tensors, images, bool(meta["augment"])), path, like, len(images), images.device
    )


def _mark_whole(tensors: dict[str, Tensor], images: Tensor, augmented: bool) -> dict[str, Tensor]:
    """The tensors, those of older files with marks of whole images; see the module."""
    for name, old in list(tensors.items()):
        view, _, what = name.partition(".")
        if what != "mark" or old.shape != images.shape[:1] or old.dtype != images.dtype:
            continue
        if augmented:
            tensors = {k: t for k, t in tensors.items() if k.partition(".")[0] != view}
        else:
            tensors[name] = marks(images)
    return tensors


def _views(
    tensors: Mapping[str, Tensor],
    path: Path,
    like: Mapping[str, Tensor],
    n: int,
    device: torch.device,
) -> dict[int, View]:
    names = {name.partition(".")[0] for name in tensors}
    row: dict[str, Any] = {name: (x.dtype, x.shape[1:]) for name, x in like.items()}
    row["have"] = (torch.bool, torch.Size())
    wanted = {
        f"{v}.{name}": (dtype, (n, *shape)) for v in names for name, (dtype, shape) in row.items()
    }
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
