"""Real data as a run sees it: three splits in memory, normalized, and what is known about them.

The training part of a data set is cut, stratified, into `train` and `validation`; model selection uses the
latter. The test part is read when `.test` is first asked for, and `test_was_read` says whether that has
happened: a run is meant to ask once, at its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from datadistill.data.batches import Split
from datadistill.data.normalization import Normalization
from datadistill.data.parts import Parts
from datadistill.errors import UsageError, nearest
from datadistill.torch_defaults import library_defaults


class HeldOut:
    """The test split, read once for all copies of a `RealData`."""

    def __init__(self, read: Callable[[], Split]) -> None:
        self._read: Callable[[], Split] | None = read
        self.split: Split | None = None

    def get(self) -> Split:
        if self.split is None:
            assert self._read is not None
            with library_defaults():
                self.split = self._read()
            self._read = None  # and with it the pixels that were not normalized
        return self.split


@dataclass(frozen=True, eq=False, repr=False)
class RealData:
    """A data set ready for a run. Made by `load`, `load_folder`, `RealData.from_tensors` or `.from_dataset`.

    `.test` is read when it is first asked for. Copies made by `.to` share that reading and `test_was_read`.

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
    """Ids of the images of each part, where the test part was drawn from the same images as the others."""

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
        """Whether anyone has asked for `.test` yet."""
        return self._held_out.split is not None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C,H,W) of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """Where the images lie."""
        return self.train.images.device

    @property
    def fingerprint(self) -> str:
        """SHA-256, hex, over the training and validation images (normalized) and labels; no test image."""
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
            raise UsageError(f"unknown split {name!r}; {nearest(name, ('train', 'validation', 'test'))}")
        return getattr(self, name)

    def to(self, device: torch.device | str) -> RealData:
        """The same data on another device; the test split follows when it is read."""
        kept = {name: value for name, value in self._kept.items() if name == "fingerprint"}
        return replace(self, train=self.train.to(device), validation=self.validation.to(device), _kept=kept)

    @classmethod
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
        normalization: Normalization | None = None,
        device: torch.device | str = "cpu",
    ) -> RealData:
        """Your own images as tensors; arrays and lists do as well.

        Args:
            images: (N,C,H,W), uint8 0..255 or float 0..1, not normalized.
            labels: (N,) or (N,1) integers from 0, of any type, or (N,K) one-hot rows.
            test_images: (M,C,H,W), likewise; judged now, normalized at the first use of `.test`.
            test_labels: (M,), likewise.
            classes: names in label order, in any container, or a dict from name to label; "0", "1", ... where
                absent.
            test_classes: names in the order of `test_labels`, where that is another; they go by name.
            name: goes into run folders and files.
            validation: held out of the training images: an int is a number, a float a share; a tenth by
                default.
            seed: decides which.
            size, channels: what the images are brought to; as they are by default.
            normalization: an existing one instead of the mean and deviation measured here.
            device: where the result lies.

        Raises:
            UsageError: images that are no tensors or arrays.
            DataError: shapes, values, labels or names that do not fit, of the test images too.

        Example:
            >>> x, y = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8), torch.arange(40) % 4
            >>> RealData.from_tensors(x, y, test_images=x[:8], test_labels=y[:8]).classes
            ('0', '1', '2', '3')
        """
        from datadistill.data.custom import from_tensors

        return from_tensors(
            images, labels, test_images, test_labels, classes=classes, test_classes=test_classes, name=name,
            validation=validation, seed=seed, size=size, channels=channels, normalization=normalization,
            device=device,
        )  # fmt: skip

    @classmethod
    def from_dataset(cls, dataset: Any, test: Any = None, **options: Any) -> RealData:
        """Your own torch Dataset of (image, label); see `datadistill.data.custom.from_dataset`."""
        from datadistill.data.custom import from_dataset

        return from_dataset(dataset, test, **options)
