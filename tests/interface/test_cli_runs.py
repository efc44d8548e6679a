"""distill, evaluate, show, inspect on one small run."""

import json
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch

import datadistill as dd
from datadistill.cli import main
from datadistill.data.reference import DataReference
from datadistill.recipes import RECIPES
from datadistill.studies.published import published_number

SMALL = [
    "digits-random",
    "--net",
    "mlp",
    "--net-args",
    "width",
    "16",
    "--iterations",
    "20",
    "--batch",
    "32",
    "--nets",
    "1",
    "--validate-nets",
    "1",
    "--validate-every",
    "10",
    "--checkpoint-every",
    "10",
    "--epochs",
    "2",
    "--nets-tested",
    "3",
]

FEW = ["--nets", "2", "--plain-nets", "0"]
EVALUATION = {
    "accuracy_mean",
    "accuracy_std",
    "accuracy_before_mean",
    "accuracy_plain",
    "nets",
    "images",
    "bytes",
    "bytes_theta_0",
    "dataset",
    "split",
}


@pytest.fixture
def figures(monkeypatch):
    """Figures that take no time; returns the calls."""
    calls = []

    def write_figures(run_path_or_file, out=None):
        calls.append((run_path_or_file, out))
        return [Path(run_path_or_file) / "figures" / "images.png"]

    fake = types.SimpleNamespace(write_figures=write_figures)
    monkeypatch.setitem(sys.modules, "datadistill.visualize.run_figures", fake)
    return calls


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, measured, without figures."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main(["distill", *SMALL, "--out", str(out), "--no-figures", "--quiet"]) == 0
    return out


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_distill_in_the_default_folder_ends_with_what_to_type(
    tmp_path, monkeypatch, capsys, figures
):
    monkeypatch.chdir(tmp_path)
    assert main(["distill", *SMALL, "--seed", "4"]) == 0
    shown = capsys.readouterr()
    *_, wrote, following = shown.out.splitlines()
    assert wrote == (
        "wrote runs/digits-random-s4: distilled.safetensors, figures/ (1), "
        "metrics.jsonl, checkpoints/"
    )
    assert following == "next: datadistill inspect runs/digits-random-s4"
    assert "before training" in shown.out and "plain loop" in shown.out
    assert "359 held out, stratified; not MNIST" in shown.out
    assert "iteration 20/20" in shown.err
    assert figures == [(Path("runs/digits-random-s4"), None)]
    d = dd.DistilledDataset.load("runs/digits-random-s4")
    assert d.accuracies["nets"] == 3 and set(d.accuracies) >= EVALUATION


def test_json_alone_on_stdout(tmp_path, capsys, figures):
    assert (
        main(["distill", *SMALL, "--plain-nets", "0", "--out", str(tmp_path / "run"), "--json"])
        == 0
    )
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert (
        set(found) >= EVALUATION and found["run"] == str(tmp_path / "run") and found["seconds"] > 0
    )
    assert found["figures"] == [str(tmp_path / "run/figures/images.png")]
    assert "learned 10 images" in shown.err and "wrote" in shown.err


def test_figures_that_fail_are_a_warning(tmp_path, monkeypatch, capsys):
    def write_figures(run_path_or_file, out=None):
        raise RuntimeError("no font")

    fake = types.SimpleNamespace(write_figures=write_figures)
    monkeypatch.setitem(sys.modules, "datadistill.visualize.run_figures", fake)
    assert main(["distill", *SMALL, "--out", str(tmp_path / "run"), "--no-evaluate"]) == 0
    shown = capsys.readouterr()
    assert "warning: the figures could not be drawn (RuntimeError: no font)" in shown.err
    assert f"next: datadistill show {tmp_path / 'run'}" in shown.out
    assert dd.DistilledDataset.load(tmp_path / "run").accuracies == {}


def test_an_occupied_folder_is_refused_before_anything_is_loaded(copied, monkeypatch, capsys):
    def never(*_):
        raise AssertionError("data were loaded")

    monkeypatch.setattr("datadistill.training.learning_from_config.load_run_data", never)
    before = {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()}
    assert main(["distill", *SMALL, "--out", str(copied)]) == 2
    assert "which has finished; choose another --out" in capsys.readouterr().err
    with pytest.raises(dd.errors.UsageError, match="already holds a run"):
        dd.distill(dd.recipe("digits-random"), out=copied)
    assert {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()} == before


