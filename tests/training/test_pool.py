"""Pools: every net has its own draw and order, parts are disjoint, and a stop changes no byte."""

import re
import signal

import pytest
import torch

import datadistill as dd
from datadistill.config import RunOptions
from datadistill.data import SOURCES
from datadistill.errors import DataError, Interrupted, NumericalError, UsageError
from datadistill.evaluation.accuracy import accuracy
from datadistill.nets import NETS
from datadistill.pool import Pool
from datadistill.recipes.pools import POOLS, pool_recipe
from datadistill.runs.folder import RunFolder
from datadistill.training.pool_loop import PoolLoop
from datadistill.training.pretrain import pretrain

QUIET = RunOptions(quiet=True)
TINY = {"nets": 2, "validation_nets": 1, "held_out": 2, "epochs": 2, "batch": 400, "lr": 0.05}


def config(**changes):
    mlp = {
        "dataset": "digits",
        "net": "mlp",
        "net_args": {"width": 12, "depth": 1},
        "device": "cpu",
    }
    return dd.PoolConfig(**{**mlp, **TINY, **changes})


@pytest.fixture(scope="module")
def data():
    return dd.load("digits")


@pytest.fixture(scope="module")
def pool(data):
    return pretrain(config(), data=data)


def net_of(pool, n):
    return {k: p[n] for k, p in pool.tensors.items()}


def equal(a, b):
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


# --- what is in a pool


def test_its_parts_are_all_nets_once(pool):
    parts = [pool.part(name) for name in ("train", "validation", "held_out")]
    assert (
        [len(part["layers.0.weight"]) for part in parts]
        == [2, 1, 2]
        == [pool.nets, pool.validation_nets, pool.held_out]
    )
    for name, p in pool.tensors.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), p)
    flat = torch.cat([p.flatten(1) for p in pool.tensors.values()], 1)
    assert len(flat.unique(dim=0)) == pool.total == 5
    assert (
        sum((pool.part_accuracies(n) for n in ("train", "validation", "held_out")), ())
        == pool.accuracies
    )
    with pytest.raises(UsageError, match="no part 'test'"):
        pool.part("test")


def test_it_says_what_it_is(pool, data):
    assert (
        pool.dataset == "digits"
        and pool.classes == data.classes
        and pool.normalization == data.normalization
    )
    assert pool.net.name == "mlp" and pool.net.args["width"] == 12 and pool.net.init == "xavier"
    assert pool.record["lr"] == 0.05 and pool.record["epochs"] == 2 and "device" not in pool.record
    assert pool.data_fingerprint == data.fingerprint
    assert list(pool.tensors) == [name for name, _ in pool.net.build().named_parameters()]


def test_accuracies_are_those_on_the_validation_split(pool, data):
    net = pool.net.build()
    assert list(pool.accuracies) == [
        accuracy(net, net_of(pool, n), data.validation) for n in range(5)
    ]


def test_the_test_split_is_not_read():
    fresh = dd.load("digits")
    pretrain(config(nets=1, held_out=1), data=fresh)
    assert not fresh.test_was_read


def test_nets_learn(data):
    found = pretrain(
        config(nets=1, held_out=1, batch=32, net_args={"width": 32, "depth": 1}), data=data
    )
    assert min(found.accuracies) > 80


# --- a net depends on its number alone


def test_a_net_is_the_same_in_a_larger_pool(pool, data):
    larger = pretrain(config(nets=4), data=data)
    assert all(equal(net_of(larger, n), net_of(pool, n)) for n in range(5))


@pytest.mark.parametrize("at_once", [2, 5, 8])
def test_the_pool_is_the_same_however_many_at_once(pool, data, at_once):
    other = pretrain(config(at_once=at_once), data=data)
    for name, p in pool.tensors.items():
        torch.testing.assert_close(other.tensors[name], p, rtol=1e-3, atol=1e-5)
    assert other.accuracies == pytest.approx(pool.accuracies, abs=1.5)


def test_the_seed_decides(pool, data):
    torch.manual_seed(99)
    again, other = pretrain(config(), data=data), pretrain(config(seed=1), data=data)
    assert equal(again.tensors, pool.tensors) and again.fingerprint == pool.fingerprint
    assert not equal(other.tensors, pool.tensors)


# --- the file


def test_a_pool_read_in_inference_mode_can_be_trained_on(pool, tmp_path):
    pool.save(tmp_path / "p")
    with torch.inference_mode():
        read = Pool.load(tmp_path / "p")
        found = [
            *read.tensors.values(),
            *read.part("train").values(),
            *read.to("cpu").tensors.values(),
        ]
    assert not any(p.is_inference() for p in found)


def test_the_fingerprint_is_of_all_that_is_in_it(pool):
    from dataclasses import replace

    moved = {k: p + (k == "layers.0.bias") for k, p in pool.tensors.items()}
    others = [
        replace(pool, tensors=moved),
        replace(pool, dataset="mnist"),
        replace(pool, nets=1, held_out=3),
    ]
    assert len({pool.fingerprint, *(other.fingerprint for other in others)}) == 4


# --- a run folder


