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
    "argv",
    [["--help"], ["distill", "--help"], ["distill", "mnist-fixed", "--help"], ["recipes"], ["distill", "x"]],
)
def test_no_torch_before_a_command_runs(argv):
    code = (
        "import sys; from datadistill.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, *argv], capture_output=True).returncode == 0


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in COMMANDS)
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(
    ("package", "name"), [("datadistill", "datadistill"), ("kd_baselines", "kd-baselines")]
)
def test_the_packages_are_the_programs(package, name):
    script = importlib.metadata.entry_points(group="console_scripts", name=name)
    (script,) = {found.value for found in script}
    typed = [sys.executable, "-m", package]
    done = subprocess.run([*typed, "recipes", "no-such"], capture_output=True, text=True, check=False)
    assert script == f"{package}.cli:main"
    assert done.returncode == 2 and done.stderr.startswith(f"{name}: error: there is no recipe 'no-such'")
    version = subprocess.run([*typed, "--version"], capture_output=True, text=True, check=False)
    assert (version.returncode, version.stdout) == (0, f"{name} {datadistill.__version__}\n")


def test_no_command_is_a_usage_error(capsys):
    assert main([]) == 2
    assert "usage: datadistill COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"usage: datadistill {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "near"),
    [
        (["distil", "mnist-fixed"], "did you mean distill?"),
        (["distill", "mnist5k-fxed"], "did you mean mnist5k-fixed"),
        (["recipes", "cifar-fixed"], "did you mean cifar10-fixed"),
    ],
)
def test_an_unknown_name_gets_the_nearest(argv, near, capsys):
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and near in shown.err
    assert shown.err.startswith("datadistill: error: ") and len(shown.err.splitlines()) == 1


def test_an_unknown_option_gets_the_nearest(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["distill", "mnist-fixed", "--lr-step-size", "0.1"])
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == "" and "--lr-step-sizes" in shown.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--step-size", "0"], "step_size is 0.0"),
        (["--step-size", "-1"], "step_size is -1.0"),
        (["--ipc", "0"], "ipc is 0"),
        (["--ipc", "3", "--steps", "2"], "make ipc a multiple of steps"),
        (["--on-nan", "skip"], "stop or skip:N"),
        (["--checkpoint-every", "often"], "checkpoint_every is 'often'"),
        (["--nets-tested", "0"], "nets_tested is 0"),
        (["--threads", "0"], "threads is 0"),
        (["--dataset", "mnist", "--data", "birds"], "drop one"),
        (["--dataset", "folder"], "--data FOLDER"),
    ],
)
def test_a_wrong_value_is_refused(options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["distill", "mnist-fixed", *options]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [["--ipc", "many"], ["--theta-0", "fixd"], ["--net-args", "width"]])
def test_a_value_of_another_type_is_refused(options, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["distill", "mnist-fixed", *options])
    assert stopped.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_no_recipe_says_what_lists_them(capsys):
    assert main(["distill", "--ipc", "5"]) == 2
    assert f"(datadistill recipes lists all {len(RECIPES)})" in capsys.readouterr().err


def test_own_images_wants_a_folder(capsys):
    assert main(["distill", "own-images"]) == 2
    assert "pass --data FOLDER" in capsys.readouterr().err


def test_the_defaults_shown_are_the_recipes(capsys):
    with pytest.raises(SystemExit):
        main(["distill", "cifar10-fixed", "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "(default: 20000)" in said and "(default: alexcifarnet)" in said and "(default: crop flip)" in said


def test_recipes(capsys):
    assert main(["recipes", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["recipes"]
    assert [r["name"] for r in found] == list(RECIPES)
    assert main(["recipes", "mnist-random", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert one["config"]["ipc"] == 10 and one["published"].startswith("79.5 ± 8.1")
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
    assert "cpu" in found["devices"] and found["threads"] >= 1 and found["data_roots"] == [str(tmp_path)]
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
    ) == {
        "width": 32,
        "beta": 0.9,
        "norm": "none",
        "bias": False,
    }
    assert value_of(["--out", "a"], "--resume") is None
    assert value_of(["--resume", "a"], "--resume") == "a"