def test_resume_takes_no_other_recipe_or_folder(copied, capsys):
    assert main(["distill", "mnist-fixed", "--resume", str(copied)]) == 2
    assert "is a run of digits-random" in capsys.readouterr().err
    assert main(["distill", "--resume", str(copied), "--out", "elsewhere"]) == 2
    assert main(["distill", "--resume", str(copied / "nowhere")]) == 2


def test_another_net_leaves_the_recipes_arguments_behind(tmp_path, capsys):
    argv = [
        "digits-random",
        "--net",
        "mlp",
        "--iterations",
        "1",
        "--no-evaluate",
        "--no-figures",
        "--quiet",
    ]
    assert main(["distill", *argv, "--out", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run/config.json").read_text())["config"]["net_args"] == {}


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--net", "lenett"], 2, "did you mean lenet"),
        (["--dataset", "mnist6k"], 2, "did you mean mnist5k"),
        (["--ipc", "500", "--images-from", "real"], 3, "128 training images, but 500 images"),
        (["--init", "xaviar"], 2, "did you mean xavier"),  # noticed by the first draw
        # noticed by the first inner loop
        (["--adjoint", "higher", "--update", "adam"], 2, "higher"),
        (
            ["--dataset", "cifar10", "--data-root", ".", "--no-download"],
            6,
            "offline default: mnist5k",
        ),
    ],
)
def test_what_cannot_be_run_leaves_no_folder(options, code, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["distill", *SMALL, *options, "--out", "run"]) == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_fails_is_named_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.CIFAR10.download", offline)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert main(["distill", *SMALL, "--dataset", "cifar10", "--data-root", "data"]) == 6
    said = capsys.readouterr().err
    assert "no network" in said and "mnist5k" in said and "Traceback" not in said
    assert list((tmp_path / "data").iterdir()) == [] and not (tmp_path / "runs").exists()


def test_mnist5k_says_that_it_is_not_the_mnist_test_set(tmp_path, capsys):
    argv = [
        "mnist5k-fixed",
        "--net",
        "mlp",
        "--net-args",
        "width",
        "8",
        "--iterations",
        "1",
        "--no-figures",
    ]
    assert main(["distill", *argv, "--out", str(tmp_path / "run"), "--json"]) == 0
    shown = capsys.readouterr()
    assert "1,000 held out, stratified; not the MNIST test set" in shown.err
    found = json.loads(shown.out)
    assert found["nets"] == 1 and found["accuracy_std"] == 0.0 and found["bytes_theta_0"] > 0


# --- evaluate


