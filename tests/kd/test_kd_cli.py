"""`kd-baselines`: help without torch, nearest names, exit codes, and one small run by way of every
command."""

import json
import shutil

import pytest
import torch
from PIL import Image

from datadistill.cli.options import as_flags, config_of
from datadistill.config.choices import Arguments
from datadistill.errors import UsageError
from datadistill.runs.folder import RunFolder
from kd_baselines.cli import main
from kd_baselines.cli.compare import Compare
from kd_baselines.cli.configs import ImageFlags, ImageFlagsWithoutSeed, find_changes
from kd_baselines.cli.published import find_published
from kd_baselines.cli.train import TrainImages
from kd_baselines.config import KdConfig
from kd_baselines.methods import METHODS, arguments
from kd_baselines.netfile import SavedNet
from kd_baselines.recipes import OWN, RECIPES, recipe

NAME = "hinton-missing-digit"
SMALL = [
    "--dataset",
    "digits",
    "--net-args",
    "width",
    "8",
    "--epochs",
    "1",
    "--lr",
    "0.01",
    "--teacher-net",
    "mlp",
    "--teacher-args",
    "width",
    "16",
    "--teacher-epochs",
    "1",
    "--teacher-lr",
    "0.01",
    "--quiet",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main(["train", NAME, *SMALL, "--out", str(out)]) == 0
    return out


# --- the frame


# --- configs as typed


def test_arguments_go_with_what_they_belong_to():
    base = recipe(NAME)
    typed = as_flags(ImageFlags, base.with_changes(method="logits", net="lenet"))
    config = config_of(typed, base, ["--method", "logits", "--net", "lenet"])
    assert (config.method_args, config.net_args) == (
        {},
        {},
    ) and config.teacher_args == base.teacher_args
    words = ["--method", "logits", "--method-args", "temperature", "20"]
    assert config_of(
        as_flags(ImageFlags, base.with_changes(method="logits")), base, words
    ).method_args
    assert type(config) is KdConfig


def test_what_was_typed_is_a_change_even_if_it_is_the_recipes():
    base = recipe(NAME)
    typed = as_flags(ImageFlagsWithoutSeed, base.with_changes(lr=0.5))
    assert find_changes(typed, base, ["--lr", "0.5", f"--epochs={base.epochs}"]) == {
        "lr": 0.5,
        "epochs": base.epochs,
    }
    assert find_changes(as_flags(ImageFlagsWithoutSeed, base), base, []) == {}
    assert Compare().seeds == (3,)


# --- lists


def test_recipes(capsys):
    assert main(["recipes", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["recipes"]
    assert [r["name"] for r in found] == list(RECIPES) and all(r["arms"][0] == OWN for r in found)
    assert main(["recipes", NAME, "--arm", "hard", "--json"]) == 0
    shown = capsys.readouterr()
    one = json.loads(shown.out)
    assert one["config"]["method"] == "plain" and set(one["arms"]) == set(RECIPES[NAME].arms)
    assert f"next: kd-baselines train {NAME} --arm hard" in shown.err and "--lr" not in shown.err


def test_methods(capsys):
    assert main(["methods", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["methods"]
    assert [m["name"] for m in found] == list(METHODS)
    for name in METHODS:
        assert main(["methods", name]) == 0
        said = capsys.readouterr().out
        assert METHODS[name].source in said and all(
            f"\n{argument} " in said for argument in arguments(name)
        )


# --- one small run


def test_train_ends_with_what_to_type(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", NAME, "--arm", "hard", *SMALL, "--seed", "4"]) == 0
    *_, wrote, following = capsys.readouterr().out.splitlines()
    assert f"wrote runs/{NAME}-hard-s4: student.safetensors (" in wrote and "teacher" not in wrote
    assert following == f"next: kd-baselines evaluate runs/{NAME}-hard-s4 --noise 0.3"
    config = RunFolder.open(f"runs/{NAME}-hard-s4", kind="kd").config
    assert (config["arm"], config["method"], config["seed"], config["without"]) == (
        "hard",
        "plain",
        4,
        ["3"],
    )


def test_a_teacher_that_is_trained_is_used(finished, tmp_path, capsys):
    argv = [
        "train",
        NAME,
        *SMALL,
        "--teacher",
        str(finished),
        "--out",
        str(tmp_path / "run"),
        "--json",
    ]
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fingerprint"] == SavedNet.load(finished).fingerprint
    assert (found["arm"], found["run_seed"], found["images"]) == ("own", 0, 359) and found[
        "missing"
    ]["3"]
    assert found["published"] == "-" and "epochs 10 -> 1" in " ".join(found["changed"])
    assert found["changed"][-1] == "teacher the recipe's -> given"
    assert not (tmp_path / "run/teacher.safetensors").exists()


def test_a_number_stands_beside_the_recipe_as_it_is_alone():
    own = recipe(NAME)
    assert find_published(own.with_changes(seed=5, device="cpu", noise=(0.1,))) == (
        RECIPES[NAME].published,
        [],
    )
    number, changed = find_published(own.with_changes(epochs=own.epochs + 1, net_args={"width": 9}))
    assert number == "-" and {text.split()[0] for text in changed} >= {"epochs", "net_args.width"}
    assert find_published(own, given_teacher=True) == ("-", ["teacher the recipe's -> given"])


def arguments_of(*words, name="mnist5k-few-images"):
    return TrainImages([name, *words]).config


def test_typed_arguments_go_over_those_of_the_recipe():
    own = recipe("mnist5k-few-images")
    changed = arguments_of("--method-args", "jacobian_weight", "5", "--teacher-args", "depth", "1")
    assert changed.method_args == {**own.method_args, "jacobian_weight": 5}
    assert changed.teacher_args == {**own.teacher_args, "depth": 1}
    cleared = arguments_of("--method-args", "jacobian_weight", "-", "output", "top").method_args
    assert cleared == {"label_weight": 1.0, "activation_weight": 0.1, "output": "top"}
    assert arguments_of("--method-args").method_args == {}
    assert arguments_of("--method", "logits").method_args == {}
    other = arguments_of(
        "--method", "soft-targets", "--method-args", "temperature", "5"
    ).method_args
    assert other == {"temperature": 5}
    with pytest.raises(UsageError, match="no 'jacobian' to take out; did you mean jacobian_weight"):
        arguments_of("--method-args", "jacobian", "-")
    with pytest.raises(UsageError, match="method_args was given twice"):
        arguments_of("--method-args", "output", "top", "--method-args", "jacobian_weight", "5")


def test_arguments_go_over_those_of_every_arm():
    base = recipe(NAME)
    arm = base.with_changes(net_args={"width": 3, "depth": 1}, method_args={"soft_weight": 0.5})
    changed = arm.with_changes(
        net_args=Arguments({"width": 7}), method_args=Arguments({"temperature": 2}, ["soft_weight"])
    )
    assert changed.net_args == {"width": 7, "depth": 1} and changed.method_args == {
        "temperature": 2
    }
    assert arm.with_changes(net="lenet", net_args=Arguments({"width": 7})).net_args == {"width": 7}


def test_resume_takes_no_other_recipe_or_folder(finished, tmp_path, capsys):
    assert main(["train", "fitnets-mnist", "--resume", str(finished)]) == 2
    assert f"is a run of {NAME}, not of fitnets-mnist" in capsys.readouterr().err
    assert main(["train", NAME, "--arm", "hard", "--resume", str(finished)]) == 2
    assert f"not of {NAME} --arm hard" in capsys.readouterr().err
    assert main(["train", "--resume", str(finished), "--out", "elsewhere"]) == 2


def test_evaluate_gives_the_scores_of_the_run(finished, capsys):
    stored = SavedNet.load(finished).scores
    assert main(["evaluate", str(finished), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {key: found[key] for key in stored} == stored
    assert found["published"] == "-" and "epochs 10 -> 1" in found["changed"]
    assert (
        main(["evaluate", str(finished / "teacher.safetensors"), "--noise", "0", "0.3", "--json"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["noise"]["0"] == found["accuracy"] and found["missing"] == {}
    argv = [
        "evaluate",
        str(finished),
        "--which",
        "teacher",
        "--split",
        "validation",
        "--missing",
        "8",
    ]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert (
        "validation images" in said and "of class 8, shifted" in said and f"compare {NAME}" in said
    )


def test_evaluate_refuses_what_is_no_net_or_unfinished(finished, tmp_path, capsys):
    assert main(["evaluate", str(finished / "config.json")]) == 3
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run/student.safetensors").unlink()
    assert main(["evaluate", str(tmp_path / "run")]) == 3
    assert "kd-baselines train --resume" in capsys.readouterr().err


def test_speed_sets_a_teacher_before_its_student(finished, capsys):
    assert main(["speed", str(finished), str(finished), "--batch", "2", "--passes", "1"]) == 0
    assert "speed-up over run, teacher" in capsys.readouterr().out
    assert main(["speed", str(finished), str(finished), "--batch", "2", "--json"]) == 0
    teacher, student, _ = json.loads(capsys.readouterr().out)["rows"]  # the teacher once
    assert (teacher["compression"], teacher["speed_up"]) == (1, 1)
    nets = {name: SavedNet.load(finished, which=name) for name in ("teacher", "student")}
    counts = {
        name: sum(t.numel() for t in saved.states[0].values()) for name, saved in nets.items()
    }
    assert (teacher["parameters"], student["parameters"]) == tuple(counts.values())
    assert student["compression"] == counts["teacher"] / counts["student"] > 1
    assert student["accuracy"] == nets["student"].scores["accuracy"]


@pytest.mark.parametrize(
    ("argv", "said"), [([], "no net is named"), (["--batch", "0"], "batch is 0")]
)
def test_speed_refuses(argv, said, finished, capsys):
    runs = [str(finished)] if argv else []
    assert main(["speed", *runs, *argv]) == 2
    assert said in capsys.readouterr().err


def test_compare_prints_what_it_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = ["compare", NAME, *SMALL, "--seeds", "1", "--arms", "own", "hard", "--without"]
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # --without nothing: accuracy alone
    assert [r["arm"] for r in found["rows"]] == ["teacher", "own", "hard"]
    assert (found["base"], found["seeds"], found["changes"]["without"]) == ("hard", [0], [])
    assert main(argv) == 0
    *_, wrote, following = capsys.readouterr().out.splitlines()
    assert wrote.startswith(f"wrote runs/compare/{NAME}: table.md, table.csv")
    assert following == f"next: kd-baselines evaluate runs/compare/{NAME}/hard-s0 --noise 0.3"


def test_inspect_says_whose_run_it_is(tmp_path, capsys):
    from datadistill.cli import main as datadistill_main
    from datadistill.runs.folder import RunFolder

    RunFolder.create(tmp_path / "run", {}, {}, "kd").append_metrics(
        {"stage": "student", "epoch": 1}
    )
    assert datadistill_main(["inspect", str(tmp_path / "run")]) == 3
    assert "kd-baselines evaluate" in capsys.readouterr().err


def test_a_folder_of_images_trains_teacher_and_student(tmp_path, capsys):
    generator = torch.Generator().manual_seed(0)
    for k in range(2):
        (tmp_path / f"images/{k}").mkdir(parents=True)
        for n in range(10):
            pixels = torch.randint(
                100 * k, 100 * k + 100, (8, 8), generator=generator, dtype=torch.uint8
            )
            Image.fromarray(pixels.numpy()).save(tmp_path / f"images/{k}/{n}.png")
    words = [
        "train",
        "mnist5k-few-images",
        "--data",
        str(tmp_path / "images"),
        "--size",
        "8",
        "--quiet",
    ]
    words += ["--channels", "1", "--per-class", "2", "--epochs", "1", "--teacher-epochs", "1"]
    nets = ["--method", "logits", "--net", "mlp", "--teacher-net", "mlp"]
    assert main([*words, *nets, "--out", str(tmp_path / "r"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    saved = SavedNet.load(tmp_path / "r")
    assert found["images"] == 4 and saved.classes == ("0", "1") and "data" not in saved.record
    assert main(["evaluate", str(tmp_path / "r")]) == 2
    assert "trained on a folder of images" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "images/r")]) == 2
    assert main([*words, "--dataset", "digits"]) == 2
    assert "drop one" in capsys.readouterr().err
