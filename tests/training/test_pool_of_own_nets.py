"""Pools of modules of the user's own, with BatchNorm and dropout: trained as by an ordinary loop,
kept with their statistics, and adapted with these statistics frozen."""

import copy

import pytest
import torch
import torch.nn.functional as F
from small_own_net import Own
from torch.func import functional_call

import datadistill as dd
from datadistill.config import RunOptions
from datadistill.errors import NumericalError, UsageError, ValuesNotUsed
from datadistill.evaluation.accuracy import accuracy
from datadistill.pool import Pool
from datadistill.streams import generator
from datadistill.training.learning import Learning
from datadistill.training.learning_from_config import learning_of
from datadistill.training.pool_loop import PoolLoop

QUIET = RunOptions(quiet=True)
TINY = {"nets": 3, "validation_nets": 1, "held_out": 2, "epochs": 2, "batch": 100, "lr": 0.01}


def pool_config(**changes):
    return dd.PoolConfig(dataset="digits", device="cpu", **{**TINY, **changes})


def set_config(**changes):
    chosen = {"theta_0": "random", "epochs": 2, "iterations": 3, "batch": 64, "validate_every": 3}
    return dd.DistillConfig(dataset="digits", device="cpu", **{**chosen, **changes})


@pytest.fixture(scope="module")
def data():
    return dd.load("digits")


@pytest.fixture(scope="module")
def pool(data):
    return dd.pretrain(pool_config(), data=data, net=Own)


@pytest.fixture(scope="module")
def file(pool, tmp_path_factory):
    path = tmp_path_factory.mktemp("pool") / "pool.safetensors"
    pool.save(path)
    return str(path)


def net_of(pool, n):
    net = Own()
    net.load_state_dict({k: x[n] for k, x in pool.tensors.items()})
    return net


def equal(a, b):
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


# --- training a pool