def test_evaluate(copied, capsys):
    assert main(["evaluate", str(copied), "--nets", "3", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert set(found) >= EVALUATION
    assert (found["nets"], found["images"], found["dataset"], found["split"]) == (
        3,
        10,
        "digits",
        "test",
    )
    stored = dd.DistilledDataset.load(copied).accuracies
    assert {k: found[k] for k in stored} == stored
    assert "before training" in shown.err


def test_evaluate_on_another_net_and_split(copied, capsys):
    file = str(copied / "distilled.safetensors")
    assert main(["evaluate", file, *FEW, "--net", "convnet", "--split", "validation"]) == 0
    said = capsys.readouterr().out
    assert (
        "2 held-out initializations of convnet" in said and "tested on the validation split" in said
    )
    assert main(["evaluate", file, "--net", "convnett"]) == 2
    assert "did you mean convnet" in capsys.readouterr().err


def test_evaluate_quantized(copied, capsys):
    assert main(["evaluate", str(copied), *FEW, "--quantize", "8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["quantize"] == 8 and found["bytes"] < dd.DistilledDataset.load(copied).bytes
    assert main(["evaluate", str(copied), "--quantize", "9"]) == 2


def test_evaluate_changes_the_file_only_where_asked(copied, capsys):
    file = copied / "distilled.safetensors"
    before = file.read_bytes()
    assert main(["evaluate", str(copied), *FEW]) == 0
    assert file.read_bytes() == before
    assert main(["evaluate", str(copied), *FEW, "--quantize", "8", "--save"]) == 2
    assert main(["evaluate", str(copied), *FEW, "--save"]) == 0
    assert dd.DistilledDataset.load(file).accuracies["nets"] == 2


def test_a_damaged_file(copied, capsys):
    file = copied / "distilled.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    for command in ("evaluate", "inspect"):
        assert main([command, str(file)]) == 3
        assert "not a complete safetensors file" in capsys.readouterr().err


def test_no_file(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path / "none")]) == 3
    assert main(["inspect", str(tmp_path)]) == 3
    assert "without distilled.safetensors" in capsys.readouterr().err


def other(**changes):
    """A set for another shape or other classes than digits have."""
    parts = {"size": 8, "classes": 10, **changes}
    k, size = parts["classes"], parts["size"]
    net = dd.NetSpec("mlp", {"channels": 1, "size": size, "classes": k})
    return dd.DistilledDataset(
        torch.zeros(k, 1, size, size),
        torch.arange(k),
        torch.tensor([0.1]),
        [torch.arange(k)],
        classes=[str(i) for i in range(k)],
        net=net,
        update=dd.sgd(),
        data=DataReference("digits"),
        normalization=dd.Normalization((0.5,), (0.5,), size=None if size != 8 else 8, channels=1),
    )


@pytest.mark.parametrize(
    ("changes", "said"), [({"size": 9}, "1x9x9"), ({"classes": 7}, "7 classes")]
)
def test_a_set_of_another_shape_or_other_classes(tmp_path, changes, said, capsys):
    other(**changes).save(tmp_path / "d.safetensors")
    assert main(["evaluate", str(tmp_path / "d.safetensors")]) == 3
    assert said in capsys.readouterr().err


# --- show, inspect


def test_show(copied, tmp_path, capsys, figures):
    assert main(["show", str(copied), "--out", str(tmp_path / "here"), "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["figures"] and "wrote " in shown.err
    assert figures == [(copied, tmp_path / "here")]


def test_show_draws(copied, capsys):
    assert main(["show", str(copied)]) == 0
    wrote = [
        line.removeprefix("wrote ")
        for line in capsys.readouterr().out.splitlines()
        if "wrote" in line
    ]
    assert wrote and all(Path(name).stat().st_size > 1000 for name in wrote)


def test_inspect(copied, capsys):
    assert main(["inspect", str(copied), "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["set"]["images"] == [10, 1, 8, 8] and found["set"]["verified"]
    assert found["set"]["origin"]["recipe"] == "digits-random" and found["set"]["epochs"] == 2
    assert (
        found["run"]["checkpoints"] == [10, 20] and found["run"]["last_metrics"]["iteration"] == 20
    )
    assert found["set"]["checksum"] in shown.err and "(matches)" in shown.err


def test_inspect_an_edited_file_without_verifying(copied, capsys):
    file = copied / "distilled.safetensors"
    file.write_bytes(file.read_bytes().replace(b"digits-random", b"digits-rAndom"))
    assert main(["inspect", str(file)]) == 3
    assert main(["inspect", str(file), "--no-verify"]) == 0
    assert "not compared" in capsys.readouterr().out


def test_inspect_an_unfinished_run(copied, capsys):
    (copied / "distilled.safetensors").unlink()
    assert main(["inspect", str(copied)]) == 0
    assert f"datadistill distill --resume {copied}" in capsys.readouterr().out
    assert main(["evaluate", str(copied)]) == 3
    assert "--resume" in capsys.readouterr().err


def test_a_published_number_stands_beside_its_own_recipe_alone(tmp_path, capsys):
    learn = ["distill", "mnist-random", *SMALL[1:], "--no-evaluate", "--no-figures"]
    train = [
        "pretrain",
        "mnist-lenet-cpu",
        "--nets",
        "1",
        "--validation-nets",
        "1",
        "--held-out",
        "1",
    ]
    for words in (learn, [*train, "--net", "mlp"]):
        folder = str(tmp_path / words[0])
        assert main([*words, "--dataset", "digits", "--out", folder, "--json", "--quiet"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["published"] == "-" and "dataset 'mnist' -> 'digits'" in found["changed"]
    page = RECIPES["mnist-random"]
    same = page.make().with_changes(seed=3, device="cpu")
    assert published_number(page.published, page.make(), same) == (page.published, [])
