"""Ids of the images that a set was learned from, validated on and tested on, by their content.

A part that is drawn by place in a list changes when the list does: one file more, and other images
are held out, most of which were learned from. A distilled set therefore carries an id of every
image of each part, in the part's order. By the ids the parts are found again in a folder whose
files were renamed, swapped or joined by others, and images that were learned from are known when
they turn up in somebody's test part.

An id is eight characters, the first 48 bits of SHA-256 over the class name and the content, in base
64.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datadistill.errors import DataError

LENGTH = 8
LARGEST = 500_000
"""Images beyond which no record is kept: it would take more of a file's header than readers
allow."""
NAMES = ("train", "validation", "test")
_IDS = re.compile(rf"(?:[A-Za-z0-9_-]{{{LENGTH}}})*")


def image_id(class_name: str, content: bytes) -> str:
    """The id of an image: of its class, and the SHA-256 of its file or pixels."""
    digest = hashlib.sha256(
        class_name.encode("utf-8", "surrogateescape") + b"\0" + content
    ).digest()
    return base64.urlsafe_b64encode(digest[: LENGTH * 6 // 8]).decode("ascii")


def pixel_ids(images: Tensor, labels: Tensor, classes: Sequence[str]) -> list[str]:
    """Ids of images (N,C,H,W) in 0..1 by their pixels, in steps of 1/65535, so that rounding in a
    resize is none."""
    codes = images.mul(65535).round().to(torch.int32)
    return [
        image_id(classes[int(label)], hashlib.sha256(image.contiguous().numpy().tobytes()).digest())
        for image, label in zip(codes, labels, strict=True)
    ]


@dataclass(frozen=True)
class Parts:
    """Ids of the images of each part, in its order."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Parts({len(self.train)} + {len(self.validation)} + {len(self.test)} images)"

    def as_dict(self) -> dict[str, str]:
        """One text for each part, for a file; `from_dict` reads it back."""
        return {name: "".join(getattr(self, name)) for name in NAMES}

    @classmethod
    def from_dict(cls, values: Any) -> Parts:
        """The inverse of `as_dict`; strict, as the values may come from anyone's file."""
        if isinstance(values, Parts):
            return values
        if not isinstance(values, Mapping) or set(values) != set(NAMES):
            raise DataError(
                "the record of the images' parts lacks train, validation or test; "
                "get the file again"
            )
        for name, text in values.items():
            if not isinstance(text, str) or not _IDS.fullmatch(text):
                raise DataError(
                    f"the record of the {name} images is no list of ids; get the file again"
                )
        return cls(
            **{
                n: tuple(t[i : i + LENGTH] for i in range(0, len(t), LENGTH))
                for n, t in values.items()
            }
        )

    def find(self, ids: Sequence[str], where: str) -> tuple[dict[str, list[int]], int]:
        """Places of the images of each part in `ids`, in the part's order, and the number of images
        in no part. DataError where images are missing from the folder `where`."""
        places: dict[str, list[int]] = defaultdict(list)
        for place, one in reversed(list(enumerate(ids))):
            places[one].append(place)
        found = {
            name: [places[one].pop() if places[one] else -1 for one in getattr(self, name)]
            for name in NAMES
        }
        missing = {name: part.count(-1) for name, part in found.items()}
        if total := sum(missing.values()):
            raise DataError(
                f"{total} of the {sum(map(len, found.values()))} images that the set was made with "
                f"are not in {where} as they were ({missing['train']} it was learned from, "
                f"{missing['validation']} for validation, {missing['test']} held out): edited, "
                "moved to another class or taken away since; restore them, or what is held out "
                "would not be what was held out then"
            )
        return found, sum(map(len, places.values()))

    def count_seen(self, others: Sequence[str], part: str) -> int:
        """The number of `others`, images of the part "test" or "validation", that these ones were
        learned from, though they were not in the part itself."""
        allowed = set(getattr(self, part))
        used = set(self.train) if part == "validation" else {*self.train, *self.validation}
        return sum(one in used and one not in allowed for one in others)
