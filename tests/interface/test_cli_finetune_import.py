"""finetune and import as typed: options, files, JSON, exit codes."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import datadistill as dd
from datadistill.cli import main
from datadistill.data.reference import DataReference
from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError
from datadistill.innerloop import sgd
from datadistill.nets.spec import NetSpec
from datadistill.objectives import Attack
from datadistill.pool import Pool
from datadistill.starts import Start

SPEC = NetSpec("mlp", {"channels": 1, "size": 8, "classes": 10, "width": 16, "depth": 1})


@pytest.fixture(scope="module")
def digits():
    return dd.load("digits")


def tensors(seed, net=SPEC):
    g = torch.Generator().manual_seed(seed)
    return {k: 0.2 * torch.randn(p.shape, generator=g) for k, p in net.build().named_parameters()}


@pytest.fixture
def here(tmp_path, monkeypatch, digits):
    """A folder with a set of real digits, `set.safetensors`, and two nets."""
    monkeypatch.chdir(tmp_path)
    d = DistilledDataset(
        digits.train.images[:120],
        digits.train.labels[:120],
        torch.full((4,), 0.3),
        list(torch.arange(120).split(30)),
        classes=digits.classes,
        normalization=digits.normalization,
        net=SPEC,
        update=sgd(),
        data=DataReference("digits"),
    )
    d.save("set.safetensors")
    save_file(tensors(0), "net.safetensors")
    torch.save(tensors(0), "net.pt")
    return tmp_path


def pool(digits, net=SPEC, held_out=2, **changes):
    stacked = [tensors(seed, net) for seed in range(2 + held_out)]
    parts = {
        "nets": 1,
        "validation_nets": 1,
        "held_out": held_out,
        "net": net,
        "dataset": "mnist5k",
        "classes": digits.classes,
        "normalization": digits.normalization,
        "accuracies": tuple(50.0 for _ in stacked),
        **changes,
    }
    return Pool({k: torch.stack([one[k] for one in stacked]) for k in stacked[0]}, **parts)


# --- finetune


@pytest.mark.parametrize("weights", ["net.safetensors", "net.pt"])
def test_finetune_writes_the_net_and_says_what_it_took(here, weights, capsys):
    argv = ["finetune", "set.safetensors", "--weights", weights, "--max-steps", "200"]
    argv += ["--out", "tuned.safetensors"]
    assert main([*argv, "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    times = {"steps", "seconds", "steps_ordinary", "seconds_ordinary"}
    assert {"accuracy_before", "accuracy_after", *times} <= set(found)
    assert found["steps"] == 4 and found["accuracy_after"] > found["accuracy_before"]
    assert found["steps_ordinary"] % 10 == 0 and found["out"] == "tuned.safetensors"
    net = SPEC.build()
    net.load_state_dict(tensors(0))
    by_hand = DistilledDataset.load("set.safetensors").train(net)
    tuned = load_file("tuned.safetensors")
    assert all(torch.equal(p, tuned[k]) for k, p in by_hand.state_dict().items())
    assert "after its 4 steps" in shown.err and "ordinary fine-tuning (Adam" in shown.err
    assert main(argv) == 2
    assert "tuned.safetensors exists already" in capsys.readouterr().err
    (here / "tuned.safetensors").unlink()
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert (
        f"reached after {found['steps_ordinary']} steps" in said
        and "wrote tuned.safetensors" in said
    )


def test_finetune_that_is_not_reached_and_that_is_not_asked(here, capsys):
    argv = ["finetune", "set.safetensors", "--weights", "net.safetensors"]
    assert main([*argv, "--max-steps", "3", "--lr", "1e-7", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["steps_ordinary"] is None and found["seconds_ordinary"] > 0
    assert "not reached in 3 steps" in shown.err
    assert (here / "set-finetuned.safetensors").exists() and found[
        "out"
    ] == "set-finetuned.safetensors"
    assert main([*argv, "--no-reach"]) == 2  # the default place is taken
    assert "set-finetuned.safetensors exists already; pass --out FILE" in capsys.readouterr().err
    assert main([*argv, "--no-reach", "--json", "--out", "second.safetensors"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["seconds_ordinary"] is None and "ordinary" not in shown.err


def test_finetune_from_a_run_folder_writes_beside_it(here, capsys):
    (here / "runs" / "a").mkdir(parents=True)
    (here / "set.safetensors").rename(here / "runs" / "a" / "distilled.safetensors")
    assert main(["finetune", "runs/a", "--weights", "net.pt", "--no-reach"]) == 0
    assert (here / "runs" / "a-finetuned.safetensors").exists()
    assert "wrote runs/a-finetuned.safetensors" in capsys.readouterr().out


def test_finetune_what_it_wrote_again(here):
    argv = ["finetune", "set.safetensors", "--no-reach", "--weights"]
    assert main([*argv, "net.pt", "--out", "1.safetensors"]) == 0
    assert main([*argv, "1.safetensors", "--out", "2"]) == 0
    assert (here / "1.safetensors").read_bytes() != (here / "2").read_bytes()


def test_finetune_a_net_of_a_pool(here, digits, capsys):
    pool(digits).save("pool")
    argv = ["finetune", "set.safetensors", "--no-reach", "--weights", "pool", "--pool-net"]
    assert main([*argv, "1", "--out", "a"]) == 0
    net = SPEC.build()
    net.load_state_dict(tensors(3))  # one to learn with, one to look at, then those held out
    by_hand = DistilledDataset.load("set.safetensors").train(net)
    assert all(torch.equal(p, load_file("a")[k]) for k, p in by_hand.state_dict().items())
    assert main([*argv, "2", "--out", "b"]) == 2
    assert "holds out 2 nets, 0..1" in capsys.readouterr().err
    assert not (here / "b").exists()


def test_finetune_pools_that_do_not_fit(here, digits, capsys):
    argv = ["finetune", "set.safetensors", "--weights", "pool", "--pool-net", "0"]
    pool(digits, NetSpec("mlp", {**SPEC.args, "width": 4})).save("pool")
    assert main(argv) == 2
    assert "the pool holds nets of mlp with other tensors" in capsys.readouterr().err
    names = tuple("abcdefghij")
    pool(digits, classes=names).save("pool")
    assert main(argv) == 3
    assert "10 classes (a, b, c, d, ...)" in capsys.readouterr().err


def test_finetune_another_architecture(here):
    other = NetSpec("mlp", {**SPEC.args, "width": 4})
    save_file(tensors(0, other), "narrow.safetensors")
    argv = [
        "finetune",
        "set.safetensors",
        "--weights",
        "narrow.safetensors",
        "--no-reach",
        "--out",
        "a",
    ]
    assert main([*argv, "--net", "mlp", "--net-args", "width", "4", "depth", "1"]) == 0
    assert load_file("a")["layers.0.weight"].shape == (4, 64)


def test_finetune_weights_that_do_not_fit(here, capsys):
    wrong = tensors(0)
    wrong["layers.0.weight"] = torch.zeros(16, 63)
    save_file(wrong, "wrong.safetensors")
    assert main(["finetune", "set.safetensors", "--weights", "wrong.safetensors"]) == 3
    assert "layers.0.weight" in capsys.readouterr().err
    wrong = tensors(0)  # a last layer for other classes
    wrong["layers.2.weight"], wrong["layers.2.bias"] = torch.zeros(5, 16), torch.zeros(5)
    save_file(wrong, "wrong.safetensors")
    assert main(["finetune", "set.safetensors", "--weights", "wrong.safetensors"]) == 3
    assert "layers.2.weight" in capsys.readouterr().err
    assert main(["finetune", "set.safetensors", "--weights", "nowhere.safetensors"]) == 3
    assert "nowhere.safetensors" in capsys.readouterr().err
    assert not list(here.glob("*finetuned*"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-steps", "0"], "max_steps is 0"),
        (["--every", "0"], "every is 0"),
        (["--batch", "0"], "batch is 0"),
        (["--threads", "0"], "threads is 0"),
        (["--net-args", "width", "4"], "name the architecture"),
        (["--out", "net.safetensors"], "would be lost"),
        (["--out", "set.safetensors"], "would be lost"),
        (
            ["--out", "nowhere/net.safetensors", "--no-reach"],
            "cannot write to nowhere/net.safetensors",
        ),
        (["--out", "net.pt"], "net.pt exists already"),
        (["--out", "new.onnx"], "ends in '.onnx', but a net is written as .safetensors"),
        (["--lr", "0"], "lr is 0"),
    ],
)
def test_finetune_refuses(here, options, said, capsys):
    before = {p.name: p.read_bytes() for p in here.iterdir()}
    assert main(["finetune", "set.safetensors", "--weights", "net.safetensors", *options]) == 2
    assert said in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in here.iterdir()} == before


def test_finetune_a_set_for_one_fixed_initialization_warns(here, capsys):
    d = DistilledDataset.load("set.safetensors")
    d.theta_0 = tensors(5)
    d.save("fixed.safetensors")
    argv = ["finetune", "fixed.safetensors", "--weights", "net.safetensors", "--no-reach"]
    assert main(argv) == 0
    assert "learned for one fixed initialization" in capsys.readouterr().err


def test_finetune_the_weights_a_set_was_learned_for(here, capsys):
    """They were trained for other classes: the set carries the last layer that was drawn for it."""
    from datadistill.nets.weights import read_weights

    theta_0 = tensors(5)
    other = {**theta_0, "layers.2.weight": torch.zeros(3, 16), "layers.2.bias": torch.zeros(3)}
    save_file(other, "pretrained.safetensors")
    d = DistilledDataset.load("set.safetensors")
    d.theta_0 = theta_0
    d.start = Start(
        "weights",
        one=True,
        fingerprint=read_weights("pretrained.safetensors", SPEC.build()).fingerprint,
    )
    d.save("learned.safetensors")
    argv = ["finetune", "learned.safetensors", "--no-reach", "--weights"]
    assert main([*argv, "pretrained.safetensors", "--out", "a"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert all(torch.equal(p, load_file("a")[k]) for k, p in d.train().state_dict().items())
    save_file({**other, "layers.0.bias": torch.ones(16)}, "others.safetensors")
    assert main([*argv, "others.safetensors", "--out", "b"]) == 3
    said = capsys.readouterr().err
    assert "others.safetensors (sha256:" in said and "is not what the set was learned for" in said
    assert main([*argv, "others.safetensors", "--any-weights", "--out", "b"]) == 0
    assert "learned for one fixed initialization" in capsys.readouterr().err
    adapted = load_file("b")
    assert not torch.equal(adapted["layers.0.bias"], load_file("a")["layers.0.bias"])


# --- import


def results(digits, **how):
    step = (digits.train.images[:10], digits.train.labels[:10])
    torch.save([(*step, torch.tensor([0.1 * t])) for t in (1, 2, 3)], "results.pth", **how)
    return [
        "import",
        "results.pth",
        "--dataset",
        "digits",
        "--net",
        "mlp",
        "--mean",
        "0.3",
        "--std",
        "0.4",
    ]


def test_import(here, digits, capsys):
    argv = results(digits)
    assert main([*argv, "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert (found["images"], found["steps"], found["epochs"]) == (10, 3, 3)
    assert found["out"] == "distilled.safetensors" and "wrote distilled.safetensors" in shown.err
    d = DistilledDataset.load("distilled.safetensors")
    assert torch.equal(d.steps()[2][0], digits.train.images[:10]) and d.normalization.mean == (0.3,)
    assert found["sha256"] == d.origin["sha256"]
    assert main(["inspect", "distilled.safetensors"]) == 0
    assert main(argv) == 2
    assert "exists already; pass --out" in capsys.readouterr().err
    assert main([*argv, "--out", "other"]) == 0
    assert (here / "other").read_bytes() == (here / "distilled.safetensors").read_bytes()
    assert "the file does not say so itself" in capsys.readouterr().out


def test_import_with_its_initialization(here, digits):
    argv = [*results(digits), "--net-args", "width", "16", "depth", "1", "--weights", "net.pt"]
    assert main([*argv, "--out", "fixed"]) == 0
    d = DistilledDataset.load("fixed")
    assert d.net.args["width"] == 16 and all(
        torch.equal(p, d.theta_0[k]) for k, p in tensors(0).items()
    )


def test_import_of_an_attack(here, digits):
    assert main([*results(digits), "--attack", "0", "1", "--source", "digits", "--out", "a"]) == 0
    assert DistilledDataset.load("a").objective == Attack(0, 1, 10)


def test_import_measured_accuracies(here, capsys):
    torch.save(
        (torch.tensor([0, 30]), torch.tensor([[0.125], [0.75]]), torch.ones(2, 1)), "results.pth"
    )
    assert main(["import", "results.pth", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "steps": [0, 30],
        "accuracy_mean": [12.5, 75.0],
        "accuracy_std": [0.0, 0.0],
        "nets": 1,
    }
    assert main(["import", "results.pth"]) == 0
    assert "75.00\n" in capsys.readouterr().out
    assert main(["import", "results.pth", "--out", "a"]) == 2
    assert "holds measured accuracies" in capsys.readouterr().err and not (here / "a").exists()


def test_import_refuses(here, digits, capsys):
    argv = results(digits)
    for wrong, code, said in [
        (argv[:2], 2, "pass --dataset NAME"),
        (argv[:-2], 2, "--mean and --std go together"),
        (argv[:4], 2, "no published numbers are known for digits"),
        (["import", "none.pth", "--dataset", "mnist"], 3, "none.pth does not exist"),
        (
            ["import", "results.pth", "--dataset", "cifar10"],
            3,
            "entry 0: images have 1 channels, wanted 3",
        ),
        (["import", "results.pth", "--dataset", "mnist"], 2, "28 and 32 px"),
    ]:
        assert main(wrong) == code
        assert said in capsys.readouterr().err
    assert not (here / "distilled.safetensors").exists()


@pytest.mark.parametrize("name", ["distilled.safetensors", "pool.safetensors"])
def test_no_command_may_write_over_what_it_read(tmp_path, name):
    from datadistill.cli.outputs import refuse_inputs

    read = tmp_path / name
    read.write_bytes(b"x")
    link = tmp_path / "link"
    link.symlink_to(read)
    for out, given in ((read, tmp_path), (link, read), (read, read)):
        with pytest.raises(UsageError, match="itself, which would be lost"):
            refuse_inputs(out, None, given)
    refuse_inputs(tmp_path / "new", tmp_path, read)
