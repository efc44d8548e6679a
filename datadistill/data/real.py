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
from jaxtyping import Float, Int
from torch import Tensor

from datadistill import streams
from datadistill.data.images import to_channels, to_size, unit_range
from datadistill.data.normalization import Normalization, measured
from datadistill.data.source import Pixels
from datadistill.data.splits import stratified
from datadistill.errors import DataError, UsageError, nearest


@dataclass(frozen=True, eq=False)
class Split:
    """Images and labels, each one tensor on one device.

    Args:
        images: (N,C,H,W) float32, normalized, contiguous.
        labels: (N,) int64.
    """

    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """A uniform random batch without repetition; everything, in order, where `size` is N or more.

        Its cost grows with the batch and not with N. With a generator on the CPU the same images come
        on every device.

        Args:
            generator: decides which; on any device.
            size: images, 1 or more.

        Returns:
            Images (size,C,H,W) and labels (size,).

        Raises:
            UsageError: a size below 1.
            DataError: the split is empty.
        """
        if size < 1:
            raise UsageError(f"the batch size is {size}; wanted 1 or more")
        if len(self) == 0:
            raise DataError("this split is empty, so no batch can be drawn from it; hold some images out (validation=...)")
        if size >= len(self):
            return self.images, self.labels
        indices = distinct(len(self), size, generator).to(self.labels.device)
        return self.images[indices], self.labels[indices]

    def of_class(self, k: int) -> Split:
        """The images of one class, as a split of their own (empty where there are none)."""
        mask = self.labels == k
        return Split(self.images[mask], self.labels[mask])

    def to(self, device: torch.device | str) -> Split:
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


class _HeldOut:
    """The test split, read once for all copies of a `RealData`."""

    def __init__(self, read: Callable[[], Split]) -> None:
        self._read = read
        self.split: Split | None = None

    def get(self) -> Split:
        if self.split is None:
            self.split = self._read()
        return self.split


@dataclass(frozen=True, eq=False)
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
    _held_out: _HeldOut = field(repr=False)
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

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
        """SHA-256, hex, over the training and validation images (normalized) and labels. Touches no test image."""
        if "fingerprint" not in self._kept:
            digest = hashlib.sha256()
            for tensor in (self.train.images, self.train.labels, self.validation.images, self.validation.labels):
                digest.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
                digest.update(memoryview(tensor.detach().cpu().contiguous().numpy()).cast("B") if tensor.numel() else b"")
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
        images: Tensor,
        labels: Tensor,
        *,
        test_images: Tensor,
        test_labels: Tensor,
        classes: tuple[str, ...] | list[str] | None = None,
        name: str = "custom",
        validation: int | float | None = None,
        seed: int = 0,
        size: int | None = None,
        channels: int | None = None,
        normalization: Normalization | None = None,
        device: torch.device | str = "cpu",
    ) -> RealData:
        """Your own images as tensors.

        Args:
            images: (N,C,H,W), uint8 0..255 or float 0..1, not normalized.
            labels: (N,) integers from 0.
            test_images: (M,C,H,W), likewise.
            test_labels: (M,).
            classes: names in label order; "0", "1", ... where absent.
            name: goes into run folders and files.
            validation: held out of the training images: an int is a number, a float a share; a tenth by default.
            seed: decides which.
            size, channels: what the images are brought to; as they are by default.
            normalization: an existing one instead of the mean and deviation measured here.
            device: where the result lies.

        Raises:
            DataError: shapes, values or labels that do not fit.

        Example:
            >>> x, y = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8), torch.arange(40) % 4
            >>> RealData.from_tensors(x, y, test_images=x[:8], test_labels=y[:8]).classes
            ('0', '1', '2', '3')
        """
        from datadistill.data.custom import from_tensors

        return from_tensors(
            images, labels, test_images, test_labels,
            classes=classes, name=name, validation=validation, seed=seed, size=size, channels=channels,
            normalization=normalization, device=device,
        )  # fmt: skip

    @classmethod
    def from_dataset(cls, dataset: Any, test: Any = None, **options: Any) -> RealData:
        """Your own torch Dataset of (image, label); see `datadistill.data.custom.from_dataset`."""
        from datadistill.data.custom import from_dataset

        return from_dataset(dataset, test, **options)


