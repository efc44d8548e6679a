"""`kd-baselines` on text: train, evaluate, generations, lists, and what is refused."""

import json

import pytest

from datadistill.runs.folder import RunFolder
from kd_baselines.cli import main
from kd_baselines.cli.train import TrainText
from kd_baselines.language.config import LANGUAGE_KIND
from kd_baselines.language.netfile import SavedLanguageModel
from kd_baselines.recipes import RECIPES, recipe

NAME = "ban-ptb"
LINES = ("the cat sat on the mat\n", "a dog ran\n", "the dog sat\n", "<unk> cat ran on a mat\n")
SMALL = ["--net-args", "width", "5", "--epochs", "2", "--batch", "4", "--unroll", "10", "--quiet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("text") / "tiny"
    place.mkdir()
    for name, order in (
        ("train", 4 * "0120312302"),
        ("valid", "0213021303"),
        ("test", "3210213203"),
    ):
        (place / f"{name}.txt").write_text("".join(LINES[int(n)] for n in order))
    return place


@pytest.fixture(scope="module")
def teacher(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "teacher"
    assert (
        main(["train", NAME, "--arm", "teacher", "--text", str(folder), *SMALL, "--out", str(out)])
        == 0
    )
    return out


def test_help_is_of_text(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", NAME, "--help"])
    said = capsys.readouterr().out
    assert stopped.value.code == 0 and f"usage: kd-baselines train {NAME}" in said
    assert "--unroll" in said and "--tokens" in said and "--dataset" not in said


def test_train_ends_with_what_to_type(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = [
        "train",
        NAME,
        "--arm",
        "teacher",
        "--text",
        str(folder),
        "--tokens",
        "150",
        *SMALL,
        "--seed",
        "4",
    ]
    assert main(argv) == 0
    *_, known, wrote, following = capsys.readouterr().out.splitlines()
    run = f"runs/{NAME}-teacher-s4"
    assert known.startswith("published: - (not the recipe as it is: batch 32 -> ")
    assert f"wrote {run}: student.safetensors (" in wrote
    assert following == f"next: kd-baselines evaluate {run}"
    config = RunFolder.open(run, kind=LANGUAGE_KIND).config
    assert (config["arm"], config["method"], config["seed"], config["tokens"]) == (
        "teacher",
        "plain",
        4,
        150,
    )


def test_a_taught_run_its_resume_and_its_evaluation(teacher, folder, tmp_path, capsys):
    out = tmp_path / "run"
    argv = [
        "train",
        NAME,
        "--text",
        str(folder),
        *SMALL,
        "--teacher",
        str(teacher),
        "--out",
        str(out),
    ]
    argv.append("--json")
    assert main(argv) == 0
    first = json.loads(capsys.readouterr().out)
    saved = SavedLanguageModel.load(out)
    assert (first["method"], first["fingerprint"]) == ("born-again", saved.fingerprint)
    assert first["perplexity"] == saved.scores["perplexity"]
    assert main(["train", "--resume", str(out), "--quiet"]) == 2
    assert "has finished, so nothing is left to resume" in capsys.readouterr().err
    assert (
        main(["train", "--resume", str(out), "--teacher", str(teacher), "--quiet", "--json"]) == 0
    )
    again = json.loads(capsys.readouterr().out)
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    file = str(out / "student.safetensors")
    for typed in ([str(out)], ["--json", file, "--text", str(folder)]):
        assert main(["evaluate", *typed, *(["--json"] if "--json" not in typed else [])]) == 0
        found = json.loads(capsys.readouterr().out)
        assert {k: found[k] for k in found} == {k: first[k] for k in found}
    assert main(["evaluate", file]) == 2
    assert "was trained on 'tiny'; pass its folder (--text FOLDER)" in capsys.readouterr().err
    assert main(["evaluate", str(out)]) == 0
    said = capsys.readouterr().out
    assert (
        f"{first['perplexity']:.2f}" in said
        and "lower is better" in said
        and f"born-again {NAME}" in said
    )


def test_evaluate_refuses_another_text(teacher, tmp_path, capsys):
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text(
            "some other words that the net has never read at all\n" * 9
        )
    assert main(["evaluate", str(teacher), "--text", str(tmp_path)]) == 3
    assert "knows 10 words" in capsys.readouterr().err


def test_generations_by_the_command(folder, tmp_path, capsys):
    out = tmp_path / "g"
    argv = [
        "born-again",
        NAME,
        "--generations",
        "2",
        "--seeds",
        "1",
        "--arms",
        "own",
        "--out",
        str(out),
    ]
    assert main([*argv, "--text", str(folder), *SMALL]) == 0
    said = capsys.readouterr().out
    assert "perplexity" in said and "(%)" not in said and "own-BANE(2)" in said
    nets = [SavedLanguageModel.load(out / name) for name in ("teacher-s0", "own-1-s0", "own-2-s0")]
    assert len({net.record["seed"] for net in nets}) == 3
    assert [net.record["method"] for net in nets] == ["plain", "born-again", "born-again"]


def test_an_image_run_is_not_gone_on_with_as_text(teacher, capsys):
    assert main(["train", "hinton-missing-digit", "--resume", str(teacher)]) == 2
    assert f"is a run of {NAME} (teacher), not of hinton-missing-digit" in capsys.readouterr().err
    assert main(["train", NAME, "--resume", str(teacher), "--out", "elsewhere"]) == 2


def test_arguments_go_with_their_net():
    args = ["--text", "t", "--net", "cnn-lstm"]
    config = TrainText([NAME, *args]).config
    assert config.net_args == {} and config.text == "t" and type(config) is type(recipe(NAME))
    config = TrainText([NAME, *args, "--net-args", "width", "7"]).config
    assert config.net_args == {"width": 7}


def test_recipes_tell_perplexities(capsys):
    assert main(["recipes", NAME]) == 0
    said = capsys.readouterr().out
    assert (
        "published perplexity" in said and "accuracy" not in said and f"born-again {NAME}" in said
    )
    assert main(["recipes", "--json"]) == 0
    found = {r["name"]: r["measure"] for r in json.loads(capsys.readouterr().out)["recipes"]}
    assert (
        found[NAME] == "perplexity"
        and found["ban-mnist"] == "accuracy (%)"
        and set(found) == set(RECIPES)
    )
