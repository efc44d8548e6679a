"""Pools on the command line: signals, edited and damaged files, other data, options that do not
fit."""

import json
import shutil
import socket

import pytest
import torch
from small_run import contents

import datadistill as dd
from datadistill.cli import main
from datadistill.errors import DataError, UsageError
from datadistill.pool import POOL, Pool
from datadistill.runs.tensors import pack, unpack
from datadistill.training.pool_loop import PoolLoop

SMALL = [
    "digits-28-lenet-smoke",
    "--size",
    "8",
    "--net",
    "mlp",
    "--net-args",
    "width",
    "16",
    "depth",
    "1",
    "--nets",
    "2",
    "--validation-nets",
    "1",
    "--held-out",
    "1",
    "--batch",
    "200",
    "--lr",
    "0.02",
]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A pool that nobody interrupted."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("straight") / "run"
    assert main(["pretrain", *SMALL, "--out", str(out)]) == 0
    torch.set_num_threads(before)
    return out


# --- the command


def test_it_says_what_it_wrote_and_how_good_the_nets_are(straight, tmp_path, capsys):
    assert main(["pretrain", *SMALL, "--out", str(tmp_path / "run"), "--json"]) == 0
    shown = capsys.readouterr()
    found, pool = json.loads(shown.out), Pool.load(straight)
    assert found["fingerprint"] == pool.fingerprint
    assert (found["nets"], found["validation_nets"], found["held_out"]) == (2, 1, 1)
    accuracies = torch.tensor(pool.accuracies, dtype=torch.float64)
    assert found["accuracy_mean"] == pytest.approx(float(accuracies.mean()))
    assert found["accuracy_std"] == pytest.approx(float(accuracies.std(correction=0)))
    assert (
        f"wrote {tmp_path / 'run'}: pool.safetensors" in shown.err
        and "next: datadistill" in shown.err
    )
    assert "net 4/4" in shown.err


