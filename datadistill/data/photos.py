"""Data sets of photos: files of different sizes, read as squares of one size.

Each image is read, resized until its short side is `size` and cropped at its centre (the rules are
those of `datadistill.data.images`), then kept as uint8: 600 images of 112 px take 23 MB. Nothing is
written to disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from datadistill.data.image_files import read_file
from datadistill.data.images import to_size
from datadistill.data.source import Pixels
from datadistill.errors import DataError

SIZE = 224
"""Side in pixels where none is asked for: what nets for ImageNet are trained on."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet, which pretrained nets expect, whatever the photos."""

Listing = list[tuple[Path, int]]
"""The file and the label of every image."""


@dataclass(frozen=True)
class Photos:
    """A `Reader` of a split of photos, at a size: `listing` lists a split, "train" or "test",
    without reading an image."""

    title: str
    listing: Callable[[str], Listing]
    size: int = SIZE

    def at(self, size: int | None) -> Photos:
        """The same photos at another size; None leaves it."""
        return self if size is None else replace(self, size=size)

    def __call__(self, split: str) -> Pixels:
        """Images (N, 3, size, size), uint8, and labels (N,) int64."""
        entries = self.listing(split)
        images = torch.stack([self._read(path) for path, _ in entries])
        return images, torch.tensor([label for _, label in entries])

    def _read(self, path: Path) -> UInt8[Tensor, "3 size size"]:
        try:
            pixels = read_file(path, 3)
        except DataError as error:
            found = str(error).split(";")[0]
            raise DataError(
                f"{self.title} is damaged: {found}; replace the file from the archive"
            ) from error
        return to_size(pixels, self.size).mul(255).round().clamp(0, 255).to(torch.uint8)


def locate(
    name: str,
    title: str,
    roots: list[Path],
    folder: str,
    needed: tuple[str, ...],
    count: Callable[[Path], tuple[int, int]],
    sets: Mapping[str, tuple[int, int]],
) -> Path | None:
    """The first root's `folder` that holds the set, told from its subsets by the number of images,
    or None. DataError where the only folders there are incomplete, or hold another set.

    Args:
        name, title: of the source that is asked for.
        needed: what must be in the folder.
        count: images in the training and the test part of a folder.
        sets: every source that lies in a folder of this name, with its two sizes.
    """
    problem = None
    for root in roots:
        place = root / folder
        if not place.exists():
            continue
        missing = [part for part in needed if not (place / part).exists()]
        if missing:
            problem = problem or (
                f"{title} under {root} is incomplete: {folder} is there, {', '.join(missing)} in "
                "it is not; unpack the archive again, or take the part away"
            )
            continue
        found = count(place)
        if found == sets[name]:
            return place
        other = next((known for known, sizes in sets.items() if sizes == found), None)
        advice = f"that is {other}: ask for {other}" if other else "unpack the archive again"
        problem = problem or (
            f"{place} has {found[0]:,} images to learn from and {found[1]:,} held out, but {name} "
            f"has {sets[name][0]:,} and {sets[name][1]:,}; {advice}, or pass the root that holds "
            f"{name} (--data-root)"
        )
    if problem:
        raise DataError(problem)
    return None


def lines(path: Path) -> list[str]:
    """The lines of a small text file, without the empty ones."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); unpack the archive again") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
