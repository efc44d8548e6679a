"""Parts of real data: normalized now, or when the test part is first asked for."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from datadistill.data.batches import Split
from datadistill.data.checks import check_part
from datadistill.data.images import to_channels, unit_range
from datadistill.data.normalization import Normalization
from datadistill.data.source import Pixels
from datadistill.torch_defaults import use_library_defaults


class HeldOut:
    """The test split, read once for all copies of a `RealData`."""

    def __init__(self, read: Callable[[], Split]) -> None:
        self._read: Callable[[], Split] | None = read
        self.split: Split | None = None

    def get(self) -> Split:
        if self.split is None:
            assert self._read is not None
            with use_library_defaults():
                self.split = self._read()
            self._read = None  # and with it the pixels that were not normalized
        return self.split


def normalize_part(normalization: Normalization, pixels: Tensor, targets: Tensor) -> Split:
    """A part of the data as a run sees it."""
    images = to_channels(unit_range(pixels), normalization.channels)
    return Split(normalization(images), targets.long())


def normalize_test_part(
    part: Callable[[Tensor, Tensor], Split],
    test: Pixels | Callable[[], Pixels],
    classes: tuple[str, ...],
) -> Split:
    """The test part, at the first use of `.test`."""
    pixels, targets = test if isinstance(test, tuple) else test()
    check_part(pixels, targets, classes, "the test part", every_class=False)
    return part(pixels, targets)
