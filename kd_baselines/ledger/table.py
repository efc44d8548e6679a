"""The results of a ledger, row by row, and its table.

Notation: S the seconds that the sender spends once, F those of a student that learns from all real
data (row `full`), P those of a student that learns from the payload; n students.

    each on all real data   n F
    with the payload        S + n P
    break-even              n = ceil(S / (F - P)), at least 1; never where P >= F
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from datadistill.errors import UsageError
from datadistill.stats import Interval, mean_interval, paired_difference
from datadistill.studies.table import Score, Table

__all__ = ["ABOUT", "BASE", "FORMULA", "FULL", "NEVER", "Entry", "Ledger", "break_even"]

BASE, FULL = "real-hard", "full"
"""The row that others are compared with, and the row of all real data."""

NETS = ("teacher", "student", "born-again")
"""The rows that send a net; the others, but for `FULL`, send images."""

NEVER = math.inf
"""Break-even of a payload on which a student trains no faster than on all real data."""

ABOUT = {
    "real-hard": "real images of each class, drawn by the seed, hard labels",
    "real-soft": "the same images, the teacher's probabilities",
    "distilled": "a distilled set, its labels as learned, trained as the real images are",
    "distilled-own": "the same set, trained as it was learned: its own steps and step sizes",
    "distilled-soft": "the set's images, the teacher's probabilities",
    "teacher": "the teacher's weights",
    "student": "the weights of a student that learned from the teacher on all real data",
    "born-again": "the weights of a Born-Again student of the teacher",
    FULL: "all real images, on which the receiver trains",
}
"""The rows in their order, and what is sent."""

FORMULA = (
    "Break-even: the number n of students from which sending this takes no more time than training "
    "each on all real data, n = ceil(S / (F - P)), at least 1; S the sender's seconds, F a "
    "student's on all real data, P a student's on what was sent; \"never\" where P is not below F."
)
FIELDS = (
    "ledger",
    "row",
    "storage",
    "bytes",
    "parts",
    "file_bytes",
    "seeds",
    "mean",
    "deviation",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
    "beats",
    "seconds",
    "steps",
    "sender_seconds",
    "break_even",
    "values",
)


def break_even(sender: float | None, full: float | None, own: float) -> float | None:
    """The number of students from which a payload saves time: whole, `NEVER`, or None where S or F
    is not known; see the module.

    >>> break_even(100.0, 12.0, 2.0), break_even(101.0, 12.0, 2.0), break_even(0.0, 12.0, 2.0)
    (10, 11, 1)
    >>> break_even(100.0, 2.0, 2.0), break_even(None, 12.0, 2.0)
    (inf, None)
    """
    if full is None:
        return None
    if own >= full:
        return NEVER
    # a relative 1e-9 less: a whole quotient that was rounded up stays that number
    return None if sender is None else max(1, math.ceil(sender / (full - own) * (1 - 1e-9)))


@dataclass(frozen=True)
class Entry:
    """One row with one storage.

    Args:
        row: a key of `ABOUT`.
        storage: of images or weights: "uint8", "float32", "float16", "int8".
        parts: part -> bytes; their sum is what is sent.
        file_bytes: of the file with its header; None where none is written.
        values: seed -> accuracy on the test images, in percent.
        seconds: of the receiver's training, mean over the seeds; 0 for weights.
        sender_seconds: spent once by the sender, mean over the seeds; None where not known.
    """

    row: str
    storage: str
    parts: Mapping[str, int]
    file_bytes: int | None
    values: Mapping[int, float]
    seconds: float
    steps: int
    sender_seconds: float | None

    @property
    def bytes(self) -> int:
        """Bytes that are sent."""
        return sum(self.parts.values())

    @cached_property
    def accuracy(self) -> Interval:
        """Mean and 95% interval over the seeds."""
        return mean_interval(list(self.values.values()))

    @property
    def name(self) -> str:
        """Row and storage."""
        return f"{self.row} {self.storage}"

    def subtract(self, other: Entry) -> Interval | None:
        """The paired difference over the seeds that both have; None where there is none."""
        seeds = [seed for seed in self.values if seed in other.values]
        if not seeds:
            return None
        return paired_difference([self.values[s] for s in seeds], [other.values[s] for s in seeds])


@dataclass(frozen=True)
class Ledger:
    """The result of `make_ledger`.

    Args:
        name: of the ledger.
        seeds: asked for.
        entries: in the order of `ABOUT`, each with the seeds that it has.
        shape: (C,H,W) of an image.
        classes: how many.
        per_class: images of each class, in the rows with real images.
        distilled_per_class: in the rows with a distilled set; None where there is none.
        notes: remarks on the page.
        machines: a line for each environment that numbers came from.
        files: ledger.md, ledger.csv, ledger.png.
    """

    name: str
    seeds: tuple[int, ...]
    entries: tuple[Entry, ...]
    shape: tuple[int, int, int]
    classes: int
    per_class: int
    distilled_per_class: float | None = None
    notes: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    files: tuple[Path, ...] = field(default=())

    def entry(self, row: str, storage: str | None = None) -> Entry:
        """The row with a storage, or its first; UsageError where the table has none."""
        for entry in self.entries:
            if entry.row == row and storage in (None, entry.storage):
                return entry
        names = ", ".join(entry.name for entry in self.entries)
        raise UsageError(
            f"the ledger has no row {row!r}{f' as {storage}' if storage else ''}; it has {names}"
        )

    def base(self, entry: Entry) -> Entry | None:
        """The row of real images with hard labels that an entry is compared with: of the same
        storage, of float32 for storages that images do not have; None for that row itself and where
        it was not made."""
        rows = {one.storage: one for one in self.entries if one.row == BASE}
        return None if entry.row == BASE else rows.get(entry.storage, rows.get("float32"))

    def find_beaten(self, entry: Entry) -> list[Entry]:
        """Of images the nets, and of a net the images, that take more bytes and are less accurate:
        the 95% interval of the paired difference is above 0, so a row of one seed beats none."""
        if entry.row == FULL:
            return []
        others = [
            e for e in self.entries if e.row != FULL and (e.row in NETS) != (entry.row in NETS)
        ]
        return [e for e in others if entry.bytes < e.bytes and _is_better(entry.subtract(e))]

    def break_even(self, entry: Entry) -> float | None:
        """See `break_even`; None for the row of all real data."""
        full = next((one.seconds for one in self.entries if one.row == FULL), None)
        return None if entry.row == FULL else break_even(entry.sender_seconds, full, entry.seconds)

    def score(self, entry: Entry) -> Score:
        """The accuracy of an entry with its difference to `base`."""
        base = self.base(entry)
        return Score.of(
            list(entry.values.values()), difference=None if base is None else entry.subtract(base)
        )

    def table(self) -> Table:
        """One record for each entry: what ledger.csv holds and --json prints."""
        rows = []
        for entry in self.entries:
            even = self.break_even(entry)
            labels = {
                "ledger": self.name,
                "row": entry.row,
                "storage": entry.storage,
                "bytes": entry.bytes,
                "parts": dict(entry.parts),
                "file_bytes": entry.file_bytes,
                "seeds": list(entry.values),
                "beats": [other.name for other in self.find_beaten(entry)],
                "seconds": entry.seconds,
                "steps": entry.steps,
                "sender_seconds": entry.sender_seconds,
                "break_even": "never" if even == NEVER else even,
            }
            rows.append((labels, self.score(entry)))
        return Table(FIELDS, rows)

    def records(self) -> Iterator[dict[str, Any]]:
        """The records of `table`."""
        return self.table().records()


def _is_better(difference: Interval | None) -> bool:
    return difference is not None and difference.low is not None and difference.low > 0