def assemble(
    name: str,
    train: Pixels,
    read_test: Callable[[], Pixels],
    *,
    classes: tuple[str, ...],
    description: str,
    validation: int | float,
    seed: int,
    size: int | None = None,
    channels: int | None = None,
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    normalization: Normalization | None = None,
    device: torch.device | str = "cpu",
) -> RealData:
    """Check, bring to one shape, split and normalize: the one way by which every source becomes a `RealData`.

    Args:
        train: images (N,C,H,W), uint8 or float 0..1, and labels of the training part.
        read_test: reads the test part; called at the first use of `.test`.
        statistics: published mean and deviation for the stored channels. Used where the channels stay or
            grey is repeated; after RGB to grey, or where None, both are measured on the whole training part
            (validation included, so that they do not depend on `seed`).
        normalization: overrides `statistics`, `size` and `channels`.
    """
    images, labels = train
    check(images, labels, classes, "the training part")
    native = images.shape[1]
    if normalization is not None:
        if size not in (None, normalization.size) or channels not in (None, normalization.channels):
            raise UsageError(
                f"size={size}, channels={channels} contradict the normalization, which is for size "
                f"{normalization.size} and {normalization.channels} channel(s); leave them out"
            )
        size, channels = normalization.size, normalization.channels
    channels = native if channels is None else channels
    if size is None and images.shape[2] == images.shape[3]:
        size = images.shape[2]
    if normalization is None and statistics is not None and native in (channels, 1):
        mean, std = (values * (channels // native) for values in statistics)
        normalization = Normalization(mean, std, size, channels)
    elif normalization is None:
        images = to_size(to_channels(unit_range(images), channels), size)
        normalization = measured(images, size)
    prepare = normalization

    def finish(pixels: Tensor, targets: Tensor) -> Split:
        return Split(prepare(to_channels(unit_range(pixels), prepare.channels)), targets.long())

    def finish_test() -> Split:
        pixels, targets = read_test()
        check(pixels, targets, classes, "the test part", every_class=False)
        return finish(pixels, targets)

    kept, held_out = stratified(labels, validation, streams.generator(seed, "validation"))
    data = RealData(
        name, finish(images[kept], labels[kept]), finish(images[held_out], labels[held_out]),
        tuple(classes), normalization, description, _HeldOut(finish_test),
    )  # fmt: skip
    return data if torch.device(device).type == "cpu" else data.to(device)


def check(images: Tensor, labels: Tensor, classes: tuple[str, ...], what: str, every_class: bool = True) -> None:
    """Refuse what would fail later, or worse, not fail: wrong shapes, labels out of range, classes without images."""
    if images.ndim != 4 or len(images) == 0:
        raise DataError(f"{what} has images of shape {tuple(images.shape)}; wanted (N, channels, height, width), N above 0")
    if labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool or len(labels) != len(images):
        raise DataError(
            f"{what} has labels of shape {tuple(labels.shape)}, {labels.dtype}, for {len(images):,} images; "
            f"wanted ({len(images)},) integers"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise DataError(
            f"{what} has labels from {low} to {high} but there are {len(classes)} classes; wanted 0..{len(classes) - 1}: "
            "renumber them, or name more classes"
        )
    if len(classes) < 2:
        raise DataError(f"{what} has one class only ({', '.join(classes)}); wanted two or more")
    counts = torch.bincount(labels.long(), minlength=len(classes)).tolist()
    empty = [f"{name} ({k})" for k, (name, count) in enumerate(zip(classes, counts, strict=True)) if count == 0]
    if every_class and empty:
        raise DataError(f"{what} has no image of class {', '.join(empty[:5])}; counts: {counts[:20]}: add some or drop the class")


def distinct(n: int, size: int, generator: torch.Generator) -> Int[Tensor, " size"]:
    """`size` distinct numbers below `n`, uniform, at a cost that grows with `size`.

    The first `size` different values of a uniform sequence are a sample without replacement. Beyond n/2 the
    sequence would grow long (n log n), so there the n - size numbers to leave out are drawn instead.

    Example:
        >>> len(distinct(60000, 256, torch.Generator().manual_seed(0)).unique())
        256
    """
    device = generator.device
    if size > n // 2:
        mask = torch.ones(n, dtype=torch.bool, device=device)
        if size < n:
            mask[distinct(n, n - size, generator)] = False
        return mask.nonzero().flatten()
    drawn = torch.randint(n, (size,), generator=generator, device=device)
    while True:
        values, inverse = torch.unique(drawn, return_inverse=True)
        if len(values) >= size:
            position = torch.arange(len(drawn), device=device)
            first = torch.full_like(values, len(drawn)).scatter_reduce(0, inverse, position, "amin")
            return drawn[first.sort().values[:size]]
        drawn = torch.cat([drawn, torch.randint(n, (size,), generator=generator, device=device)])
