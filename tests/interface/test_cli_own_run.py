"""A set in its run folder finds the folder of images and the weights that the run had."""

import json
import shutil

import pytest
import torch
from picture_folder import write_pictures
from safetensors.torch import load_file

from datadistill.cli import main
from datadistill.distilled import DistilledDataset
from datadistill.nets import build
from datadistill.recipes import recipe
from datadistill.training import distill

SMALL = ["--net", "mlp", "--net-args", "width", "6", "depth", "1", "--device", "cpu"]
REST = ["--iterations", "1", "--size", "8", "--batch", "8", "--no-figures"]
LEARN = [*SMALL, *REST]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Images of two classes and a net's weights."""
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "pets", 12, 8)
    net = build("mlp", channels=3, size=8, classes=2, width=6, depth=1)
    torch.save(net.state_dict(), "net.pt")
    return tmp_path


def learn(*options):
    assert main(["distill", "own-images", "--data", "pets", *LEARN, *options]) == 0


def test_finetune_in_one_line(here, capsys):
    learn("--weights", "net.pt", "--theta-0", "given", "--out", "run", "--no-evaluate")
    capsys.readouterr()
    argv = ["finetune", "run", "--max-steps", "12", "--batch", "8", "--out"]
    assert main([*argv, "own.safetensors", "--json"]) == 0
    shown = capsys.readouterr()
    assert "data: pets, the folder of the set's own run" in shown.err
    assert "weights: net.pt, those of the set's own run" in shown.err
    found = json.loads(shown.out)
    assert main([*argv, "typed.safetensors", "--data", "pets", "--weights", "net.pt"]) == 0
    assert "own run" not in capsys.readouterr().out
    own, typed = load_file("own.safetensors"), load_file("typed.safetensors")
    assert all(torch.equal(x, typed[k]) for k, x in own.items())
    names = ("accuracy_same_steps", "accuracy_same_seconds", "accuracy_end", "steps_end")
    assert all(found[name] is not None for name in (*names, "rates"))
    assert main(["finetune", "run/distilled.safetensors", "--no-reach", "--out", "a.pt"]) == 0
    assert torch.load("a.pt", weights_only=True).keys() == own.keys()


def test_evaluate_and_compare_find_the_folder(here, capsys):
    learn("--theta-0", "random", "--nets-tested", "2", "--plain-nets", "0", "--out", "run")
    few = ["--nets", "2", "--sets", "1", "--selection-nets", "1"]
    for argv in (
        ["evaluate", "run", "--nets", "2", "--plain-nets", "0"],
        ["compare", "run", *few, "--baselines", "random-real"],
    ):
        capsys.readouterr()
        assert main([*argv, "--json"]) == 0
        own = capsys.readouterr()
        assert "data: pets, the folder of the set's own run" in own.err
        assert main([*argv, "--json", "--data", "pets"]) == 0
        assert capsys.readouterr().out == own.out


