"""A reference to the real data of a set, by which they can be found again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from datadistill.data.parts import Parts
from datadistill.runs.content import (
    Check,
    check_fields,
    check_number,
    check_text,
    check_truth,
    check_whole,
    optional,
    parse_with,
)


@dataclass(frozen=True)
class DataReference:
    """The real data of a set: their name, and which of their images were held out.

    Size and channels are those of the set's normalization.

    Args:
        dataset: a name that `datadistill.data.load` takes, or that of a folder or of data that were
            handed over; None where unknown.
        seed, validation: as `load` takes them.
        holdout, skip_bad: as `load_folder` takes them; holdout is None for data that are no folder.
        parts: ids of the images of each part, where the test part was drawn from the same images.
        fingerprint: of data that were handed over and cannot be found by a name or by their parts.

    Example:
        >>> DataReference.from_description(DataReference("mnist", seed=3).describe())
        DataReference(dataset='mnist', seed=3, validation=None, holdout=None, skip_bad=False,
        parts=None, fingerprint=None)
    """

    dataset: str | None = None
    seed: int = 0
    validation: int | float | None = None
    holdout: int | float | None = None
    skip_bad: bool = False
    parts: Parts | None = None
    fingerprint: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether they are a folder of images, whatever its name."""
        return self.holdout is not None

    def describe(self) -> dict[str, Any]:
        return {**vars(self), "parts": None if self.parts is None else self.parts.as_dict()}

    @classmethod
    def from_description(cls, description: Any) -> DataReference:
        """The reference that `describe` described."""
        return cls(**check_fields("data", description, _DESCRIBED))


_share = partial(check_number, least=0)
_DESCRIBED: dict[str, Check] = {
    "dataset": optional(check_text),
    "seed": check_whole,
    "validation": optional(_share),
    "holdout": optional(_share),
    "skip_bad": check_truth,
    "parts": optional(parse_with(Parts.from_dict)),
    "fingerprint": optional(check_text),
}
