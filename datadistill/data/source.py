"""A named data set: its facts, and a function that finds it and reads a split of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

Pixels = tuple[Tensor, Tensor]
"""Images (N,C,H,W), uint8 0..255 or float 0..1, and labels (N,) int64."""

Reader = Callable[[str], Pixels]
"""Reads the split "train" or "test"."""


@dataclass(frozen=True)
class Source:
    """One named data set.

    Args:
        name: as typed by users.
        title: as the literature writes it.
        classes: names in label order.
        shape: (C,H,W) as stored.
        sizes: images in the training and the test part.
        about: the rest of a sentence that begins with the name: what is in it, and what it is not.
        validation: how much of the training part is held out for model selection, unless the user
            says: an int is a number of images, a float a share.
        statistics: published mean and standard deviation of each channel; None: measured on the
            training part.
        find: `find(roots, download)` looks for the files, raises where they are missing or damaged,
            and returns the reader of the splits. It reads no test images.
        subset_of: name of the data set that it is part of, where it is a subset made by hand.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    sizes: tuple[int, int]
    about: str
    validation: int | float
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None
    find: Callable[[list[Path], bool], Reader]
    subset_of: str | None = None
