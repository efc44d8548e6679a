"""The table of a ledger: arithmetic by hand, who beats whom, its files, its picture."""

import csv
import io
import math

import pytest

from datadistill.errors import UsageError
from kd_baselines.ledger.markdown_page import columns, markdown
from kd_baselines.ledger.plot import ledger_figure
from kd_baselines.ledger.table import NEVER, Entry, Ledger, break_even

SPREAD = (-0.2, 0.0, 0.2)


def entry(
    row, storage="uint8", size=78_508, accuracy=90.0, seconds=3.0, steps=100, sender=0.0, seeds=3
):
    """An entry whose seeds lie close together."""
    part = "weights" if row in ("teacher", "student", "born-again") else "images"
    values = {s: accuracy + SPREAD[s] for s in range(seeds)}
    return Entry(
        row, storage, {part: size - 8, "range": 8}, size + 600, values, seconds, steps, sender
    )


def ledger(*entries, seeds=(0, 1, 2), **options):
    return Ledger("mnist", seeds, entries, (1, 28, 28), 10, 10, **options)


def net(size=246_824, accuracy=98.0, row="student", **options):
    return entry(row, "float32", size, accuracy, 0.0, 0, 60.0, **options)


# --- break-even


@pytest.mark.parametrize(
    ("sender", "full", "own", "wanted"),
    [
        (100.0, 12.0, 2.0, 10),  # 10 students: 120 s each on all data, 100 + 20 with the payload
        (100.1, 12.0, 2.0, 11),
        (3.0, 12.0, 2.0, 1),
        (0.0, 12.0, 2.0, 1),
        (0.6, 0.3, 0.1, 3),
        (0.9, 0.7, 0.4, 3),  # rounded, the quotient lies above 3
        (0.3, 0.3, 0.2, 3),  # and here
        (0.61, 0.3, 0.1, 4),
        (100.0, 2.0, 2.0, NEVER),
        (0.0, 2.0, 3.0, NEVER),
        (None, 2.0, 3.0, NEVER),
        (None, 12.0, 2.0, None),
        (100.0, None, 2.0, None),
    ],
)
def test_break_even_by_hand(sender, full, own, wanted):
    assert break_even(sender, full, own) == wanted


@pytest.mark.parametrize("sender", [0.5, 7.0, 1000.0])
@pytest.mark.parametrize("own", [0.0, 0.25, 4.5])
def test_break_even_is_the_first_number_of_students_that_saves(sender, own):
    n = break_even(sender, 5.0, own)
    assert sender + n * own <= n * 5.0
    assert n == 1 or sender + (n - 1) * own > (n - 1) * 5.0


# --- rows


def test_differences_are_to_the_real_images_of_the_same_storage():
    u, f = entry("real-hard", accuracy=70.0), entry("real-hard", "float32", accuracy=72.0)
    found = ledger(
        u, f, entry("distilled"), entry("distilled", "float32"), net(), net(row="teacher")
    )
    assert [found.base(e) for e in found.entries] == [None, None, u, f, f, f]
    half = entry("student", "float16")
    assert ledger(u, f, half).base(half) is f and ledger(u, half).base(half) is None
    shared = entry("teacher", "float32", accuracy=99.0, seeds=1)
    assert shared.subtract(f).mean == pytest.approx(27.0) and shared.subtract(f).low is None
    elsewhere = Entry("teacher", "float32", {"weights": 8}, None, {7: 99.0}, 0.0, 0, None)
    assert elsewhere.subtract(f) is None


def test_break_even_is_held_against_the_row_of_all_real_data():
    full = entry("full", size=55_000 * 785, seconds=13.0)
    found = ledger(entry("distilled", sender=100.0), net(), full)
    assert [found.break_even(e) for e in found.entries] == [10, 5, None]
    assert ledger(entry("distilled")).break_even(entry("distilled")) is None


def test_unknown_rows_are_refused():
    found = ledger(net())
    assert found.entry("student", "float32") is found.entry("student")
    with pytest.raises(UsageError, match="no row 'student' as float16; it has student float32"):
        found.entry("student", "float16")


# --- cheaper and better


def beats(*entries):
    """Name of each entry -> names of those that it beats."""
    found = ledger(*entries)
    return {e.name: [other.name for other in found.find_beaten(e)] for e in entries}


