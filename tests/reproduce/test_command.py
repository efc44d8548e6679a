"""`datadistill reproduce`: what is printed, what is written, how it ends."""

import json

import pytest
from reproduce_cases import plan

from datadistill.cli import main
from datadistill.reproduce import TABLES


@pytest.fixture
def table9(monkeypatch, tmp_path):
    monkeypatch.setitem(TABLES, "table9", lambda scale: plan())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs/reproduce/table9-smoke"


def test_the_command_prints_both_numbers_and_what_it_wrote(table9, capsys):
    assert main(["reproduce", "table9", "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    ours = next(line for line in lines if line.startswith("ours"))
    assert ours.endswith("2 nets") and "79.5 ± 8.1" in ours
    assert lines[-2].startswith(
        "wrote runs/reproduce/table9-smoke: table.md, table.csv, figure.png"
    )
    assert lines[-1] == "next: datadistill reproduce table9 --scale cpu"
    assert {"table.md", "table.csv", "figure.png"} <= {p.name for p in table9.iterdir()}


def test_json_alone_on_stdout(table9, capsys):
    assert main(["reproduce", "table9", "--only", "fresh", "--json", "--out", "there"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert (found["table"], found["scale"], found["run"], found["missing"]) == (
        "table9",
        "smoke",
        "there",
        ["adapted"],
    )
    before, ours = found["rows"]
    assert before["published"] is None and 0 < ours["mean"] <= 100
    assert (ours["published"], ours["published_deviation"], ours["published_in"]) == (
        79.5,
        8.1,
        "table 9",
    )
    assert "learn set-fresh: 3 iterations" in shown.err


def test_several_parts_and_folders_may_be_named(table9, capsys):
    first = ["reproduce", "table9", "--only", "fresh", "--only", "adapted", "--out", "a", "--quiet"]
    assert main(first) == 0
    again = ["reproduce", "table9", "--reuse", "a/sets", "--reuse", "a/pools", "--out", "b"]
    assert main(again) == 0
    shown = capsys.readouterr().out
    assert (
        "the run in a/pools/a-pool is used" in shown
        and "the run in a/sets/set-fresh is used" in shown
    )


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["tabel9"], "there is no table 'tabel9'; did you mean table9"),
        (["table9", "--only", "adopted"], "did you mean adapted"),
        (
            ["table9", "--weights", "net.pt"],
            "table9 starts from no given weights; leave --weights out",
        ),
        (["table9", "--reuse", "nowhere"], "--reuse nowhere is no folder"),
    ],
)
def test_what_cannot_be_run_leaves_nothing(table9, argv, said, capsys):
    assert main(["reproduce", *argv]) == 2
    assert said in capsys.readouterr().err
    assert not table9.exists()


def test_the_help_lists_the_tables(capsys):
    with pytest.raises(SystemExit) as done:
        main(["reproduce", "--help"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in TABLES)
