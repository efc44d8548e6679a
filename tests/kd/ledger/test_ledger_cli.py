"""`kd-baselines ledger` as it is typed."""

import csv
import json

import pytest

from kd_baselines.cli import main

TINY = [
    "--student-args",
    "width",
    "4",
    "--teacher-args",
    "width",
    "4",
    "--steps",
    "3",
    "--net-epochs",
    "1",
    "--net-batch",
    "400",
    "--distill-changes",
    "iterations",
    "1",
    "epochs",
    "1",
    "validate_nets",
    "1",
]


def test_rows_a_table_files_and_json(tmp_path, capfd):
    out = str(tmp_path / "a")
    words = [
        "ledger",
        "digits",
        "--seeds",
        "1",
        "--rows",
        "real-hard",
        "student",
        "--out",
        out,
        *TINY,
    ]
    assert main([*words, "--json"]) == 0
    held = capfd.readouterr()
    found = json.loads(held.out)
    assert found["ledger"] == "digits" and found["seeds"] == [0] and found["changes"]["steps"] == 3
    weights = 64 * 4 + 4 + 4 * 4 + 4 + 4 * 10 + 10
    assert [(r["row"], r["storage"], r["bytes"]) for r in found["rows"]] == [
        ("real-hard", "uint8", 6508),
        ("real-hard", "float32", 25700),
        ("student", "float32", 4 * weights),
        ("student", "float16", 2 * weights),
    ]
    assert all((tmp_path / "a" / name).exists() for name in ("ledger.md", "ledger.png"))
    with open(tmp_path / "a/ledger.csv", newline="") as file:
        assert [float(r["mean"]) for r in csv.DictReader(file)] == pytest.approx(
            [r["mean"] for r in found["rows"]], abs=1e-4
        )
    assert main([*words, "--quiet"]) == 0  # typed again: read
    held = capfd.readouterr()
    assert (
        "real-hard  uint8" in held.out
        and "next: kd-baselines ledger digits --rows full" in held.out
    )
    assert max(map(len, held.out.split("\n\n")[0].splitlines())) <= 120
    run = json.loads((tmp_path / "a/nets/student-s0/config.json").read_text())
    assert run["kind"] == "kd" and run["config"]["dataset"] == "digits"
    page = (tmp_path / "a/ledger.md").read_text()
    assert (
        "`kd-baselines ledger digits --seeds 1 --rows real-hard student --student-args width 4"
        in page
    )


def test_help_tells_the_ledgers_own_defaults(capfd):
    with pytest.raises(SystemExit) as left:
        main(["ledger", "mnist", "--help"])
    text = capfd.readouterr().out
    assert left.value.code == 0 and "--per-class" in text and "mnist-random" in text