def test_its_tensors_are_parameters_and_buffers(pool):
    assert pool.net.name == "custom" and pool.net.init == "factory"
    assert set(pool.tensors) == set(Own().state_dict())
    assert set(pool.buffers) == {
        *(f"norm.{k}" for k in ("running_mean", "running_var", "num_batches_tracked")),
        "scale",
    }
    steps = 2 * -(-len(dd.load("digits").train) // 100)
    assert pool.tensors["norm.num_batches_tracked"].tolist() == [steps] * 6
    assert len(pool.tensors["norm.running_mean"].unique(dim=0)) == 6


def test_accuracies_are_of_the_nets_in_evaluation_mode(pool, data):
    split = data.validation
    for n in range(6):
        with torch.no_grad():
            found = net_of(pool, n).eval()(split.images).argmax(1)
        wanted = 100 * (found == split.labels).double().mean().item()
        assert pool.accuracies[n] == pytest.approx(wanted)


def test_saving_and_loading_is_the_identity(pool, file, tmp_path):
    found = Pool.load(file)
    assert equal(dict(sorted(found.tensors.items())), dict(sorted(pool.tensors.items())))
    assert set(found.buffers) == set(pool.buffers) and found.fingerprint == pool.fingerprint
    found.save(tmp_path / "again")
    with open(file, "rb") as first, open(tmp_path / "again", "rb") as again:
        assert first.read() == again.read()


def test_other_architectures_differ_by_name_shape_or_dtype(pool):
    assert pool.find_differences(Own()) == {}
    assert pool.find_differences(Own(width=5))["norm.weight"] == "(6,), wanted (5,)"
    assert pool.find_differences(Own().double())["scale"] == "torch.float32, wanted torch.float64"
    net = Own()
    net.more = torch.nn.Linear(1, 1, bias=False)
    assert pool.find_differences(net) == {"more.weight": "missing, wanted (1, 1)"}
    del net.more, net.scale
    assert pool.find_differences(net) == {"scale": "(), wanted none"}


def test_a_stopped_pool_resumes_to_the_same_bytes(pool, data, tmp_path, monkeypatch):
    advance, out = PoolLoop.advance, tmp_path / "run"

    def stop(loop):
        if loop.step == 35:  # in the second net
            raise KeyboardInterrupt
        return advance(loop)

    options = RunOptions(quiet=True, checkpoint_every="4")
    with monkeypatch.context() as patched:
        patched.setattr(PoolLoop, "advance", stop)
        with pytest.raises(KeyboardInterrupt):
            dd.pretrain(pool_config(), data=data, net=Own, out=out, options=options)
    with pytest.raises(UsageError, match=r"resume=True, data=\.\.\., net=\.\.\."):
        dd.pretrain(None, out=out, resume=True)
    with pytest.raises(UsageError, match="started with a factory whose first net has other values"):
        dd.pretrain(None, data=data, net=other_draw, out=out, resume=True)
    found = dd.pretrain(None, data=data, net=Own, out=out, resume=True, options=options)
    assert found.fingerprint == pool.fingerprint == Pool.load(out).fingerprint


def other_draw():
    torch.rand(1)
    return Own()


def test_a_net_is_the_same_in_a_larger_pool(pool, data):
    larger = dd.pretrain(pool_config(nets=1, validation_nets=1, held_out=1), data=data, net=Own)
    assert all(torch.equal(larger.tensors[k], x[:3]) for k, x in pool.tensors.items())


def test_a_module_gives_its_architecture_alone(data):
    one, other = Own(), Own()
    other.norm.running_mean.fill_(5.0)
    small = pool_config(nets=1, held_out=1, epochs=1)
    before = copy.deepcopy(other.state_dict())
    with pytest.warns(ValuesNotUsed, match="the values of net are not used"):
        first, second = (dd.pretrain(small, data=data, net=net) for net in (one, other))
    assert first.fingerprint == second.fingerprint and first.net.init == "xavier"
    assert equal(before, other.state_dict())


def test_a_frozen_parameter_stays_as_the_module_has_it(data):
    net = Own()
    net.first.weight.requires_grad_(False)
    with pytest.warns(ValuesNotUsed):
        pool = dd.pretrain(pool_config(nets=1, held_out=1, epochs=1), data=data, net=net)
    assert all(torch.equal(w, net.first.weight) for w in pool.tensors["first.weight"])
    assert len(pool.tensors["last.weight"].unique(dim=0)) == 3


@pytest.mark.filterwarnings("ignore:the values of net are not used")
def test_values_that_are_not_drawn_are_those_of_a_resumed_run(data, tmp_path, monkeypatch):
    small, net, out = pool_config(nets=1, held_out=1, epochs=1), Own(), tmp_path / "run"
    net.first.weight.requires_grad_(False)

    def stop(loop):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(PoolLoop, "advance", stop)
        with pytest.raises(KeyboardInterrupt):
            dd.pretrain(small, data=data, net=net, out=out)
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.first.weight += 1
    with pytest.raises(UsageError, match="started from a net of other values"):
        dd.pretrain(None, data=data, net=other, out=out, resume=True)
    with torch.no_grad():
        net.last.weight += 1  # is drawn
    assert dd.pretrain(None, data=data, net=net, out=out, resume=True).total == 3


def test_statistics_that_are_not_finite_are_refused(data):
    class Huge(Own):
        def forward(self, x):
            return super().forward(x * 1e30)

    with pytest.raises(NumericalError, match=r"net 0: norm.running_var is not finite"):
        dd.pretrain(pool_config(lr=1e-4), data=data, net=Huge)


def test_a_library_net_with_batchnorm_is_trained(data, tmp_path):
    args = {"depth": 1, "width": 4, "norm": "batch"}
    small = pool_config(net="convnet", net_args=args, nets=1, held_out=1, epochs=1)
    pool = dd.pretrain(small, data=data)
    pool.save(tmp_path / "p")
    found = Pool.load(tmp_path / "p")
    assert found.fingerprint == pool.fingerprint and len(found.buffers) == 3
    net = pool.net.build()
    for n, wanted in enumerate(pool.accuracies):
        values = {k: x[n] for k, x in pool.tensors.items()}
        assert accuracy(net, values, data.validation) == wanted


# --- learning a set for it


def by_hand(net, d, steps):
    """The set's steps on a net with its own statistics, by torch's own means."""
    net.norm.eval()
    for (images, labels), eta in zip(steps, d.step_sizes, strict=True):
        grads = torch.autograd.grad(F.cross_entropy(net(images), labels), list(net.parameters()))
        with torch.no_grad():
            for p, g in zip(net.parameters(), grads, strict=True):
                p -= eta * g
    return net.eval()


@pytest.fixture(scope="module")
def plain_pool(data):
    """Of nets without dropout, which no loop by hand would draw alike."""
    return dd.pretrain(pool_config(), data=data, net=lambda: Own(dropout=0.0))


def test_a_set_adapts_held_out_nets_as_a_loop_by_hand_does(plain_pool, data, tmp_path):
    plain_pool.save(tmp_path / "p")
    config = set_config(pool=str(tmp_path / "p"))
    d = dd.distill(config, data=data, net=Own(dropout=0.0))
    assert (d.norm, d.start.kind, d.start.source) == ("frozen", "pool", "digits")
    found = dd.evaluate(
        d, net=Own(dropout=0.0), pool=plain_pool, data=data, plain_nets=0, device="cpu"
    )
    before, after = [], []
    for n in (4, 5):
        net = net_of(plain_pool, n)
        net.drop.p = 0.0
        before.append(percent(net, data.test))
        after.append(percent(by_hand(net, d, d.steps()), data.test))
    assert found.nets == 2
    assert found.accuracy_before_mean == pytest.approx(sum(before) / 2)
    assert found.accuracy_mean == pytest.approx(sum(after) / 2, abs=0.3)  # an image on the edge


def percent(net, split):
    with torch.no_grad():
        found = net.eval()(split.images).argmax(1)
    return 100 * (found == split.labels).double().mean().item()


def test_the_outer_gradient_is_that_of_each_net_with_its_own_statistics(plain_pool, data, tmp_path):
    plain_pool.save(tmp_path / "p")
    config = set_config(pool=str(tmp_path / "p"), nets=2, net="custom")
    learning = learning_of(config, QUIET, data, Own(dropout=0.0))
    method, synthetic = learning.loop.method, learning.loop.synthetic
    images, labels = data.train.batch(generator(0, "real_batch", 0), 64)
    losses = []
    for n in range(2):
        theta, beside = method.start.whole(0, n)
        assert set(beside) == set(plain_pool.buffers)
        net = Own(dropout=0.0)
        net.load_state_dict({**theta, **beside})
        net.eval()
        theta = {k: p.clone().requires_grad_() for k, p in theta.items()}
        for t, eta in enumerate(synthetic.step_sizes()):
            x, y = synthetic.steps()[t]
            step = F.cross_entropy(functional_call(net, theta, (x,)), y)
            grads = torch.autograd.grad(step, list(theta.values()), create_graph=True)
            theta = {k: p - eta * g for (k, p), g in zip(theta.items(), grads, strict=True)}
        losses.append(F.cross_entropy(functional_call(net, theta, (images,)), labels))
    wanted, found = torch.stack(losses).mean(), method.loss(synthetic, 0)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    leaves = synthetic.groups()["images"]
    for a, b in zip(
        torch.autograd.grad(found, leaves), torch.autograd.grad(wanted, leaves), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_with_the_head_alone_the_rest_stands_beside(pool, file, data, tmp_path):
    d = dd.distill(set_config(pool=file, train=("head",)), data=data, net=Own())
    assert d.trained == ("head",) and d.theta_0 is None
    found = dd.evaluate(d, net=Own(), pool=pool, data=data, plain_nets=0, device="cpu")
    nets = [net_of(pool, n) for n in (4, 5)]
    assert found.accuracy_before_mean == pytest.approx(
        sum(percent(net, data.test) for net in nets) / 2
    )
    trained = d.train(nets[0])
    assert all(
        torch.equal(a, b) == (not name.startswith("last"))
        for (name, a), b in zip(
            trained.state_dict().items(), nets[0].state_dict().values(), strict=True
        )
    )


def test_one_net_of_the_pool_is_carried_whole(pool, file, data, tmp_path):
    d = dd.distill(set_config(pool=file, theta_0="fixed"), data=data, net=Own())
    d.save(tmp_path / "d")
    loaded = dd.DistilledDataset.load(tmp_path / "d")
    assert {**loaded.theta_0, **loaded.buffers}.keys() == pool.tensors.keys()
    found = dd.evaluate(loaded, net=Own(), data=data, plain_nets=0, device="cpu")
    assert found.accuracy_before_mean == pytest.approx(percent(net_of(pool, 0), data.test))


def test_a_run_with_a_pool_of_own_nets_resumes_to_the_same_bytes(file, data, tmp_path, monkeypatch):
    config, straight, stopped = set_config(pool=file), tmp_path / "a", tmp_path / "b"
    dd.distill(config, data=data, net=Own(), out=straight)
    advance = Learning.advance

    def stop(learning):
        if learning.iteration == 2:
            raise KeyboardInterrupt
        return advance(learning)

    options = RunOptions(quiet=True, checkpoint_every="1")
    with monkeypatch.context() as patched:
        patched.setattr(Learning, "advance", stop)
        with pytest.raises(KeyboardInterrupt):
            dd.distill(config, data=data, net=Own(), out=stopped, options=options)
    dd.distill(None, data=data, net=Own(), out=stopped, resume=True)
    first, again = (p / "distilled.safetensors" for p in (straight, stopped))
    assert first.read_bytes() == again.read_bytes()


REFUSED = [
    (lambda data, file, d: pretrain(data, at_once=2), UsageError, "at_once is 2, .*of your own"),
    (lambda data, file, d: pretrain(data, net=hooked), UsageError, "has a hook on its gradient"),
    (lambda data, file, d: pretrain(data, net=Turned), UsageError, "turns of the net is .*complex"),
    (lambda data, file, d: pretrain(data, net=lambda: 5), UsageError, "returned int"),
    (
        lambda data, file, d: dd.distill(set_config(pool=file), data=data, net=Own(width=5)),
        UsageError,
        r"first.weight is \(6, 1, 3, 3\), wanted \(5, 1, 3, 3\)",
    ),
    (
        lambda data, file, d: dd.distill(set_config(pool=file), data=data),
        UsageError,
        "pool .* holds nets of modules of the user's own.*pass one of that architecture as net=",
    ),
    (
        lambda data, file, d: dd.evaluate(d, pool=file, data=data, device="cpu"),
        UsageError,
        "pass it as net=",
    ),
    (
        lambda data, file, d: dd.evaluate(d, net=Own(5), pool=file, data=data, device="cpu"),
        UsageError,
        "first.weight is",
    ),
]


def hooked():
    net = Own()
    net.last.weight.register_hook(lambda gradient: 0 * gradient)
    return net


class Turned(Own):
    def __init__(self):
        super().__init__()
        self.turns = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64), requires_grad=False)


def pretrain(data, net=Own, **changes):
    return dd.pretrain(pool_config(**changes), data=data, net=net)


@pytest.mark.parametrize(("call", "error", "pattern"), REFUSED, ids=[row[2] for row in REFUSED])
def test_what_does_not_fit_is_refused(data, file, call, error, pattern):
    d = dd.distill(set_config(pool=file, iterations=1), data=data, net=Own())
    with pytest.raises(error, match=pattern):
        call(data, file, d)
