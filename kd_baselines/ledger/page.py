"""A ledger as a page of Markdown: the table, what it says, how to read it."""

from __future__ import annotations

from datadistill.stats import Interval, format_mean
from kd_baselines.ledger.sentences import sentences
from kd_baselines.ledger.table import ABOUT, BASE, FORMULA, NEVER, Entry, Ledger

__all__ = ["HEADS", "cells", "markdown", "remarks"]

HEADS = (
    "row", "storage", "bytes", "accuracy (%)", "95% interval", f"minus {BASE}", "student (s)", "steps",
    "sender (s)", "break-even",
)  # fmt: skip
"""The columns of the table on a page and on a terminal."""


def cells(found: Ledger, entry: Entry) -> list[str]:
    """An entry as it is printed, one text for each of `HEADS`.

    Example:
        >>> net = Entry("student", "float32", {"weights": 246824}, None, {0: 98.0, 1: 99.0}, 0.0, 0, 61.3)
        >>> found = Ledger("mnist", (0, 1), (net,), shape=(1, 28, 28), classes=10, per_class=10)
        >>> cells(found, net)
        ['student', 'float32', '246,824', '98.50 ± 0.50', '[92.15, 104.85]', '-', '0.0', '0', '61', '-']
    """
    accuracy = format_mean(entry.accuracy.mean, entry.deviation if len(entry.values) > 1 else None)
    base = found.base(entry)
    difference = None if base is None else entry.minus(base)
    even = found.break_even(entry)
    return [
        entry.row, entry.storage, f"{entry.bytes:,}", accuracy, _interval(entry.accuracy),
        "-" if difference is None else str(difference), _seconds(entry.seconds), f"{entry.steps:,}",
        "-" if entry.sender_seconds is None else _seconds(entry.sender_seconds),
        "-" if even is None else "never" if even == NEVER else f"{even:,.0f}",
    ]  # fmt: skip


def _interval(found: Interval) -> str:
    return "-" if found.low is None else f"[{found.low:.2f}, {found.high:.2f}]"


def _seconds(value: float) -> str:
    """
    >>> _seconds(0.0312), _seconds(9.96), _seconds(1234.5)
    ('0.03', '10.0', '1,234')
    """
    return f"{value:.2f}" if 0 < value < 0.1 else f"{value:.1f}" if value < 20 else f"{value:,.0f}"


def markdown(found: Ledger, command: str) -> str:
    """The page.

    Args:
        found: what was measured.
        command: what makes it.
    """
    right = ("---:",)
    marks = ("---", "---", *right, *right, "---", "---", *right, *right, *right, *right)
    lines = [f"# {found.name}", "", f"`{command}`", "", f"| {' | '.join(HEADS)} |", f"| {' | '.join(marks)} |"]
    lines += [f"| {' | '.join(cells(found, entry))} |" for entry in found.entries]
    lines += ["", "## What it says", "", *(f"- {line}" for line in sentences(found))]
    lines += [
        "",
        "## Bytes",
        "",
        "| row | storage | parts | bytes | file |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for entry in found.entries:
        parts = ", ".join(f"{part} {count:,}" for part, count in entry.parts.items())
        held = "-" if entry.file_bytes is None else f"{entry.file_bytes:,}"
        lines.append(f"| {entry.row} | {entry.storage} | {parts} | {entry.bytes:,} | {held} |")
    lines += ["", "## Rows", ""]
    rows = dict.fromkeys(entry.row for entry in found.entries)
    lines += [f"- {row}: {ABOUT[row]}" for row in rows]
    lines += ["", "## Remarks", "", *(f"- {remark}" for remark in remarks(found))]
    lines += ["", "## Machine", "", *(f"- {line}" for line in found.machines), ""]
    return "\n".join(lines)


def remarks(found: Ledger) -> list[str]:
    """How the numbers were made."""
    seeds = ", ".join(map(str, found.seeds))
    lines = [
        f"All test images, after the last step; seeds {seeds}; population deviations. Rows of images are "
        "trained on what was stored, after quantization.",
        "A seed draws the real images, and the students' first weights and batches; of sent nets, the net.",
    ]
    if len(found.seeds) > 1:
        lines.append(
            f"Intervals are Student's t at 95%. Differences to {BASE} of the same storage (of float32 where "
            "images have no such storage) are in points and paired by seed."
        )
    else:
        lines.append("One seed: nothing follows from a difference.")
    if found.distilled_per_class is not None:
        other = found.distilled_per_class != found.per_class
        count = f"; it has {found.distilled_per_class:g} images a class, the real rows {found.per_class}"
        lines.append(f"One distilled set for every seed{count if other else ''}.")
    return [
        *lines, *found.notes,
        "Bytes are those of the parts; the file adds a header with names, sizes and class names.",
        "Seconds were measured on the machine below, and are of that machine alone. Those of the sender add up "
        "the sessions of its runs; a killed session counts up to its last line of timing.jsonl. Looks at the "
        "validation images after each epoch count, drawing images and asking the teacher for probabilities do "
        "not.",
        FORMULA,
    ]  # fmt: skip