MISSING = {
    "the folder": ("pets", "pass its folder (--data FOLDER)"),
    "the weights": ("net.pt", "no weights were given to start from (--weights FILE)"),
    "the config": ("run/config.json", "no weights were given to start from (--weights FILE)"),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_is_no_longer_there_is_asked_for(here, what, capsys):
    path, said = MISSING[what]
    learn("--weights", "net.pt", "--theta-0", "given", "--out", "run", "--no-evaluate")
    shutil.move(path, "elsewhere")
    capsys.readouterr()
    assert main(["finetune", "run", "--no-reach"]) == 2
    assert said in capsys.readouterr().err
    assert not list(here.glob("*finetuned*"))


def test_a_file_elsewhere_has_no_run(here, capsys):
    learn("--weights", "net.pt", "--theta-0", "given", "--out", "run", "--no-evaluate")
    shutil.copy("run/distilled.safetensors", "set.safetensors")
    capsys.readouterr()
    assert main(["finetune", "set.safetensors", "--no-reach"]) == 2
    assert "no weights were given to start from (--weights FILE)" in capsys.readouterr().err


def test_an_output_among_the_images_of_the_run_is_refused(here, capsys):
    learn("--weights", "net.pt", "--theta-0", "given", "--out", "run", "--no-evaluate")
    assert main(["finetune", "run", "--out", "pets/cat/a.pt"]) == 2
    assert "lies inside pets" in capsys.readouterr().err
    assert main(["compare", "run", "--out", "pets/cat/table.csv"]) == 2
    assert "lies inside pets" in capsys.readouterr().err


# --- pretrained values that the set's file names


@pytest.fixture
def by_reference(here):
    """A run for `net.pt` with a fresh last layer; `other.pt` has other values, `half.pt` lacks a
    tensor."""
    learn("--weights", "net.pt", "--theta-0", "fixed", "--out", "run", "--no-evaluate")
    state = torch.load("net.pt", weights_only=True)
    state["layers.0.bias"] += 0.5
    torch.save(state, "other.pt")
    del state["layers.0.weight"]
    torch.save(state, "half.pt")
    return here


def test_evaluate_compare_and_finetune_find_the_weights(by_reference, capsys):
    few = ["--nets", "1", "--sets", "1", "--selection-nets", "1", "--baselines", "random-real"]
    for argv in (["evaluate", "run", "--plain-nets", "0"], ["compare", "run", *few]):
        capsys.readouterr()
        assert main([*argv, "--json"]) == 0
        own = capsys.readouterr()
        assert "weights: net.pt, those of the set's own run" in own.err
        assert main([*argv, "--json", "--weights", "net.pt"]) == 0
        assert capsys.readouterr().out == own.out
    assert main(["finetune", "run", "--no-reach", "--json", "--out", "tuned.pt"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy_before"] >= 0
    own = DistilledDataset.load("run").with_weights("net.pt").train()
    tuned = torch.load("tuned.pt", weights_only=True)
    assert all(torch.equal(x, tuned[k]) for k, x in own.state_dict().items())
    for command in ("show", "inspect"):
        assert main([command, "run"]) == 0


def test_finetune_from_the_values_that_the_file_holds(here, capsys):
    given = ["--weights", "net.pt", "--theta-0", "given", "--embed-weights"]
    learn(*given, "--out", "run", "--no-evaluate")
    (here / "net.pt").unlink()
    assert main(["finetune", "run", "--no-reach", "--out", "tuned.pt"]) == 0
    own = DistilledDataset.load("run").train()
    tuned = torch.load("tuned.pt", weights_only=True)
    assert all(torch.equal(x, tuned[k]) for k, x in own.state_dict().items())
    capsys.readouterr()
    assert main(["evaluate", "run", "--weights", "other.pt"]) == 2
    assert "leave --weights out" in capsys.readouterr().err


WRONG = {
    "other values": (
        ["finetune", "run", "--weights", "other.pt", "--no-reach", "--out", "x"],
        3,
        ("other.pt (sha256:", "not what the set was learned for: net.pt (sha256:", "--any-weights"),
    ),
    "other values, to evaluate": (
        ["evaluate", "run", "--weights", "other.pt"],
        3,
        ("other.pt (sha256:", "not what the set was learned for: net.pt (sha256:"),
    ),
    "half a net": (
        ["finetune", "run", "--weights", "half.pt", "--no-reach", "--out", "x"],
        3,
        ("half.pt does not fit the net", "1 missing (layers.0.weight)"),
    ),
    "another architecture": (
        ["finetune", "run", "--weights", "net.pt", "--net", "convnet", "--out", "x"],
        3,
        ("convnet is not what the set was learned for: net.pt",),
    ),
    "no such file": (
        ["finetune", "run", "--weights", "none.pt", "--out", "x"],
        3,
        ("none.pt does not exist",),
    ),
    "another folder": (
        ["finetune", "run", "--data", "other", "--out", "x"],
        3,
        ("the set has 2 classes (cat, dog), the data other has 3 (",),
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused_before_any_work(by_reference, what, capsys, monkeypatch):
    argv, code, sentences = WRONG[what]
    shutil.copytree("pets", "other")
    shutil.copytree("other/cat", "other/emu")
    monkeypatch.setattr(
        "datadistill.training.net_finetuning.take_steps", lambda *_, **__: pytest.fail("it works")
    )
    capsys.readouterr()
    assert main(argv) == code
    said = capsys.readouterr().err
    assert all(sentence in said for sentence in sentences), said
    assert not (by_reference / "x").exists()


def test_a_module_of_ones_own_is_adapted_in_python(here, digits_set, capsys):
    digits_set.save("own.safetensors")
    assert main(["finetune", "own.safetensors", "--weights", "net.pt"]) == 2
    assert "adapt it in Python: dd.finetune(" in capsys.readouterr().err


@pytest.fixture
def digits_set():
    """A set that was learned with a module of the user's own."""
    config = recipe("digits-random").with_changes(iterations=1, validate_nets=1, batch=8)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    return distill(config.with_changes(theta_0="given"), net=net)


def test_weights_of_a_set_that_holds_them_with_other_statistics(here, capsys):
    """Statistics that were re-estimated are the set's own: the weights' parameters tell."""
    args = {"channels": 3, "size": 8, "classes": 2, "width": 4, "depth": 1, "norm": "batch"}
    torch.save(build("convnet", **args).state_dict(), "bn.pt")
    given = ["--weights", "bn.pt", "--theta-0", "given", "--norm", "reestimated"]
    net = ["--net", "convnet", "--net-args", "width", "4", "depth", "1", "norm", "batch"]
    argv = ["distill", "own-images", "--data", "pets", "--device", "cpu", *REST, *given, *net]
    assert main([*argv, "--embed-weights", "--out", "run", "--no-evaluate"]) == 0
    capsys.readouterr()
    argv = ["finetune", "run", "--no-reach", "--weights", "bn.pt", "--out", "tuned.pt"]
    assert main(argv) == 0
    said = capsys.readouterr()
    assert "warning" not in said.err
    own = DistilledDataset.load("run").train().state_dict()
    tuned = torch.load("tuned.pt", weights_only=True)
    assert all(torch.equal(x, tuned[k]) for k, x in own.items())


def test_any_weights_lets_others_through_with_a_warning(by_reference, capsys):
    argv = ["finetune", "run", "--any-weights", "--no-reach", "--weights"]
    assert main([*argv, "other.pt", "--out", "tuned.pt"]) == 0
    assert "from other values expect little of it" in capsys.readouterr().err
    assert main([*argv, "net.pt", "--out", "own.pt"]) == 0
    assert "warning" not in capsys.readouterr().err