def test_it_is_written_below_runs_by_default(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", *SMALL, "--nets", "1", "--epochs", "1", "--seed", "3", "--quiet"]) == 0
    assert Pool.load(tmp_path / "runs/digits-28-lenet-smoke-s3").total == 3
    assert main(["pretrain", *SMALL, "--seed", "3"]) == 2
    assert "already holds a run of pool" in capsys.readouterr().err


def test_the_recipes_are_listed_and_shown(capsys):
    assert main(["recipes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["pools"]
    assert {"mnist-lenet", "mnist-lenet-cpu", "digits-28-lenet-smoke"} <= {
        p["name"] for p in listed
    }
    assert main(["recipes", "usps-lenet"]) == 0
    said = capsys.readouterr().out
    assert "--decay-epochs" in said and "datadistill pretrain usps-lenet" in said


# --- stopped and gone on


def test_what_a_killed_finished_pool_left_is_removed(straight, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    (run / "lock").write_text(
        json.dumps({"pid": 2**22 + 1, "host": socket.gethostname(), "started": 1})
    )
    (run / "nets").mkdir()
    (run / ".pool.safetensors.x.tmp").write_text("")
    with pytest.warns(UserWarning, match="took over the lock of pid"):
        dd.pretrain(None, out=run, resume=True)
    assert contents(run) == contents(straight) and not (run / "nets").exists()


@pytest.mark.filterwarnings("ignore:.*hardly better than chance")
def test_other_data_from_python_are_refused(tmp_path, monkeypatch):
    x, y = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
    mine, other = (
        dd.RealData.from_tensors(part, y, test_images=part, test_labels=y, validation=12)
        for part in (x, 1 - x)
    )
    config = dd.PoolConfig(net="mlp", net_args={"width": 4}, nets=1, validation_nets=1, held_out=1)
    with monkeypatch.context() as patch:
        patch.setattr(PoolLoop, "advance", _dies)
        with pytest.raises(KeyboardInterrupt):
            dd.pretrain(config, data=mine, out=tmp_path / "run")
    with pytest.raises(UsageError, match=r"go on from Python with pretrain\(None, "):
        dd.pretrain(None, out=tmp_path / "run", resume=True)
    with pytest.raises(DataError, match="started on other data"):
        dd.pretrain(None, data=other, out=tmp_path / "run", resume=True)
    assert dd.pretrain(None, data=mine, out=tmp_path / "run", resume=True).dataset == "custom"


def _dies(loop):
    raise KeyboardInterrupt


# --- files that are not a pool


def nan_in(name, n):
    def change(tensors, meta):
        tensors[name][n].view(-1)[0] = float("nan")

    return change


CHANGES = {
    "counts": (lambda t, m: m.update(nets=3), r"accuracies are .*wanted 5 numbers"),
    "no nets": (lambda t, m: m.update(nets=0), "nets is 0, wanted a whole number from 1"),
    "true nets": (lambda t, m: m.update(held_out=True), "held_out is True"),
    "a net less": (lambda t, m: t.update({k: p[:3] for k, p in t.items()}), "wanted floats"),
    "whole numbers": (
        lambda t, m: t.update({k: p.long() for k, p in t.items()}),
        "int64 .*wanted floats",
    ),
    "a tensor gone": (lambda t, m: t.pop("layers.0.weight"), r"'layers.0.weight' is missing"),
    "a tensor more": (lambda t, m: t.update(x=torch.zeros(4)), r"'x' is floats .*wanted none"),
    "nan": (nan_in("layers.0.bias", 2), "'layers.0.bias' of net 2 is not finite"),
    "another net": (lambda t, m: m["net"]["args"].update(width=17), "of the net mlp"),
    "no such net": (lambda t, m: m["net"].update(name="mlpp"), "did you mean mlp"),
    "custom net": (
        lambda t, m: m["net"].update(name="custom"),
        "modules of the user's own.*is missing",
    ),
    "buffers": (lambda t, m: m.update(buffers=["layers.0.bias"]), r"wanted \[\] of the net mlp"),
    "custom buffers": (
        lambda t, m: (m["net"].update(name="custom"), m.update(buffers=["x"])),
        r"buffers are \['x'\] of 4 tensors, wanted names of some",
    ),
    "custom count": (
        lambda t, m: (
            m["net"].update(name="custom"),
            m.update(buffers=[]),
            t.update(x=torch.zeros(3)),
        ),
        "'x' is torch.float32 .*wanted real numbers of 4 nets",
    ),
    "net with buffers": (
        lambda t, m: m["net"].update(
            name="resnet18", args={"channels": 1, "size": 8, "classes": 10}
        ),
        "of the net resnet18",
    ),
    "no such init": (lambda t, m: m["net"].update(init="xavierr"), "did you mean xavier"),
    "classes": (lambda t, m: m.update(classes=m["classes"][:9]), "10 outputs .* 9 classes"),
    "classes twice": (
        lambda t, m: m.update(classes=["0"] * 10),
        "classes has '0' twice, wanted two or more",
    ),
    "accuracy": (lambda t, m: m.update(accuracies=[101.0] * 4), "wanted 4 numbers from 0 to 100"),
    "normalization": (lambda t, m: m["normalization"].update(std=[0.0]), "p: "),
    "dataset": (lambda t, m: m.update(dataset=5), "dataset is 5"),
    "record": (lambda t, m: m.update(record=[1]), r"record is \[1\]"),
    "no number": (lambda t, m: m.update(accuracies=None), "accuracies is None, wanted a list"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_hostile_file_is_refused(straight, tmp_path, what):
    change, sentence = CHANGES[what]
    tensors, meta = unpack(straight / "pool.safetensors", schema=POOL.schema)
    change(tensors, meta)
    (tmp_path / "p").write_bytes(pack(tensors, meta))
    with pytest.raises(DataError, match=sentence):
        Pool.load(tmp_path / "p")
