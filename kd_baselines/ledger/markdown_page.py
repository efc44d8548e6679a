"""A ledger as a page of Markdown: the table, what it says, how to read it."""

from __future__ import annotations

from datadistill.studies.table import Column, format_difference, join_page, to_markdown
from kd_baselines.ledger.image_storage import IMAGE_STORAGE
from kd_baselines.ledger.table import ABOUT, BASE, FORMULA, NETS, NEVER, Entry, Ledger
from kd_baselines.ledger.worth import images_a_class_worth

__all__ = ["columns", "markdown", "remarks"]


def columns(found: Ledger) -> list[Column[Entry]]:
    """The columns of the table on a page and on a terminal."""
    return [
        Column("row", lambda entry: entry.row),
        Column("storage", lambda entry: entry.storage),
        Column("bytes", lambda entry: f"{entry.bytes:,}", number=True),
        Column("accuracy (%)", lambda entry: str(found.score(entry)), number=True),
        Column("95% interval", _interval),
        Column(f"minus {BASE}", lambda entry: format_difference(found.score(entry))),
        Column("beats", lambda entry: ", ".join(e.name for e in found.find_beaten(entry)) or "-"),
        Column("student (s)", lambda entry: _seconds(entry.seconds), number=True),
        Column("steps", lambda entry: f"{entry.steps:,}", number=True),
        Column("sender (s)", lambda entry: _seconds(entry.sender_seconds), number=True),
        Column("break-even", lambda entry: _break_even(found.break_even(entry)), number=True),
    ]


def _interval(entry: Entry) -> str:
    score = entry.accuracy
    return "-" if score.low is None else f"[{score.low:.2f}, {score.high:.2f}]"


def _break_even(students: float | None) -> str:
    if students is None:
        return "-"
    return "never" if students == NEVER else f"{students:,.0f}"


def _seconds(value: float | None) -> str:
    """
    >>> _seconds(0.0312), _seconds(9.96), _seconds(1234.5)
    ('0.03', '10.0', '1,234')
    """
    if value is None:
        return "-"
    return f"{value:.2f}" if 0 < value < 0.1 else f"{value:.1f}" if value < 20 else f"{value:,.0f}"


def markdown(found: Ledger, command: str) -> str:
    """The page about a ledger that `command` makes."""
    sizes: list[Column[Entry]] = [
        Column("row", lambda entry: entry.row),
        Column("storage", lambda entry: entry.storage),
        Column(
            "parts",
            lambda entry: ", ".join(f"{part} {count:,}" for part, count in entry.parts.items()),
        ),
        Column("bytes", lambda entry: f"{entry.bytes:,}", number=True),
        Column(
            "file",
            lambda entry: "-" if entry.file_bytes is None else f"{entry.file_bytes:,}",
            number=True,
        ),
        Column("images a class", lambda entry: _format_worth(entry, found), number=True),
    ]
    rows = dict.fromkeys(entry.row for entry in found.entries)
    return join_page(
        f"# {found.name}",
        f"`{command}`",
        to_markdown(columns(found), found.entries),
        "## Bytes",
        to_markdown(sizes, found.entries),
        "## Rows",
        [f"{row}: {ABOUT[row]}" for row in rows],
        "## Remarks",
        remarks(found),
        "## Machine",
        found.machines,
    )


def _format_worth(entry: Entry, found: Ledger) -> str:
    """Of a net, from how many images a class on it takes no more bytes than their pixels: 8-bit /
    float32.

    >>> net = Entry("student", "float32", {"weights": 246824}, None, {0: 98.0}, 0.0, 0, 61.3)
    >>> _format_worth(
    ...     net, Ledger("mnist", (0,), (net,), shape=(1, 28, 28), classes=10, per_class=10)
    ... )
    '32 / 8'
    """
    if entry.row not in NETS:
        return "-"
    worth = [
        max(1, images_a_class_worth(entry.bytes, found.shape, storage, classes=found.classes))
        for storage in IMAGE_STORAGE
    ]
    return " / ".join(f"{count:,}" for count in worth)


def remarks(found: Ledger) -> list[str]:
    """Sentences about how the numbers were made."""
    seeds = ", ".join(map(str, found.seeds))
    lines = [
        f"All test images, after the last step; seeds {seeds}; population deviations. Rows of "
        "images are trained on what was stored, after quantization.",
        "A seed draws the real images, and the students' first weights and batches; of "
        "sent nets, the net.",
    ]
    if len(found.seeds) > 1:
        lines.append(
            f"Intervals are Student's t at 95%. Differences to {BASE} of the same storage (of "
            "float32 where images have no such storage) are in points and paired by seed."
        )
    else:
        lines.append("One seed: nothing follows from a difference.")
    if found.distilled_per_class is not None:
        other = found.distilled_per_class != found.per_class
        count = (
            f"; it has {found.distilled_per_class:g} images a class, the real rows "
            f"{found.per_class}"
        )
        lines.append(f"One distilled set for every seed{count if other else ''}.")
    return [
        *lines,
        *found.notes,
        "Images beat a net, and a net images, with fewer bytes and the interval of the paired "
        'difference above 0. "Images a class" of a net: from so many on (8-bit / float32) their '
        "pixels take no fewer bytes.",
        "Bytes are those of the parts; the file adds a header with names, sizes and class names.",
        "Seconds were measured on the machine below, and are of that machine alone. Those of the "
        "sender add up the sessions of its runs; a killed session counts up to its last line of "
        "timing.jsonl. Looks at the validation images after each epoch count, drawing images and "
        "asking the teacher for probabilities do not.",
        FORMULA,
    ]
