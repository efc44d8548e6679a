"""Pools with an axis of epochs: the experts of trajectory matching."""

import json
import signal

import pytest
import torch

import datadistill as dd
from datadistill.cli import main
from datadistill.config import RunOptions
from datadistill.errors import DataError, Interrupted, OutOfMemory, UsageError
from datadistill.pool import POOL, Pool
from datadistill.runs.jsonconfig import build_config
from datadistill.runs.tensors import pack, unpack
from datadistill.training import pool_from_config
from datadistill.training.fit_loop import Fit
from datadistill.training.pool_loop import PoolLoop
from datadistill.training.pretrain import pretrain

QUIET = RunOptions(quiet=True)
EXPERTS = dd.PoolConfig(
    dataset="digits",
    net="mlp",
    net_args={"width": 12, "depth": 1},
    device="cpu",
    nets=2,
    validation_nets=1,
    held_out=2,
    epochs=2,
    batch=400,
    lr=0.05,
    keep="every-epoch",
)
FIRST = "layers.0.weight"


@pytest.fixture(scope="module")
def data():
    return dd.load("digits")


@pytest.fixture(scope="module")
def experts(data):
    return pretrain(EXPERTS, data=data)


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("straight") / "run"
    pretrain(EXPERTS, data=data, out=out)
    return out


def equal(a, b):
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


# --- what is in such a pool


def test_it_holds_the_start_and_every_epoch(experts, data):
    assert experts.epochs == 2 and experts.tensors[FIRST].shape == (5, 3, 12, 64)
    for epochs in (1, 2):
        shorter = pretrain(EXPERTS.with_changes(epochs=epochs, keep="last"), data=data)
        assert equal(shorter.tensors, {k: p[:, epochs] for k, p in experts.tensors.items()})
    starts = PoolLoop(EXPERTS, data, *_net_and_draws(data))
    for n in range(5):
        theta_0, _ = starts.theta_0(n)
        assert equal(theta_0, {k: p[n, 0] for k, p in experts.tensors.items()})


def _net_and_draws(data):
    loop, _ = pool_from_config.pool_loop_of(EXPERTS, QUIET, data, None)
    return loop.net, loop.draws


def test_its_parts_are_those_of_an_ordinary_pool(experts, data):
    last = pretrain(EXPERTS.with_changes(keep="last"), data=data)
    assert last.epochs is None and last.accuracies == experts.accuracies
    for part in ("train", "validation", "held_out"):
        assert equal(last.part(part), experts.part(part))
        found = experts.trajectory(part)[FIRST]
        assert found.shape == (len(last.part(part)[FIRST]), 3, 12, 64)
    assert not experts.find_differences(experts.net.build())
    with pytest.raises(UsageError, match=r"train it with .*every-epoch"):
        last.trajectory("train")


def test_it_is_the_same_however_many_at_once(experts, data):
    other = pretrain(EXPERTS.with_changes(at_once=2), data=data)
    for name, p in experts.tensors.items():
        torch.testing.assert_close(other.tensors[name], p, rtol=1e-3, atol=1e-5)


def test_running_statistics_are_kept_too(data):
    batchnorm = {"depth": 1, "width": 4, "norm": "batch"}
    found = pretrain(
        EXPERTS.with_changes(net="convnet", net_args=batchnorm, nets=1, held_out=1, epochs=1),
        data=data,
    )
    counted = next(p for k, p in found.tensors.items() if k.endswith("num_batches_tracked"))
    assert counted.tolist() == [[0, 4]] * 3


def test_nets_are_drawn_from_their_last_epoch(experts, data):
    config = dd.DistillConfig(
        dataset="digits", net="mlp", net_args=EXPERTS.net_args, theta_0="random", iterations=1
    )
    last = pretrain(EXPERTS.with_changes(keep="last"), data=data)
    first, second = (dd.distill(config, pool=pool, data=data) for pool in (experts, last))
    assert torch.equal(first.images, second.images)


# --- plain SGD, as the experts of the paper train


