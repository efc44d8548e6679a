"""Where sending the trained net is cheaper than sending images, and where it isn't: said from the numbers.

A row is called better or worse than another where the 95% interval of their paired difference leaves 0 out;
where it does not, or where one common seed gives no interval, the two are not told apart. One row beats
another where it has fewer bytes and is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from datadistill.stats import Interval
from kd_baselines.ledger.image_storage import IMAGE_STORAGE
from kd_baselines.ledger.table import FULL, Entry, Ledger
from kd_baselines.ledger.worth import images_a_class_worth

__all__ = ["sentences"]

WEIGHTS = {
    "student": "the distilled student's weights",
    "teacher": "the teacher's weights",
    "born-again": "the Born-Again student's weights",
}
"""Rows that send a net, the one to compare images with first."""

ONE_SEED = "These are differences of one seed, and nothing follows from them."


def sentences(found: Ledger) -> list[str]:
    """What the table says about bytes and accuracy, one sentence each."""
    nets = {row: [e for e in found.entries if e.row == row] for row in WEIGHTS}
    images = [e for e in found.entries if e.row not in (*WEIGHTS, FULL)]
    sent = [e for entries in nets.values() for e in entries]
    if not sent:
        return [
            "No net is in this table, so it does not say where sending one is cheaper; make the rows teacher, "
            "student or born-again."
        ]
    lines = [_note_worth(entry, found) for entry in sent]
    if not images:
        return [*lines, "No row sends images here, so nothing is said about their accuracy."]
    best = [max((e for e in images if e.storage == s), key=_mean) for s in _storages(images)]
    first = next(entries for entries in nets.values() if entries)
    lines += [_compare_with_net(entry, net, found) for net in first for entry in best]
    distilled = [e for e in images if e.row.startswith("distilled")]
    if distilled:
        lines.append(_note_beaten("distilled row", distilled, "net that is sent", sent))
        lines.append(_note_beaten("net that is sent", sent, "distilled row", distilled))
    else:
        lines.append("No distilled set is in this table.")
    single = [e for e in (*images, *sent) if len(e.values) == 1]
    if len(single) == len(images) + len(sent):
        return [*lines, ONE_SEED]
    return [*lines, *map(_note_one_seed, single)]


def _note_one_seed(entry: Entry) -> str:
    """A row that has one seed where others have several."""
    what = "one net" if entry.row in WEIGHTS else "of one seed"
    return f"{entry.name} is {what}: its differences have no interval, and it is not told apart from any row."


def _note_worth(entry: Entry, found: Ledger) -> str:
    """From how many images a class on a net takes no more bytes than their pixels."""
    counts, units = [], []
    for storage, dtype in IMAGE_STORAGE.items():
        worth = images_a_class_worth(entry.bytes, found.shape, storage, classes=found.classes)
        counts.append(max(1, worth))
        units.append(found.classes * math.prod(found.shape) * dtype.itemsize)
    return (
        f"As {entry.storage} {WEIGHTS[entry.row]} are {entry.bytes:,} bytes: no more than images alone from "
        f"{counts[0]} image{'' if counts[0] == 1 else 's'} a class on as uint8 ({units[0]:,} bytes for one of "
        f"each class) and from {counts[1]} on as float32 ({units[1]:,})."
    )


def _compare_with_net(images: Entry, net: Entry, ledger: Ledger) -> str:
    """Images of this table beside a net, in bytes and in points."""
    count: float = ledger.per_class
    if images.row.startswith("distilled") and ledger.distilled_per_class is not None:
        count = ledger.distilled_per_class
    less = net.bytes - images.bytes
    price = f"{abs(less):,} bytes {'cheaper' if less > 0 else 'dearer'} than" if less else "as large as"
    start = (
        f"At {count:g} image{'' if count == 1 else 's'} a class {images.name}, the most accurate of the "
        f"{images.storage} images here ({images.bytes:,} bytes), is {price} {net.name} ({net.bytes:,})"
    )
    found = images.subtract(net)
    sign = _sign(found)
    if found is None or sign is None:
        return f"{start}; no seed is common to both, so their accuracies are not compared."
    if not sign:
        of = ", of one seed" if found.low is None else ""
        return f"{start}, and the accuracies are not told apart ({found} points{of})."
    contrary = less * sign < 0
    both = "" if less * sign <= 0 else f": on both counts the {'images' if sign > 0 else 'weights'} win"
    by = f"{abs(found.mean):.2f} points {'better' if sign > 0 else 'worse'} ({found})"
    return f"{start}, {'but' if contrary else 'and'} its students are {by}{both}."


def _sign(found: Interval | None) -> int | None:
    """1 better, -1 worse, 0 not told apart, as one seed never is; None where there is nothing to pair."""
    if found is None:
        return None
    if found.low is None or found.high is None:
        return 0
    return int(found.low > 0) - int(found.high < 0)


def _note_beaten(what: str, entries: Sequence[Entry], whom: str, others: Sequence[Entry]) -> str:
    beaten = {
        a.name: [b.name for b in others if a.bytes < b.bytes and _sign(a.subtract(b)) == 1] for a in entries
    }
    lists = [f"{name} beats {', '.join(names)}" for name, names in beaten.items() if names]
    if not lists:
        return f"No {what} beats a {whom} on both bytes and accuracy."
    return f"On both bytes and accuracy {'; '.join(lists)}."


def _storages(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(e.storage for e in entries))


def _mean(entry: Entry) -> float:
    return entry.accuracy.mean
