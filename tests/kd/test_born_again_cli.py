"""`kd-baselines born-again`: one small chain by way of the command, its JSON, its errors."""

import json

import pytest

from kd_baselines.cli import main
from kd_baselines.cli.born_again import parse_arguments
from kd_baselines.config import KdConfig
from kd_baselines.language.config import LanguageConfig
from kd_baselines.recipes import RECIPES, Arm, Page

TINY = KdConfig(
    recipe="tiny",
    dataset="digits",
    method="soft-targets",
    net_args={"width": 6},
    epochs=1,
    lr=0.02,
    teacher_args={"width": 10},
    teacher_epochs=1,
    teacher_lr=0.03,
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    monkeypatch.setitem(
        RECIPES, "tiny", Page(lambda: TINY, "-", {"hard": Arm({"method": "plain"})})
    )
    text = LanguageConfig(recipe="tiny-text", net_args={"width": 4})
    monkeypatch.setitem(RECIPES, "tiny-text", Page(lambda: text, "-"))
    monkeypatch.chdir(tmp_path)


def test_a_chain_by_way_of_the_command(capsys, tmp_path):
    argv = ["born-again", "tiny", "--generations", "2", "--seeds", "2", "--batch", "256"]
    argv += ["--average", "geometric"]
    assert main([*argv, "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert (found["recipe"], found["base"], found["generations"]) == ("tiny", "teacher", 2)
    assert (found["seeds"], found["average"], found["changes"]) == (
        [0, 1],
        "geometric",
        {"batch": 256},
    )
    rows = ["teacher", "own-1", "own-2", "own-BANE(2)", "own-BANE(2)+teacher"]
    assert [r["arm"] for r in found["rows"]] == rows
    assert all(r["column"] == "error" and len(r["values"]) == 2 for r in found["rows"])
    assert "own-2-s1, taught by own-1-s1" in shown.err and "hard is left out" in shown.err
    out = tmp_path / "runs/born-again/tiny"
    assert {p.name for p in out.glob("*.*")} >= {
        "table.md",
        "table.csv",
        "generations.png",
        "config.json",
    }
    assert main(argv) == 0  # read again
    said = capsys.readouterr().out
    assert "own-2-s1, taught by" not in said and "error (%)" in said and "minus teacher" in said
    assert "the same with --generations 3 adds a generation" in said


def test_flags_of_a_recipe_of_text_are_those_of_its_config():
    args, changes = parse_arguments(
        "tiny-text", ["--epochs", "3", "--text", "here", "--net-args", "width", "8"]
    )
    assert (
        changes == {"epochs": 3, "text": "here", "net_args": {"width": 8}} and args.generations == 3
    )
    assert parse_arguments("tiny-text", ["--net", "cnn-lstm"])[1] == {
        "net": "cnn-lstm",
        "net_args": {},
    }
    assert parse_arguments("tiny", ["--epochs", "1"])[1] == {"epochs": 1}  # typed, if the same
    assert parse_arguments("tiny", ["--average", "geometric"])[1] == {}