@pytest.mark.filterwarnings("ignore:.*hardly better than chance")
def test_sgd_without_momentum_is_gradient_descent(data):
    config = EXPERTS.with_changes(
        nets=1, held_out=1, epochs=1, batch=10_000, optimizer="sgd", momentum=0.0, weight_decay=0.1
    )
    found = pretrain(config, data=data)
    net = found.net.build()
    theta = {k: p[0, 0].clone().requires_grad_() for k, p in found.tensors.items()}
    logits = torch.func.functional_call(net, theta, (data.train.images,))
    loss = torch.nn.functional.cross_entropy(logits, data.train.labels)
    grads = torch.autograd.grad(loss, list(theta.values()))
    for (name, p), g in zip(theta.items(), grads, strict=True):
        torch.testing.assert_close(found.tensors[name][0, 1], p - 0.05 * (g + 0.1 * p))


def test_later_fields_at_their_defaults_are_not_in_the_file(experts, data):
    record = experts.record
    assert record["keep"] == "every-epoch" and not {"momentum", "weight_decay"} & record.keys()
    assert build_config(dd.PoolConfig, record, "p") == EXPERTS.with_changes(
        device="auto", dataset="custom"
    )
    last = pretrain(EXPERTS.with_changes(keep="last", momentum=0.0), data=data)
    assert "keep" not in last.record and last.record["momentum"] == 0.0
    _, stored = unpack(POOL.pack(last), schema=POOL.schema)
    assert "epochs" not in stored


# --- its file and its run


def test_saving_and_loading_is_the_identity(experts, straight):
    read = Pool.load(straight)
    assert read.fingerprint == experts.fingerprint and read.epochs == 2
    assert equal(read.tensors, experts.tensors)


# 4 steps an epoch, 8 a net: in the first epoch, after it, in the second, in the last net
@pytest.mark.parametrize("k", [3, 4, 15, 37])
def test_a_stop_anywhere_changes_no_byte(data, tmp_path, monkeypatch, straight, k):
    advance, done = Fit.advance, []

    def stopping(fit):
        done.append(None)
        if len(done) == k:
            signal.raise_signal(signal.SIGTERM)
        return advance(fit)

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(Fit, "advance", stopping)
        with pytest.raises(Interrupted):
            pretrain(EXPERTS, data=data, out=out, options=QUIET)
    pretrain(None, data=data, out=out, resume=True, options=QUIET)
    for name in ("pool.safetensors", "metrics.jsonl", "config.json"):
        assert (out / name).read_bytes() == (straight / name).read_bytes()


def test_inspect_says_which_epochs_are_kept(straight, capsys):
    assert main(["inspect", str(straight), "--json"]) == 0
    shown = capsys.readouterr()
    assert "at the start and after each of 2 epochs" in shown.err
    found = json.loads(shown.out)["pool"]
    assert found["epochs"] == 2 and found["tensors"][FIRST] == [12, 64]


REFUSED = {
    "an epoch less": (lambda t, m: m.update(epochs=3), "wanted floats"),
    "no epoch": (lambda t, m: m.pop("epochs"), "wanted floats"),
    "not a number": (lambda t, m: m.update(epochs=0), "epochs is 0, wanted a whole number from 1"),
    "of own nets": (
        lambda t, m: (m["net"].update(name="custom"), m.update(buffers=[], epochs=3)),
        "of 5 nets along the first axis, at 4 epochs along the second",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_hostile_file_is_refused(straight, tmp_path, what):
    change, sentence = REFUSED[what]
    tensors, meta = unpack(straight / "pool.safetensors", schema=POOL.schema)
    change(tensors, meta)
    (tmp_path / "p").write_bytes(pack(tensors, meta))
    with pytest.raises(DataError, match=sentence):
        Pool.load(tmp_path / "p")


def test_what_does_not_fit_in_memory_is_refused_first(data, tmp_path, monkeypatch):
    fits = EXPERTS.with_changes(keep="last", epochs=100_000, nets=1000)
    monkeypatch.setattr("datadistill.device.memory", lambda device: 8 * 10**9)
    pool_from_config.pool_loop_of(fits, QUIET, data, None)
    with pytest.raises(OutOfMemory, match=r"1003 nets of mlp as they are at 100001 epochs.*epochs"):
        pretrain(fits.with_changes(keep="every-epoch"), data=data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
