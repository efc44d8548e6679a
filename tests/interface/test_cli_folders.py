"""own-images: a folder of your own pictures, from start to end, and the folders that cannot be
learned from."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import datadistill as dd
from datadistill.cli import main

OPTIONS = [
    "--size",
    "8",
    "--net",
    "mlp",
    "--net-args",
    "width",
    "16",
    "--iterations",
    "2",
    "--validate-every",
    "1",
    "--batch",
    "4",
    "--nets",
    "1",
    "--nets-tested",
    "2",
    "--epochs",
    "2",
    "--no-figures",
    "--plain-nets",
    "0",
]


@pytest.fixture
def birds(tmp_path):
    """Two classes, ten pictures each: dark and bright."""
    chance = np.random.default_rng(0)
    for k, name in enumerate(["jay", "pelican"]):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for i in range(10):
            pixels = chance.integers(0, 128, (12, 9, 3), dtype=np.uint8) + np.uint8(127 * k)
            Image.fromarray(pixels).save(tmp_path / "birds" / name / f"{i}.png")
    return tmp_path / "birds"


@pytest.fixture
def learned(birds, tmp_path):
    out = tmp_path / "run"
    argv = ["own-images", "--data", str(birds), *OPTIONS, "--holdout", "0.5", "--seed", "3"]
    assert main(["distill", *argv, "--out", str(out)]) == 0
    return out


def test_from_start_to_end(learned, birds, capsys):
    assert "5 held out" not in capsys.readouterr().out  # 10 of 20 in all
    d = dd.DistilledDataset.load(learned)
    assert d.classes == ("jay", "pelican") and d.images.shape == (2, 3, 8, 8)
    argv = ["evaluate", str(learned), "--data", str(birds), "--nets", "2", "--plain-nets", "0"]
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # the same images are held out as in the run: its own share and seed
    assert {k: found[k] for k in d.accuracies} == d.accuracies
    assert "10 held out" in found["description"]


def test_evaluate_wants_the_folder(learned, birds, tmp_path, capsys):
    """A run folder says where it lies; a file alone does not."""
    assert main(["evaluate", str(learned), "--nets", "1", "--plain-nets", "0"]) == 0
    assert f"data: {birds}" in " ".join(capsys.readouterr().out.split())
    alone = shutil.copy(learned / "distilled.safetensors", tmp_path / "alone.safetensors")
    assert main(["evaluate", str(alone)]) == 2
    assert "--data FOLDER" in capsys.readouterr().err


def test_a_folder_of_the_name_of_a_data_set(birds, tmp_path, capsys):
    shutil.move(birds, tmp_path / "mnist")
    argv = [
        "own-images",
        "--data",
        str(tmp_path / "mnist"),
        *OPTIONS,
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(["distill", *argv]) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--nets", "1", "--plain-nets", "0"]) == 0
    assert "a folder of images" in " ".join(capsys.readouterr().out.split())
    alone = shutil.copy(tmp_path / "run/distilled.safetensors", tmp_path / "alone.safetensors")
    assert main(["evaluate", str(alone)]) == 2
    assert "--data FOLDER" in capsys.readouterr().err


def test_evaluate_on_other_classes(learned, birds, capsys):
    (birds / "jay").rename(birds / "magpie")
    assert main(["evaluate", str(learned), "--data", str(birds)]) == 3
    assert "magpie" in capsys.readouterr().err


def test_data_makes_any_recipe_a_folders(birds, tmp_path):
    argv = [
        "digits-random",
        "--data",
        str(birds),
        *OPTIONS,
        "--no-evaluate",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(["distill", *argv]) == 0
    assert json.loads((tmp_path / "run/config.json").read_text())["config"]["dataset"] == "folder"


def one_class(birds):
    shutil.rmtree(birds / "jay")


def empty_class(birds):
    (birds / "owl").mkdir()


def corrupt_file(birds):
    (birds / "jay" / "3.png").write_bytes((birds / "jay" / "3.png").read_bytes()[:60])


def no_image(birds):
    (birds / "jay" / "notes.txt").write_text("seen on Tuesday")


def nothing(birds):
    shutil.rmtree(birds)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (one_class, "one class only (pelican)"),
        (empty_class, "owl"),
        (corrupt_file, "3.png"),
        (no_image, "notes.txt"),
        (nothing, "does not exist"),
    ],
)
def test_a_folder_that_cannot_be_learned_from(birds, tmp_path, spoil, said, capsys):
    spoil(birds)
    out = tmp_path / "run"
    assert main(["distill", "own-images", "--data", str(birds), *OPTIONS, "--out", str(out)]) == 3
    shown = capsys.readouterr()
    assert said in shown.err and "Traceback" not in shown.err and "skip_bad" not in shown.err
    assert not out.exists()


def test_a_bad_file_may_be_skipped(birds, tmp_path):
    corrupt_file(birds)
    argv = [
        "own-images",
        "--data",
        str(birds),
        *OPTIONS,
        "--skip-bad",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(["distill", *argv]) == 0
    assert "1 skipped" in dd.DistilledDataset.load(tmp_path / "run").origin["description"]


def test_more_images_than_a_class_has(birds, tmp_path, capsys):
    argv = [
        "own-images",
        "--data",
        str(birds),
        *OPTIONS,
        "--ipc",
        "50",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(["distill", *argv]) == 3
    assert "but 50 images of each" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
