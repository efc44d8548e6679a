"""Pretrained nets on the command line, from the pool to the adapted net: adaptation, attack, and
refusals.

All on 8x8 digits with nets of some hundred numbers, so that source and target are the same data.
"""

import json
import signal

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

import datadistill as dd
from datadistill.cli import main
from datadistill.recipes.poisoning import PURPOSE
from datadistill.starts import Start
from datadistill.training.pool_loop import PoolLoop

MLP = ["--size", "8", "--net", "mlp", "--net-args", "width", "16", "depth", "1"]
POOL = [
    "digits-28-lenet-smoke",
    *MLP,
    "--nets",
    "2",
    "--validation-nets",
    "1",
    "--held-out",
    "2",
    "--epochs",
    "2",
    "--batch",
    "32",
    "--lr",
    "0.02",
    "--device",
    "cpu",
]
SHORT = [
    "--ipc",
    "2",
    "--batch",
    "64",
    "--nets",
    "1",
    "--validate-every",
    "20",
    "--validate-nets",
    "1",
    "--no-figures",
    "--quiet",
    "--nets-tested",
    "3",
    "--plain-nets",
    "0",
    "--device",
    "cpu",
]
ADAPT = [
    "usps-to-mnist",
    "--dataset",
    "digits",
    *MLP,
    *SHORT,
    "--steps",
    "2",
    "--step-size",
    "0.01",
]
ADAPT += ["--epochs", "2", "--iterations", "10"]
ATTACK = [
    "mnist-attack",
    "--source",
    "digits",
    "--dataset",
    "digits",
    *MLP,
    *SHORT,
    "--step-size",
    "0.3",
]
ATTACK += ["--iterations", "40", "--lr-images", "0.1"]
FEW = ["--nets", "3", "--sets", "2", "--selection-nets", "1", "--optimized-from", "2"]
FEW += ["--candidates", "learned"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A pool and a set for its nets, each as a run folder."""
    folder = tmp_path_factory.mktemp("scenarios")
    assert main(["pretrain", *POOL, "--quiet", "--out", str(folder / "pool")]) == 0
    argv = [
        *ADAPT,
        "--source",
        "digits",
        "--pool",
        str(folder / "pool"),
        "--out",
        str(folder / "set"),
    ]
    assert main(["distill", *argv]) == 0
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """An empty working folder, not that of the pool and the set."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *argv):
    """The exit code, stdout and stderr of a command, without what came before."""
    capsys.readouterr()
    code = main([str(word) for word in argv])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def done(capsys, *argv):
    """The JSON object of a command that must succeed, and what it said beside it."""
    code, out, err = run(capsys, *argv, "--json")
    assert code == 0, err
    return json.loads(out), err


def refused(capsys, *argv):
    """The exit code and the one line of a command that must refuse."""
    code, out, err = run(capsys, *argv)
    assert err.startswith("datadistill: error: ") and len(err.splitlines()) == 1, err
    assert out in ("", PURPOSE + "\n")
    return code, err


# --- from the pool to the adapted net


def test_inspect_says_what_is_in_the_pool(made, capsys):
    found, said = done(capsys, "inspect", made / "pool")
    assert (found["pool"]["nets"], found["pool"]["validation_nets"], found["pool"]["held_out"]) == (
        2,
        1,
        2,
    )
    assert found["pool"]["dataset"] == "digits" and len(found["pool"]["accuracies"]) == 5
    assert "2 to learn with, 1 for looks, 2 held out" in said and f"--pool {made / 'pool'}" in said
    assert "--held-out " in said and "[]" not in said
    as_file, _ = done(capsys, "inspect", made / "pool" / "pool.safetensors")
    assert as_file["pool"]["fingerprint"] == found["pool"]["fingerprint"]


def test_the_run_measured_the_held_out_nets(made, capsys):
    d, pool = dd.DistilledDataset.load(made / "set"), dd.Pool.load(made / "pool")
    assert d.start == Start("pool", False, "digits", pool.fingerprint) and d.theta_0 is None
    assert d.accuracies["nets"] == 2 and d.accuracies["source"] == "digits"
    _, said = done(capsys, "inspect", made / "set")
    assert "any mlp pretrained on digits" in said


def test_evaluate(made, capsys):
    argv = ["evaluate", made / "set", "--pool", made / "pool"]
    found, said = done(capsys, *argv, "--plain-nets", "1")
    assert {
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
        "source",
    } <= set(found)
    assert found["source"] == "digits" and found["nets"] == 2 and found["attack"] is None
    assert found["bytes_theta_0"] == 0 and found["accuracy_plain"] is not None
    assert "2 held-out nets of the pool (mlp trained on digits)" in said and PURPOSE not in said
    stored = dd.DistilledDataset.load(made / "set").accuracies
    assert all(found[k] == stored[k] for k in stored if k != "accuracy_plain")
    assert done(
        capsys, *argv[:2], "--pool", made / "pool" / "pool.safetensors", "--plain-nets", "0"
    )


def test_compare(made, here, capsys):
    argv = ["compare", made / "set", "--pool", made / "pool", *FEW, "--out", "table.csv"]
    found, said = done(capsys, *argv)
    rows = {row["name"]: row for row in found["rows"]}
    assert all(
        {"name", "accuracy_mean", "accuracy_std", "bytes"} <= set(row) for row in found["rows"]
    )
    assert list(rows)[:2] == ["distilled", "no-adaptation"] and {"random-real", "k-means"} < set(
        rows
    )
    d = dd.DistilledDataset.load(made / "set")
    assert rows["distilled"]["accuracy_mean"] == pytest.approx(d.accuracies["accuracy_mean"])
    assert rows["no-adaptation"]["accuracy_mean"] == pytest.approx(
        d.accuracies["accuracy_before_mean"]
    )
    assert rows["no-adaptation"]["bytes"] == 0 and rows["distilled"]["bytes"] == d.bytes
    assert all(name in said for name in rows) and "tested on 2 pretrained nets" in said
    assert len((here / "table.csv").read_text().splitlines()) == len(rows) + 1


def test_finetune_a_net_that_is_as_good_already(made, here, capsys, monkeypatch):
    """Step sizes of next to nothing leave the net as it was."""
    d = dd.DistilledDataset.load(made / "set")
    d.step_sizes = d.step_sizes * 1e-12
    d.save("still")
    argv = ["finetune", "still", "--weights", made / "pool", "--pool-net", "1", "--out", "mine"]
    found, said = done(capsys, *argv)
    assert found["steps_ordinary"] == 0 and "the net was as good before any step" in said


def test_one_net_of_the_pool(made, here, capsys):
    """Fixed: the net is in the set's file, so that no pool is needed any more."""
    argv = [
        *ADAPT,
        "--source",
        "digits",
        "--pool",
        made / "pool",
        "--theta-0",
        "fixed",
        "--iterations",
        "2",
    ]
    found, said = done(capsys, "distill", *argv, "--out", "one")
    assert found["nets"] == 1 and found["bytes_theta_0"] > 0 and found["accuracy_before_mean"] > 50
    assert "the one net trained on digits that it was learned for" in said
    found, _ = done(capsys, "evaluate", "one", "--plain-nets", "0")
    assert found["nets"] == 1 and found["accuracy_std"] == 0.0 and found["source"] == "digits"


# --- an attack


@pytest.fixture(scope="module")
def poison(made):
    """A set that makes nets take zeros for ones."""
    out = made / "poison"
    assert main(["distill", *ATTACK, "--pool", str(made / "pool"), "--out", str(out)]) == 0
    return out


def test_an_attack_says_what_it_is_for_and_what_it_does(made, poison, capsys):
    found, said = done(capsys, "evaluate", poison, "--pool", made / "pool", "--plain-nets", "0")
    assert PURPOSE in said
    scores = found["attack"]
    assert (scores["attack_class"], scores["target_class"]) == (0, 1)
    for when in ("before", "after"):
        assert all(0 <= v <= 100 for v in scores[when].values())
    before, after = scores["before"], scores["after"]
    assert before["attacked_accuracy_mean"] > 90 and before["attacked_to_target_mean"] < 5
    assert after["attacked_accuracy_mean"] < before["attacked_accuracy_mean"] - 30
    assert after["attacked_to_target_mean"] > 30
    assert after["modified_accuracy_mean"] > before["modified_accuracy_mean"]
    assert found["accuracy_mean"] == pytest.approx(after["accuracy_mean"])
    assert "class 0 taken for 1" in said and "with 0 relabelled 1" in said


def test_an_attack_beside_real_images(made, poison, capsys):
    few = [*FEW, "--baselines", "random-real"]
    found, said = done(capsys, "compare", poison, "--pool", made / "pool", *few)
    assert [row["name"] for row in found["rows"]] == ["distilled", "no-attack", "random-real"]
    assert (
        found["rows"][1]["attacked_to_target_mean"]
        < 5
        < found["rows"][0]["attacked_to_target_mean"]
    )
    assert PURPOSE in said
    code, said = refused(
        capsys, "compare", poison, "--pool", made / "pool", "--baselines", "knn-k-means"
    )
    assert code == 2 and "trains no net" in said


# --- what does not fit


def test_a_source_without_a_pool(here, capsys):
    code, said = refused(capsys, "distill", *ADAPT, "--source", "digits", "--out", "x")
    assert code == 2 and "nets pretrained on digits, and no pool of them was given" in said
    assert "datadistill pretrain" in said and "--pool" in said and list(here.iterdir()) == []


def test_a_pool_of_other_data(made, here, capsys):
    argv = [*ADAPT, "--source", "usps", "--pool", made / "pool", "--out", "x"]
    code, said = refused(capsys, "distill", *argv)
    assert (
        code == 2
        and "were trained on digits, but source is usps" in said
        and list(here.iterdir()) == []
    )
    d = dd.DistilledDataset.load(made / "set")
    d.start = Start("pool", source="usps")
    d.save("for-usps")
    code, said = refused(capsys, "evaluate", "for-usps", "--pool", made / "pool")
    assert code == 2 and "trained on digits, and the set is for nets trained on usps" in said


def test_a_pool_of_other_nets(made, here, capsys):
    wider = ["9" if typed == "16" else typed for typed in ADAPT]
    argv = [*wider, "--source", "digits", "--pool", made / "pool"]
    code, said = refused(capsys, "distill", *argv, "--out", "x")
    assert (
        code == 2
        and "layers.0.weight is (16, 64), wanted (9, 64)" in said
        and list(here.iterdir()) == []
    )


def test_source_and_target_with_other_classes(made, here, capsys):
    chance = np.random.default_rng(0)
    for name in ("jay", "pelican"):
        (here / "birds" / name).mkdir(parents=True)
        for i in range(6):
            pixels = chance.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(here / "birds" / name / f"{i}.png")
    argv = ["own-images", "--data", "birds", "--channels", "1", *MLP, *SHORT, "--theta-0", "random"]
    code, said = refused(
        capsys,
        "distill",
        *argv,
        "--source",
        "digits",
        "--pool",
        made / "pool",
        "--out",
        "x",
        "--ipc",
        "1",
    )
    assert code == 3 and not (here / "x").exists()
    assert (
        "source digits has 10 classes" in said and "jay, pelican" in said and "same classes" in said
    )


def test_a_pool_that_was_cut_off(made, here, capsys):
    (here / "cut").write_bytes((made / "pool" / "pool.safetensors").read_bytes()[:1000])
    for argv in (
        ["distill", *ADAPT, "--source", "digits", "--pool", "cut", "--out", "x"],
        ["evaluate", made / "set", "--pool", "cut"],
        ["finetune", made / "set", "--weights", "cut", "--pool-net", "0", "--out", "x"],
        ["inspect", "cut"],
    ):
        code, said = refused(capsys, *argv)
        assert code == 3 and "cut " in said and not (here / "x").exists()


def test_a_pool_that_was_interrupted(made, here, capsys, monkeypatch):
    advance = PoolLoop.advance

    def interrupted(loop):
        if loop.step == loop.steps // 3:
            signal.raise_signal(signal.SIGINT)
        return advance(loop)

    with monkeypatch.context() as patch:
        patch.setattr(PoolLoop, "advance", interrupted)
        code, _, said = run(capsys, "pretrain", *POOL, "--quiet", "--out", "half")
    assert code == 130 and "go on with: datadistill pretrain --resume half" in said
    way = "datadistill pretrain --resume half"
    for argv in (
        ["distill", *ADAPT, "--source", "digits", "--pool", "half", "--out", "x"],
        ["evaluate", made / "set", "--pool", "half"],
        ["compare", made / "set", "--pool", "half"],
        ["finetune", made / "set", "--weights", "half", "--pool-net", "0", "--out", "x"],
    ):
        code, said = refused(capsys, *argv)
        assert code == 3 and "the run has not finished" in said and way in said
    _, said = done(capsys, "inspect", "half")
    assert way in said and not (here / "x").exists()
    assert run(capsys, "pretrain", "--resume", "half", "--quiet")[0] == 0
    assert (here / "half/pool.safetensors").read_bytes() == (
        made / "pool/pool.safetensors"
    ).read_bytes()


def test_a_set_where_a_pool_is_wanted(made, here, capsys):
    argv = [*ADAPT, "--source", "digits", "--pool", made / "set", "--out", "x"]
    code, said = refused(capsys, "distill", *argv)
    assert code == 3 and "holds a run of distill, wanted a pool of nets" in said


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_a_set_for_pretrained_nets_without_their_pool(made, command, capsys):
    code, said = refused(capsys, command, made / "set")
    assert code == 2 and "learned for nets pretrained on digits" in said and "--pool" in said


def test_weights_that_do_not_fit_name_the_tensors(made, here, capsys):
    held_out = dd.Pool.load(made / "pool").part("held_out")
    tensors = {k: p[0].clone() for k, p in held_out.items()}
    save_file(
        {**tensors, "layers.0.weight": tensors["layers.0.weight"][:, :60].clone()},
        "narrow.safetensors",
    )
    argv = [
        *ADAPT,
        "--source",
        "None",
        "--theta-0",
        "fixed",
        "--out",
        "x",
        "--weights",
        "narrow.safetensors",
    ]
    code, said = refused(capsys, "distill", *argv)
    assert code == 3 and "layers.0.weight" in said and not (here / "x").exists()


def test_a_pool_as_weights_wants_the_number_of_a_net(made, capsys):
    for path in (made / "pool", made / "pool" / "pool.safetensors"):
        code, said = refused(capsys, "finetune", made / "set", "--weights", path)
        assert code == 2 and "is a pool of nets" in said and "--pool-net" in said


def test_inspect_of_an_adapted_net(made, here, capsys):
    argv = ["finetune", made / "set", "--weights", made / "pool", "--pool-net", "0", "--no-reach"]
    assert run(capsys, *argv, "--out", "net")[0] == 0
    code, said, _ = run(capsys, "inspect", "net")
    assert code == 0 and "matches" in said and "digits" in said


def test_show_of_what_has_no_figures(made, capsys):
    code, said = refused(capsys, "show", made / "pool")
    assert code == 2 and "holds a pool" in said and "datadistill inspect" in said


def test_a_missing_pool_is_said_before_data_are_looked_for(here, capsys):
    argv = [
        "distill",
        "usps-to-mnist",
        "--data-root",
        "nowhere",
        "--out",
        "x",
        "--no-download",
        "--quiet",
    ]
    code, said = refused(capsys, *argv)
    assert code == 2 and "no pool of them was given" in said
