"""The command line's frame: help without torch, nearest names, exit codes, lists."""

import importlib.metadata
import json
import subprocess
import sys

import pytest

import datadistill
from datadistill.cli import COMMANDS, main
from datadistill.cli.options import NAMES_AND_VALUES, value_of
from datadistill.recipes import RECIPES


@pytest.mark.parametrize(
    ("package", "name"), [("datadistill", "datadistill"), ("kd_baselines", "kd-baselines")]
)
def test_the_packages_are_the_programs(package, name, capsys):
    script = importlib.metadata.entry_points(group="console_scripts", name=name)
    (script,) = {found.value for found in script}
    typed = [sys.executable, "-m", package, "recipes", "no-such"]
    done = subprocess.run(typed, capture_output=True, text=True, check=False)
    assert script == f"{package}.cli:main"
    assert done.returncode == 2 and done.stderr.startswith(
        f"{name}: error: there is no recipe 'no-such'"
    )
    assert importlib.import_module(f"{package}.cli").main(["--version"]) == 0
    assert capsys.readouterr().out == f"{name} {datadistill.__version__}\n"


def test_the_defaults_shown_are_the_recipes(capsys):
    with pytest.raises(SystemExit):
        main(["distill", "cifar10-fixed", "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert (
        "(default: 20000)" in said
        and "(default: alexcifarnet)" in said
        and "(default: crop flip)" in said
    )
    over = "(go over the recipe's, name by name; NAME - takes one out; default: none)"
    assert f"Arguments of the method. {over}" in said


def test_recipes(capsys):
    assert main(["recipes", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["recipes"]
    assert [r["name"] for r in found] == list(RECIPES)
    assert main(["recipes", "mnist-random", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert one["config"]["ipc"] == 10 and one["published"].startswith("79.5 ± 8.1")
    assert main(["recipes", "cifar10-rat-ipc10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["about"].startswith("Images that train any ConvNet")
    assert main(["recipes", "mnist5k-fixed"]) == 0
    said = capsys.readouterr().out
    assert "not MNIST" in " ".join(said.split()) and "datadistill distill mnist5k-fixed" in said


def test_doctor(tmp_path, capsys):
    assert main(["doctor", "--data-root", str(tmp_path), "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["datasets"]["mnist5k"]["found"] and found["datasets"]["digits"]["found"]
    assert not found["datasets"]["cifar10"]["found"]
    assert found["datasets"]["cifar10"]["note"] == "not here"  # it was not asked to fetch anything
    assert (
        "cpu" in found["devices"]
        and found["threads"] >= 1
        and found["data_roots"] == [str(tmp_path)]
    )
    assert "mnist5k" in shown.err
    assert list(tmp_path.iterdir()) == []


def test_doctor_names_a_data_root_that_is_missing(tmp_path, capsys):
    assert main(["doctor", "--data-root", str(tmp_path / "nowhere")]) == 0
    assert "does not exist" in " ".join(capsys.readouterr().out.split())


def test_a_bug_shows_its_traceback(monkeypatch, capsys):
    monkeypatch.setitem(COMMANDS, "broken", ("no_such_module", "cannot be imported"))
    assert main(["broken"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_outside_a_run(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("datadistill.cli.recipes.run", interrupted)
    assert main(["recipes"]) == 130
    assert capsys.readouterr().err == "datadistill: interrupted\n"


def test_values_as_typed():
    assert NAMES_AND_VALUES.instance_from_str(
        ["width", "32", "beta", "0.9", "norm", "none", "bias", "False"]
    ) == {"width": 32, "beta": 0.9, "norm": "none", "bias": False}
    assert value_of(["--out", "a"], "--resume") is None
    assert value_of(["--resume", "a"], "--resume") == "a"