@pytest.mark.parametrize(
    ("size", "accuracy", "by_images", "by_net"),
    [
        (78_508, 99.0, True, False),
        (313_600, 90.0, False, True),
        (78_508, 90.0, False, False),
        (313_600, 99.0, False, False),
        (246_824, 90.0, False, False),
        (78_508, 98.0, False, False),
    ],
)
def test_who_beats_whom_on_both_counts(size, accuracy, by_images, by_net):
    found = beats(
        entry("distilled", size=size, accuracy=accuracy),
        net(),
        entry("full", size=1, accuracy=100.0),
    )
    assert found["distilled uint8"] == (["student float32"] if by_images else [])
    assert found["student float32"] == (["distilled uint8"] if by_net else [])
    assert found["full uint8"] == []


def test_what_noise_or_one_seed_made_is_not_called_better():
    wild = Entry(
        "distilled", "uint8", {"images": 100}, None, {0: 99.5, 1: 95.0, 2: 100.0}, 1.0, 10, 1.0
    )
    assert wild.accuracy.mean > net().accuracy.mean and beats(wild, net())[wild.name] == []
    one = beats(entry("distilled", accuracy=99.0), net(seeds=1), net(row="teacher"))
    assert one["distilled uint8"] == ["teacher float32"]


def test_the_page_says_what_beats_what_and_what_a_net_is_worth():
    page = markdown(
        ledger(entry("distilled", accuracy=99.0), net(246_824), net(500, row="teacher")), "x"
    )
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines()]
    at = next(line for line in lines if "beats" in line).index("beats")
    assert [line[at] for line in lines if line[0] == "distilled" and len(line) > at] == [
        "student float32"
    ]
    worth = {line[0]: line[-1] for line in lines if len(line) == 6}
    assert (worth["student"], worth["teacher"], worth["distilled"]) == ("32 / 8", "1 / 1", "-")
    assert 31 * 7840 < 246_824 <= 32 * 7840 and 7 * 31360 < 246_824 <= 8 * 31360


def test_a_set_of_another_count_is_named_by_its_own():
    found = ledger(entry("distilled"), net(), distilled_per_class=1.0)
    assert "it has 1 images a class, the real rows 10" in markdown(found, "x")


# --- files


def test_the_page_has_the_table_the_bytes_and_the_formula():
    full = entry("full", size=55_000 * 785 + 8, seconds=13.0)
    found = ledger(
        entry("real-hard"),
        entry("distilled", accuracy=95.0, sender=100.0),
        net(),
        full,
        machines=("m",),
    )
    lines = markdown(found, "kd-baselines ledger mnist").splitlines()
    assert "`kd-baselines ledger mnist`" in lines and "- m" in lines
    row = (
        "| distilled | uint8 | 78,508 | 95.00 ± 0.16 | [94.50, 95.50] | +5.00 [+5.00, "
        "+5.00] | - | 3.0 |"
    )
    assert f"{row} 100 | 100 | 10 |" in lines
    assert "| distilled | uint8 | images 78,500, range 8 | 78,508 | 79,108 | - |" in lines
    text = "\n".join(lines)
    assert "n = ceil(S / (F - P))" in text and "of that machine alone" in text
    slow = entry("distilled", seconds=20.0)
    assert columns(ledger(slow, full))[-1].cell(slow) == "never"


def test_the_csv_holds_every_number():
    found = ledger(
        entry("real-hard"), entry("distilled", sender=None), net(), entry("full", seconds=13.0)
    )
    rows = list(csv.DictReader(io.StringIO(found.table().to_csv())))
    assert [(r["row"], r["storage"], r["bytes"]) for r in rows][:3] == [
        ("real-hard", "uint8", "78508"),
        ("distilled", "uint8", "78508"),
        ("student", "float32", "246824"),
    ]
    assert rows[1]["parts"] == "images 78500; range 8" and rows[1]["sender_seconds"] == ""
    assert (
        rows[1]["break_even"] == "" and rows[2]["break_even"] == "5" and rows[0]["difference"] == ""
    )
    assert [float(v) for v in rows[1]["values"].split()] == [89.8, 90.0, 90.2]
    assert float(rows[1]["difference"]) == 0 and rows[1]["seeds"] == "0 1 2"
    never = next(ledger(entry("real-hard"), entry("full", seconds=1.0)).records())
    assert never["break_even"] == "never"


# --- picture


def test_the_picture_names_every_row_and_storage():
    images = [
        entry(row, storage)
        for row in ("real-hard", "distilled")
        for storage in ("uint8", "float32")
    ]
    found = ledger(*images, net(size=246_824), entry("full", size=47_000_000, accuracy=98.5))
    figure = ledger_figure(found)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "real-hard",
        "distilled",
        "student",
        "full",
        "uint8",
        "float32",
    ]
    assert math.isclose(figure.axes[0].get_xlim()[0], 78_508 / 1.6)
    with pytest.raises(UsageError, match="no row to draw"):
        ledger_figure(ledger())
