"""A teacher's outputs, computed once and looked up by image.

    without augmentation   one row an image of the split, computed in batches when first asked for
    with augmentation      one row an image and view (the epoch): the images of a step are a pure
                           function of (seed, number, epoch, step) in
                           `datadistill.training.fit_loop`, so a later training with the same key
                           and batch size sees the same images, and finds its rows

The nets' own logits are kept, so a row serves every temperature, and of a layer what the terms
read: the whole output, or a `features.Reading` of it, such as an attention map. With each row goes
the mark of the image it was computed from, a hash of all its bytes (`kd_baselines.cache_rows`). An
image without its row's mark is refused, so a row does not stand for an image that was changed,
augmented otherwise, or that lies elsewhere in the batch. A file states what it was computed from
and is refused where that differs. A teacher that answers otherwise for an image alone than for the
same image among others is refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from datadistill.data import Split
from datadistill.data.augmentation import check_augmentations
from datadistill.errors import DataError, NumericalError, UsageError
from datadistill.progress import iterate
from datadistill.runs.tensors import checksum
from kd_baselines.batch_dependence import refuse_batch_dependence, refuse_other_answer
from kd_baselines.cache_rows import View, marks, read_rows, write_rows
from kd_baselines.features import Layer, read
from kd_baselines.splits import as_split
from kd_baselines.teachers import Teacher, TeacherOutputs

__all__ = ["CachedTeacher"]


class CachedTeacher:
    """A `Teacher` whose outputs are kept, and looked up by `index` and `view`.

    Args:
        teacher: in the mode "eval", where the answer for an image does not depend on its batch.
        split: the real images that the student is trained on, on the teacher's device.
        layers: names of the layers whose outputs are kept beside the logits, or readings of them
            (`kd_baselines.features.Reading`), such as an objective's `needs.teacher_features`; of
            one net only.
        path: file to read where it exists, and to write; None keeps the rows in memory alone.
        augment: the augmentations of the student's batches; see `data.augment`.
        seed: of the student's training; with augmentation only.
        number: the net's number in the student's training; with augmentation only.
        batch: images in one forward of the teacher.

    Raises:
        UsageError: a teacher whose answer depends on the batch, an unknown layer or augmentation,
            layers of an ensemble.
        DataError: an empty split, or a file that is stale, damaged, or something else.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
        >>> split = Split(torch.rand(10, 1, 2, 2), torch.arange(10) % 3)
        >>> teacher, index = Teacher(net), torch.tensor([7, 2])
        >>> cached = CachedTeacher(teacher, split)
        >>> out = cached.outputs(split.images[index], index=index)
        >>> torch.allclose(out.logits, teacher(split.images[index]))
        True
    """

    def __init__(
        self,
        teacher: Teacher,
        split: Split,
        *,
        layers: Collection[Layer] = (),
        path: str | os.PathLike[str] | None = None,
        augment: Sequence[str] = (),
        seed: int = 0,
        number: int = 0,
        batch: int = 500,
    ) -> None:
        refuse_batch_dependence(teacher)
        check_augmentations(augment)
        if batch < 1:
            raise UsageError(f"batch is {batch}, but it must be at least 1")
        split = as_split(split, "split")
        if not len(split):
            raise DataError(
                "there is no image to ask the teacher about; pass a split that is not empty"
            )
        self.teacher, self.split, self.batch = teacher, split, batch
        self.layers, self.augment = tuple(dict.fromkeys(layers)), tuple(augment)
        self.path = None if path is None else Path(path)
        self.seed, self.number = int(seed), int(number)
        # refuses what does not fit, and says what rows look like
        self._like = self._compute(split.images[:1])
        self._views: dict[int, View] = {}
        self._saved = True  # nothing to write yet
        if self.path is not None and self.path.exists():
            self._views = read_rows(self.path, self._meta, self._like, split.images)
            if not self.augment:
                self._table(None).compare(split.images)
        self._refuse_mixing()

    @cached_property
    def _meta(self) -> dict[str, Any]:
        """What the rows of a file were computed from."""
        return {
            "teacher": self.teacher.hash,
            "structure": hashlib.sha256(repr(self.teacher.nets).encode()).hexdigest(),
            "split": checksum({"images": self.split.images, "labels": self.split.labels}),
            "layers": [str(layer) for layer in self.layers],
            "augment": list(self.augment),
            # without augmentation one file serves every seed
            "seed": self.seed if self.augment else None,
            "number": self.number if self.augment else None,
        }

    @property
    def hash(self) -> str:
        """See `Teacher.hash`."""
        return self.teacher.hash

    def check(self) -> None:
        """See `Teacher.check`."""
        self.teacher.check()

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """The teacher's own answer for any images; see `Teacher.__call__`."""
        return self.teacher(images)

    def outputs(
        self,
        images: Float[Tensor, "b c h w"],
        layers: Collection[Layer] = (),
        *,
        logits: bool = True,
        input_gradients: bool = False,
        index: Int[Tensor, " b"] | None = None,
        view: int | None = None,
    ) -> TeacherOutputs:
        """The teacher's outputs for a batch of the split, looked up or computed. DataError for
        images other than those that the rows were computed from.

        Args:
            images: (B,C,H,W), the split's own, augmented where the cache was told so.
            layers: among those that the cache keeps, or readings of these.
            logits: whether they are wanted.
            input_gradients: refused where True.
            index: (B,) places in the split (`Batch.index` of `datadistill.training.fit_loop`).
            view: with augmentation, the epoch.
        """
        if input_gradients:
            raise UsageError(
                "gradients of the teacher to the images are wanted, which no cache can hold; use "
                "the teacher itself (cache=False)"
            )
        # where a whole output is kept, what is read of it is computed from its row
        names = dict.fromkeys(
            one if isinstance(one, str) or one in self.layers else one.layer for one in layers
        )
        if unknown := [name for name in names if name not in self.layers]:
            kept = ", ".join(map(str, self.layers)) or "none"
            raise UsageError(
                f"layers {', '.join(map(str, unknown))} are not in the teacher's cache (kept: "
                f"{kept}); make it with layers=..., or use the teacher itself"
            )
        index = self._index(images, index)
        table = self._table(view)
        if not table.complete:
            self._fill(table, images, index)
        self._refuse_other_images(table, images, index, view)
        members = table.rows["members"].index_select(0, index).transpose(0, 1) if logits else None
        rows = {name: table.rows[f"feature.{name}"].index_select(0, index) for name in names}
        return TeacherOutputs(members, read(rows, layers), self.teacher.average)

    def complete(self) -> None:
        """Compute the rows of the whole split now, where images are not augmented; else each step
        asks."""
        if not self.augment and not (table := self._table(None)).complete:
            self._fill(table, self.split.images[:0], torch.empty(0, dtype=torch.int64))

    def save(self) -> None:
        """Write the rows to `path`, atomically, where there is one and something new; without
        augmentation this happens by itself when they are computed."""
        if self.path is None or self._saved:
            return
        write_rows(self.path, self._views, self._meta)
        self._saved = True

    def _index(self, images: Tensor, index: Tensor | None) -> Tensor:
        if index is None:
            raise UsageError(
                "the places of the images in the split are not given, by which a cached teacher "
                "looks up; pass index=batch.index, or use the teacher itself"
            )
        if index.dtype != torch.int64 or index.shape != images.shape[:1]:
            raise UsageError(
                f"index is {tuple(index.shape)} {index.dtype} for {len(images)} images, wanted "
                f"int64 ({len(images)},): places in the split"
            )
        n = len(self.split)
        low, high = (int(end) for end in index.aminmax()) if len(index) else (0, 0)
        if low < 0 or high >= n:
            raise UsageError(
                f"index reaches {low}..{high}, but the cached split has {n} images (0..{n - 1}); "
                "use the teacher itself for others"
            )
        return index.to(self.split.images.device)

    def _table(self, view: int | None) -> View:
        """The rows of a view, empty where it is new."""
        if not self.augment:
            view = 0
        elif view is None or view < 0:
            raise UsageError(
                f"view is {view}, but the images are augmented; pass their epoch, from 0"
            )
        if view not in self._views:
            n = len(self.split)
            rows = {name: like.new_zeros(n, *like.shape[1:]) for name, like in self._like.items()}
            self._views[view] = View(
                torch.zeros(n, dtype=torch.bool, device=self.split.images.device), rows
            )
        return self._views[view]

    def _fill(self, table: View, images: Tensor, index: Tensor) -> None:
        """Compute the rows that are missing: of the whole split, or of these augmented images."""
        if self.augment:
            new = ~table.have[index]
            images, index = images[new], index[new]
        else:
            images, index = (
                self.split.images,
                torch.arange(len(self.split), device=self.split.images.device),
            )
        batches = list(zip(images.split(self.batch), index.split(self.batch), strict=True))
        for some, places in iterate(batches, "keeping the teacher's outputs", len(batches)):
            if len(places):
                for name, rows in self._compute(some).items():
                    table.rows[name][places] = rows
                table.have[places] = True
                self._saved = False
        table.complete = bool(table.have.all())
        if not self.augment:
            table.compare(self.split.images)
            self.save()

    def _compute(self, images: Tensor) -> dict[str, Tensor]:
        out = self.teacher.outputs(images, self.layers)
        assert out.members is not None
        rows = {"members": out.members.transpose(0, 1), "mark": marks(images)}
        rows |= {f"feature.{name}": feature for name, feature in out.features.items()}
        for name, value in rows.items():
            if value.dim() == 0 or len(value) != len(images):
                raise UsageError(
                    f"{name} of the teacher is {tuple(value.shape)} for {len(images)} images, "
                    "which has no row an image to keep; tap another layer, or use "
                    "the teacher itself"
                )
            if not bool(torch.isfinite(value).all()):
                raise NumericalError(
                    f"the teacher's {name} is not finite; check the images, or train it again with "
                    "a smaller learning rate"
                )
        return rows

    def _refuse_mixing(self) -> None:
        """Compare images alone with the same images among others: of a file, or a few of the
        split."""
        places, alone = [0], [self._like]
        if 0 in self._views and not self.augment and bool(self._views[0].have[0]):
            among = {name: rows[:1] for name, rows in self._views[0].rows.items()}
        elif len(self.split) > 1:
            some = torch.linspace(0, len(self.split) - 1, min(8, len(self.split))).long()
            images = self.split.images[some.to(self.split.images.device)]
            places, alone = [0, -1], [self._like, self._compute(images[-1:])]
            among = self._compute(images)
        else:
            return
        for place, one in zip(places, alone, strict=True):
            for name in (name for name in one if name != "mark"):
                refuse_other_answer(name, one[name][0], among[name][place])

    def _refuse_other_images(
        self, table: View, images: Tensor, index: Tensor, view: int | None
    ) -> None:
        if images.shape[1:] != self.split.images.shape[1:]:
            raise DataError(
                f"images are {tuple(images.shape[1:])}, those of the cached split "
                f"{tuple(self.split.images.shape[1:])}; pass the split's own"
            )
        if not self.augment and table.is_of(images, self.split.images, index):
            return  # a tenth of the time of marks
        other = (marks(images) != table.rows["mark"].index_select(0, index)).any(1)
        if bool(other.any()):
            place = int(index[other][0])
            made = f"augment={self.augment}, seed={self.seed}, number={self.number}"
            raise DataError(
                f"{int(other.sum())} of {len(images)} images are not those that the teacher's "
                f"outputs were computed from (the first: place {place} of the split, view {view}); "
                f"the cache was made with {made}: make it anew with those of the training, and "
                "the same batch size" + ("" if self.path is None else f", or delete {self.path}")
            )
