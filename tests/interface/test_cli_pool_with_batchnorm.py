"""Pools of nets with BatchNorm on the command line, and of modules of the user's own, which the
command line cannot build."""

import json

import pytest
import torch
from torch import nn

import datadistill as dd
from datadistill.cli import main

NET = ["--net", "convnet", "--net-args", "depth", "1", "width", "4", "norm", "batch"]
POOL = ["--size", "8", "--epochs", "2", "--batch", "64", "--lr", "0.01"]
COUNTS = ["--nets", "2", "--validation-nets", "1", "--held-out", "2"]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    out = tmp_path_factory.mktemp("pools") / "pool"
    asked = ["digits-28-lenet-smoke", *POOL, *COUNTS, *NET, "--out", str(out)]
    assert main(["pretrain", *asked]) == 0
    return out


def words(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_it_is_pretrained_inspected_learned_for_and_adapted(pool, tmp_path, capsys):
    assert main(["inspect", str(pool)]) == 0
    assert "9 numbers in buffers" in words(capsys)
    run = str(tmp_path / "run")
    asked = [*NET, "--pool", str(pool), "--iterations", "2", "--out", run]
    assert main(["distill", "digits-random", *asked]) == 0
    capsys.readouterr()
    assert main(["evaluate", run, "--pool", str(pool), "--plain-nets", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    befores = []
    for n in ("0", "1"):
        out = str(tmp_path / f"{n}.safetensors")
        adapt = ["--weights", str(pool), "--pool-net", n, "--no-reach"]
        assert main(["finetune", run, *adapt, "--out", out, "--json"]) == 0
        befores.append(json.loads(capsys.readouterr().out)["accuracy_before"])
    assert found["nets"] == 2
    assert found["accuracy_before_mean"] == pytest.approx(sum(befores) / 2)


def test_side_by_side_is_refused(tmp_path, capsys):
    asked = ["digits-28-lenet-smoke", *POOL, *COUNTS, *NET, "--at-once", "2"]
    assert main(["pretrain", *asked, "--out", str(tmp_path / "p")]) == 2
    assert "at_once is 2, but the net has buffers (BatchNorm)" in capsys.readouterr().err


def test_a_pool_of_own_modules_needs_python(tmp_path, capsys):
    nets = []
    for seed in range(3):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            nets.append(nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10)))
    dd.Pool.of(nets, data=dd.load("digits")).save(tmp_path / "own")
    assert main(["inspect", str(tmp_path / "own")]) == 0
    assert "21 numbers in buffers" in words(capsys)
    asked = ["digits-random", "--pool", str(tmp_path / "own"), "--out", str(tmp_path / "run")]
    assert main(["distill", *asked]) == 2
    assert "holds nets of modules of the user's own; pass one" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
