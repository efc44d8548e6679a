"""Real data as a run sees it: three splits in memory, normalized, and what is known about them.

The training part of a data set is cut, stratified, into `train` and `validation`; model selection
uses the latter. The test part is read when `.test` is first asked for, and `test_was_read` says
whether that has happened: a run is meant to ask once, at its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from datadistill.data.assemble import prepare
from datadistill.data.batches import Split
from datadistill.data.checks import resolve_device
from datadistill.data.custom import read_dataset, read_tensors, refuse_no_test
from datadistill.data.held_out import HeldOut
from datadistill.data.normalization import Normalization
from datadistill.data.normalization_names import Chosen, read_choice
from datadistill.data.parts import Parts
from datadistill.data.source import Pixels
from datadistill.errors import UsageError, suggest
from datadistill.torch_defaults import use_library_defaults


@dataclass(frozen=True, eq=False, repr=False)
class RealData:
    """A data set ready for a run. Made by `load`, `load_folder`, `RealData.from_tensors` or
    `.from_dataset`.

    All parts went through `normalization`, whose statistics, and the matrix of a ZCA whitening, are
    those of the whole training part or were given. `.test` is read when it is first asked for.
    Copies made by `.to` share that reading and `test_was_read`.

    Example:
        >>> from datadistill.data import load
        >>> data = load("mnist5k")
        >>> len(data.train), len(data.validation), data.shape, data.test_was_read
        (3600, 400, (1, 28, 28), False)
    """

    name: str
    train: Split
    validation: Split
    classes: tuple[str, ...]
    normalization: Normalization
    description: str
    _held_out: HeldOut = field(repr=False)
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)
    parts: Parts | None = field(default=None, repr=False)
    """Ids of the images of each part, where the test part was drawn from the same images as the
    others."""

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape))
        counts = f"{len(self.train)} + {len(self.validation)} images {size}"
        return f"RealData({self.name}: {counts}, {len(self.classes)} classes)"

    @property
    def test(self) -> Split:
        """The test split, on the device of the others. Reads it on the first use."""
        if "test" not in self._kept:
            self._kept["test"] = self._held_out.get().to(self.device)
        return self._kept["test"]

    @property
    def test_was_read(self) -> bool:
        """Whether `.test` was asked for."""
        return self._held_out.split is not None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C,H,W) of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    @property
    def device(self) -> torch.device:
        return self.train.images.device

    @property
    def fingerprint(self) -> str:
        """SHA-256, hex, over the training and validation images and labels; no test image. The
        images are as they are normalized, or where they are whitened as before, since another
        number of threads rounds whitened ones otherwise."""
        if "fingerprint" not in self._kept:
            digest = hashlib.sha256()
            for tensor in (
                self.train.images,
                self.train.labels,
                self.validation.images,
                self.validation.labels,
            ):
                digest.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().data)
            self._kept["fingerprint"] = digest.hexdigest()
        return self._kept["fingerprint"]

    def split(self, name: str) -> Split:
        """The split called "train", "validation" or "test" (which reads it)."""
        if name not in ("train", "validation", "test"):
            raise UsageError(
                f"unknown split {name!r}; {suggest(name, ('train', 'validation', 'test'))}"
            )
        return getattr(self, name)

    def to(self, device: torch.device | str) -> RealData:
        kept = {name: value for name, value in self._kept.items() if name == "fingerprint"}
        return replace(
            self, train=self.train.to(device), validation=self.validation.to(device), _kept=kept
        )

    @classmethod
    def assemble(
        cls,
        name: str,
        train: Pixels,
        test: Pixels | Callable[[], Pixels],
        *,
        classes: tuple[str, ...],
        description: str,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> RealData:
        """The one way by which every source becomes a `RealData`: `options` are those of
        `prepare`."""
        where = resolve_device(device)
        train_split, validation, normalization, held_out, parts, fingerprint = prepare(
            name, train, test, classes=classes, **options
        )
        data = cls(
            name,
            train_split,
            validation,
            tuple(classes),
            normalization,
            description,
            held_out,
            {} if fingerprint is None else {"fingerprint": fingerprint},
            parts,
        )
        return data if where.type == "cpu" else data.to(where)

    @classmethod
    @use_library_defaults()
    def from_tensors(
        cls,
        images: Any,
        labels: Any,
        *,
        test_images: Any,
        test_labels: Any,
        classes: Any = None,
        test_classes: Any = None,
        name: str = "custom",
        validation: int | float | None = None,
        seed: int = 0,
        size: int | None = None,
        channels: int | None = None,
        normalization: Chosen = None,
        device: torch.device | str = "cpu",
    ) -> RealData:
        """Your own images as tensors; arrays and lists do as well.

        Args:
            images: (N,C,H,W), uint8 0..255 or float 0..1, not normalized.
            labels: (N,) or (N,1) integers from 0, of any type, or (N,K) one-hot rows.
            test_images: (M,C,H,W), likewise; judged now, normalized at the first use of `.test`.
            test_labels: (M,), likewise.
            classes: names in label order, in any container, or a dict from name to label; "0", "1",
                ... where absent.
            test_classes: names in the order of `test_labels`, where that is another; they go by
                name.
            name: goes into run folders and files.
            validation: held out of the training images: an int is a number, a float a share; a
                tenth by default.
            seed: decides which.
            size, channels: what the images are brought to; as they are by default.
            normalization: instead of the mean and deviation measured here: an existing one, or one
                that `load` knows by name, such as "zca".
            device: where the result lies.

        Raises:
            UsageError: images that are no tensors or arrays.
            DataError: shapes, values, labels or names that do not fit, of the test images too.

        Example:
            >>> x, y = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8), torch.arange(40) % 4
            >>> RealData.from_tensors(x, y, test_images=x[:8], test_labels=y[:8]).classes
            ('0', '1', '2', '3')
        """
        chosen = read_choice(normalization)
        train, test, names = read_tensors(
            images,
            labels,
            test_images,
            test_labels,
            classes=classes,
            test_classes=test_classes,
            size=size,
            channels=channels,
            normalization=chosen if isinstance(chosen, Normalization) else None,
        )
        return cls.assemble(
            name,
            train,
            test,
            classes=names,
            description=_own_images(name, train, len(test[1])),
            validation=0.1 if validation is None else validation,
            seed=seed,
            size=size,
            channels=channels,
            normalization=chosen,
            device=device,
        )

    @classmethod
    @use_library_defaults()
    def from_dataset(
        cls,
        dataset: Any,
        test: Any = None,
        *,
        holdout: int | float = 0.2,
        classes: Any = None,
        name: str = "custom",
        validation: int | float | None = None,
        seed: int = 0,
        size: int | None = None,
        channels: int | None = None,
        normalization: Chosen = None,
        device: torch.device | str = "cpu",
    ) -> RealData:
        """Your own torch Dataset of (image, label) pairs, read into memory once.

        Random transforms in the data set are drawn once, from `seed`: hand over one without, and
        use `datadistill.data.augment` on batches instead. torchvision's ImageFolder makes 8-bit RGB
        of every file and passes over orientation tags, before anything here sees the image;
        `load_folder` does neither.

        Args:
            dataset: map-style (`len` and indexing), or a DataLoader of one; images are Pillow
                images, or tensors or arrays (C,H,W) in uint8 or float 0..1 that are not normalized;
                labels integers from 0.
            test: another such data set, read now, too, and normalized when `.test` is first asked
                for. Where both have class names, its labels go by name. None holds a part of
                `dataset` out.
            holdout: that part, stratified: an int is a number, a float a share.
            classes: names in label order (see `RealData.from_tensors`); by default those that the
                data set, or the one behind a Subset, ConcatDataset or DataLoader, has as `classes`
                or `class_to_idx`, else "0", "1", ...
            name, validation, seed, size, channels, normalization, device: as in
                `RealData.from_tensors`. Images of several sizes need `size`; Pillow images become
                grey (1) or RGB (3), as the first one is, unless `channels` says.

        Raises:
            UsageError: not a map-style data set, or a DataLoader that changes what it loads.
            DataError: items that do not fit; a test image of a class that the training set does not
                have.

        Example:
            >>> from torch.utils.data import TensorDataset
            >>> pairs = TensorDataset(torch.rand(40, 1, 8, 8), torch.arange(40) % 2)
            >>> data = RealData.from_dataset(pairs)
            >>> len(data.train), len(data.validation), len(data.test)
            (29, 3, 8)
        """
        chosen = read_choice(normalization)
        own = read_dataset(
            dataset,
            test,
            holdout=holdout,
            classes=classes,
            seed=seed,
            size=size,
            channels=channels,
            normalization=chosen if isinstance(chosen, Normalization) else None,
        )
        return cls.assemble(
            name,
            own.train,
            own.test if len(own.test[1]) else refuse_no_test,
            classes=own.classes,
            description=_own_images(name, own.train, len(own.test[1])),
            validation=0.1 if validation is None else validation,
            seed=seed,
            size=own.size,
            channels=own.channels,
            normalization=chosen,
            ids=own.ids,
            device=device,
        )


def _own_images(name: str, train: Pixels, held_out: int) -> str:
    return f"{name}: {len(train[1]):,} images of your own to learn from, {held_out:,} held out"
