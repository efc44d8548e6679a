"""A deviation is written with ±, in ASCII where a stream has no other characters, and never over
one value."""

import io
import sys

import pytest

from datadistill.cli.printing import Output, percent, prepare, to_writable


def stream(encoding):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", "93.5 ± 0.5"), ("ascii", "93.5 +- 0.5"), ("cp1252", "93.5 ± 0.5")],
)
def test_a_deviation_is_written_as_the_stream_can(encoding, shown):
    assert to_writable("93.5 ± 0.5", stream(encoding)) == shown


def test_columns_stay_columns_in_ascii(monkeypatch):
    monkeypatch.setattr(sys, "stdout", out := stream("ascii"))
    prepare()
    Output().table(
        ("net", "accuracy (%)", "how"), [("a", "93.50 ± 0.50", "x"), ("b", "4.50", "y")], right=(1,)
    )
    out.seek(0)
    lines = out.read().splitlines()
    assert lines[1].endswith("93.50 +- 0.50  x") and lines[2].index("y") == lines[1].index("x")


@pytest.mark.parametrize(
    ("over", "shown"), [(1, "50.00"), (2, "50.00 ± 0.00"), (200, "50.00 ± 0.00")]
)
def test_one_value_has_no_deviation(over, shown):
    assert percent(50.0, 0.0, over) == shown


def test_an_unknown_character_is_an_escape_in_ascii(monkeypatch):
    monkeypatch.setattr(sys, "stdout", out := stream("ascii"))
    prepare()
    Output().say("größe ± 1")
    out.seek(0)
    assert out.read() == "gr\\xf6\\xdfe +- 1\n"


def test_a_narrow_terminal_gets_a_line_for_each_value(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    rows = [("after its 10 steps", "73.97 ± 2.49", "its order and step sizes")]
    Output().table(("", "accuracy (%)", ""), rows, right=(1,))
    assert capsys.readouterr().out.splitlines() == [
        "after its 10 steps",
        "  accuracy (%) 73.97 ± 2.49",
        "  its order and step sizes",
    ]