def folder_bytes(path):
    return [
        (path / name).read_bytes() for name in ("pool.safetensors", "metrics.jsonl", "config.json")
    ]


@pytest.fixture(scope="module")
def straight(tmp_path_factory, data):
    out = tmp_path_factory.mktemp("straight") / "run"
    pretrain(config(), data=data, out=out, options=QUIET)
    return folder_bytes(out)


def test_a_run_folder_holds_the_same_pool_as_memory(pool, data, tmp_path):
    out = tmp_path / "run"
    found = pretrain(config(), data=data, out=out, options=QUIET)
    assert found.fingerprint == pool.fingerprint == Pool.load(out).fingerprint
    lines = RunFolder.open(out, kind="pool").read_metrics()
    assert [line["net"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["accuracy"] for line in lines] == list(pool.accuracies)
    assert all(0 < line["loss"] < 3 for line in lines)
    assert sorted(p.name for p in out.iterdir()) == [
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "pool.safetensors",
        "timing.jsonl",
    ]


def during(monkeypatch, k, happens):
    """Something happens after gradient step k of the pool, from 1."""
    advance = PoolLoop.advance

    def then(loop):
        trained = advance(loop)
        if loop.step == k:
            happens()
        return trained

    monkeypatch.setattr(PoolLoop, "advance", then)


# 4 steps an epoch, 8 a net: in the first net, at its end, in the second, in the last
@pytest.mark.parametrize(("every", "begins"), [("1000", 16), ("3", 19)])
def test_a_run_that_died_keeps_its_finished_nets(
    data, tmp_path, monkeypatch, every, begins, straight
):
    def dies():
        raise KeyboardInterrupt  # no chance to save anything

    options = RunOptions(quiet=True, checkpoint_every=every)
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        during(patched, 20, dies)
        with pytest.raises(KeyboardInterrupt):
            pretrain(config(), data=data, out=out, options=options)
    began = []
    advance = PoolLoop.advance
    monkeypatch.setattr(PoolLoop, "advance", lambda loop: began.append(loop.step) or advance(loop))
    pretrain(None, data=data, out=out, resume=True, options=options)
    assert began[0] == begins and folder_bytes(out) == straight


def test_a_damaged_file_of_a_finished_net_is_trained_again(data, tmp_path, monkeypatch, straight):
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        during(patched, 20, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            pretrain(config(), data=data, out=out, options=QUIET)
    file = out / "nets" / "net-000001.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.warns(UserWarning, match=r"net-000001.safetensors is damaged.*trained again"):
        pretrain(None, data=data, out=out, resume=True, options=QUIET)
    assert folder_bytes(out) == straight


# --- refusals and warnings


BATCHNORM = {"net": "convnet", "net_args": {"depth": 1, "width": 4, "norm": "batch"}}
REFUSED = [
    ({**BATCHNORM, "at_once": 2}, UsageError, r"at_once is 2, but the net has buffers"),
    (
        {"lr": 1e30, "optimizer": "sgd", "at_once": 2},
        NumericalError,
        r"nets 0 to 1: step \d of 8.*smaller learning rate",
    ),
    ({"validation": 0}, DataError, "leaves no image to judge the nets by"),
]


@pytest.mark.parametrize(("changes", "error", "pattern"), REFUSED, ids=[row[2] for row in REFUSED])
def test_what_cannot_be_trained_is_refused(tmp_path, changes, error, pattern):
    with pytest.raises(error, match=pattern):
        pretrain(config(**changes), out=tmp_path / "run")
    assert error is NumericalError or not (tmp_path / "run").exists()


def test_nets_at_chance_are_warned_of(data):
    with pytest.warns(
        UserWarning, match=r"3 of 3 nets classify hardly better than chance \(nets 0, 1, 2; "
    ):
        pretrain(config(nets=1, held_out=1, epochs=1, lr=1e-7), data=data)


@pytest.mark.parametrize("name", POOLS)
def test_recipes_are_full_configs_of_their_own_name(name):
    found = pool_recipe(name)
    assert found.recipe == name and found.net in NETS and found.dataset in SOURCES
    assert POOLS[name].summary.endswith(".") or ":" in POOLS[name].summary


def test_an_unknown_recipe_gets_the_nearest():
    with pytest.raises(UsageError, match="did you mean mnist-lenet"):
        pool_recipe("mnist-lennet")


def test_the_schedules_are_the_papers():
    found = {n: (c.epochs, c.decay_epochs, c.lr) for n, c in ((n, pool_recipe(n)) for n in POOLS)}
    assert found["mnist-lenet"] == found["mnist-lenet-32"] == (40, 20, 2e-4)
    assert found["usps-lenet"] == (130, 40, 2e-4) and found["svhn-lenet"] == (65, 20, 2e-4)
    assert found["cifar10-alexcifarnet"] == (50, 7, 1e-3)
    last = {n: c for n, c in ((n, pool_recipe(n)) for n in POOLS) if c.keep == "last"}
    full = [c for n, c in last.items() if not re.search("cpu|smoke|mnist5k", n)]
    assert len(full) == 5 and all((c.nets, c.held_out) == (2000, 200) for c in full)
