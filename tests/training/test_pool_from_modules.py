"""A pool of trained modules that are at hand, or a list of them in the place of a net."""

import copy
from dataclasses import replace

import pytest
import torch
from small_own_net import Own

import datadistill as dd
from datadistill.data import Split
from datadistill.errors import DataError, UsageError
from datadistill.evaluation.accuracy import accuracy
from datadistill.pool import Pool
from datadistill.starts import Start
from datadistill.training.fit_plan import FitPlan


@pytest.fixture(scope="module")
def data():
    return dd.load("digits")


@pytest.fixture(scope="module")
def modules(data):
    """Five trained nets with BatchNorm and dropout."""
    plan = FitPlan(epochs=2, batch=100, lr=0.01)
    return [dd.fit(build(n), data.train, plan, seed=n).eval() for n in range(5)]


def build(seed, **arguments):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Own(**arguments)


@pytest.fixture(scope="module")
def pool(modules, data):
    return Pool.of(modules, data=data)


def config(**changes):
    chosen = {"theta_0": "random", "epochs": 2, "iterations": 3, "batch": 64, "validate_every": 3}
    return dd.DistillConfig(dataset="digits", device="cpu", **{**chosen, **changes})


# --- the pool


def test_each_module_is_in_one_part(pool, modules):
    assert (pool.nets, pool.validation_nets, pool.held_out) == (3, 1, 1)
    parts = {"train": modules[:3], "validation": modules[3:4], "held_out": modules[4:]}
    for name, wanted in parts.items():
        part = pool.part(name)
        assert set(part) == set(modules[0].state_dict())
        for n, net in enumerate(wanted):
            assert all(torch.equal(x[n], net.state_dict()[k]) for k, x in part.items())


def test_accuracies_are_of_the_validation_split(pool, modules, data):
    wanted = [accuracy(net, dict(net.named_parameters()), data.validation) for net in modules]
    assert list(pool.accuracies) == wanted and min(wanted) > 50
    assert not data.test_was_read


def test_the_modules_are_not_changed_nor_shared(modules, data):
    before = [copy.deepcopy(net.state_dict()) for net in modules]
    pool = Pool.of([net.train() for net in modules], data=data)
    pool.tensors["first.weight"].zero_()
    for net, values in zip(modules, before, strict=True):
        assert net.training
        assert all(torch.equal(x, values[k]) for k, x in net.state_dict().items())
        net.eval()


def test_it_is_read_again_as_it_was_saved(pool, modules, data, tmp_path):
    pool.save(tmp_path / "p")
    assert Pool.load(tmp_path / "p").fingerprint == pool.fingerprint
    assert Pool.of(tuple(modules), data=data).fingerprint == pool.fingerprint


def test_counts_and_name_are_a_choice(modules, data):
    pool = Pool.of(modules, data=data, held_out=2, validation_nets=2, dataset="mine")
    assert (pool.nets, pool.validation_nets, pool.held_out) == (1, 2, 2)
    assert pool.dataset == "mine" and pool.net.name == "custom"


def test_a_mask_is_part_of_the_architecture(data):
    nets = [build(n) for n in range(3)]
    for net in nets:
        net.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    pool = Pool.of(nets, data=data)
    assert "mask" not in pool.tensors and pool.find_differences(nets[0]) == {}


# --- as a distribution


def test_a_list_is_the_pool_of_it(modules, pool, data):
    d = dd.distill(config(), data=data, net=modules)
    again = dd.distill(config(), data=data, net=modules[0], pool=pool)
    assert d.start == again.start == Start("pool", False, "digits", pool.fingerprint)
    assert d.norm == "frozen" and d.net.name == "custom" and torch.equal(d.images, again.images)


def test_the_held_out_nets_are_tested(modules, pool, data):
    d = dd.distill(config(), data=data, net=modules)
    found = dd.evaluate(d, net=modules[0], pool=pool, data=data, plain_nets=0, device="cpu")
    last = modules[4]
    assert found.nets == 1
    assert found.accuracy_before_mean == accuracy(last, dict(last.named_parameters()), data.test)
    net = d.train(last)
    assert found.accuracy_mean == accuracy(net, dict(net.named_parameters()), data.test)
    rows = dd.compare(
        d,
        net=modules[0],
        pool=pool,
        data=data,
        nets=1,
        sets=1,
        selection_nets=1,
        candidates="grid",
        baselines=["random-real"],
        device="cpu",
    ).rows
    assert [row.name for row in rows] == ["distilled", "no-adaptation", "random-real"]
    assert rows[1].accuracy_mean == found.accuracy_before_mean


def test_a_run_of_a_list_resumes_with_it_alone(modules, data, tmp_path):
    out = tmp_path / "run"
    d = dd.distill(config(), data=data, net=modules, out=out)
    with pytest.raises(UsageError, match=r"resume=True, data=, net=, pool="):
        dd.distill(None, out=out, resume=True)
    again = dd.distill(None, data=data, net=modules, out=out, resume=True)
    assert torch.equal(d.images, again.images)
    with pytest.raises(UsageError, match="started from another pool"):
        dd.distill(None, data=data, net=modules[::-1], out=out, resume=True)


def test_a_pool_of_library_nets_needs_no_net(data):
    chosen = {"net": "mlp", "net_args": {"width": 6, "depth": 1}}
    small = dd.PoolConfig(
        dataset="digits",
        nets=1,
        validation_nets=1,
        held_out=1,
        epochs=2,
        batch=32,
        lr=0.01,
        **chosen,
    )
    pool = dd.pretrain(small, data=data)
    d = dd.distill(config(**chosen), data=data, pool=pool)
    assert d.start.fingerprint == pool.fingerprint and d.net.name == "mlp"


def test_some_parameters_of_a_list_are_trained(modules, data):
    d = dd.distill(config(pool="custom", train=("norm",)), data=data, net=modules)
    trained = d.train(modules[4])
    changed = [
        k for k, x in trained.state_dict().items() if not torch.equal(x, modules[4].state_dict()[k])
    ]
    assert changed == ["norm.weight", "norm.bias"]


# --- refusals


def other_activation():
    net = build(9)
    net.drop = torch.nn.Identity()
    return net


def broken(net):
    net = copy.deepcopy(net)
    net.norm.running_var.fill_(float("nan"))
    return net


def learned(modules, data):
    return dd.distill(config(iterations=1), data=data, net=modules)


def of_two_classes():
    images, labels = torch.rand(20, 1, 8, 8), torch.arange(20) % 2
    return dd.RealData.from_tensors(
        images, labels, test_images=images, test_labels=labels, validation=4
    )


def without_validation(data):
    return replace(data, validation=Split(data.validation.images[:0], data.validation.labels[:0]))


REFUSED = [
    (lambda m, data, pool: Pool.of(m[:2], data=data), "there are 2 nets, but a pool has 3 or more"),
    (lambda m, data, pool: Pool.of([*m, m[1]], data=data), "nets 1 and 5 have the same values"),
    (
        lambda m, data, pool: Pool.of([*m, copy.deepcopy(m[2])], data=data),
        "nets 2 and 5 have the same values",
    ),
    (
        lambda m, data, pool: Pool.of([*m, build(9, width=5)], data=data),
        r"not alike: first.weight is .*\(6, 1, 3, 3\) in net 0 and .*\(5, 1, 3, 3\) in net 5",
    ),
    (
        lambda m, data, pool: Pool.of([*m, other_activation()], data=data),
        r"not alike: drop is a torch.nn.modules.dropout.Dropout in net 0",
    ),
    (
        lambda m, data, pool: Pool.of([*m, build(9, dropout=0.3)], data=data),
        r"not alike: the settings of drop is \(p=0.2, .*in net 0 and \(p=0.3",
    ),
    (lambda m, data, pool: Pool.of([*m, Own], data=data), "net 5 is <class .*wanted trained"),
    (lambda m, data, pool: Pool.of(m, data="digits"), "data is 'digits', wanted the images"),
    (lambda m, data, pool: Pool.of(m, data=without_validation(data)), "leaves no image to judge"),
    (lambda m, data, pool: Pool.of(m, data=data, held_out=4), "which leaves 0 to learn with"),
    (lambda m, data, pool: Pool.of(m, data=data, held_out=0), "0 would be held out"),
    (
        lambda m, data, pool: Pool.of([*m[:4], broken(m[4])], data=data),
        "'norm.running_var' of net 4 is not finite",
    ),
    (
        lambda m, data, pool: Pool.of([broken(net) for net in m], data=data),
        "norm.running_var is not finite in any net",
    ),
    (
        lambda m, data, pool: Pool.of([build(n, classes=7) for n in range(3)], data=data),
        r"makes \(2, 7\) of 2 images",
    ),
    (lambda m, data, pool: dd.distill(config(), data=data, net=m[:2]), "there are 2 nets"),
    (
        lambda m, data, pool: dd.distill(config(), data=data, net=m, pool=pool),
        "a list of nets, and a pool is given too; drop one",
    ),
    (
        lambda m, data, pool: dd.distill(config(pool="p"), data=data, net=m),
        "the config names the pool p; drop one",
    ),
    (
        lambda m, data, pool: dd.distill(config(theta_0="given"), data=data, net=m),
        "theta_0 is given, but the pool custom holds many nets",
    ),
    (lambda m, data, pool: dd.distill(config(), data=data, pool=pool), "pass one of that archit"),
    (
        lambda m, data, pool: dd.distill(config(), data=data, net=build(0, width=5), pool=pool),
        r"first.weight is \(6, 1, 3, 3\), wanted \(5, 1, 3, 3\)",
    ),
    (lambda m, data, pool: dd.distill(config(), data=data, pool="p"), "pool is 'p', wanted a Pool"),
    (
        lambda m, data, pool: dd.evaluate(learned(m, data), net=m[0], pool=m, data=data),
        "pool is a list, wanted a Pool or its file",
    ),
    (
        lambda m, data, pool: dd.evaluate(learned(m, data), net=m[0], data=data),
        "no pool of such nets was given",
    ),
    (
        lambda m, data, pool: dd.evaluate(learned(m, data), pool=pool, data=data),
        "learned with a module of the user's own; pass it as net=",
    ),
    (
        lambda m, data, pool: dd.evaluate(learned(m[::-1], data), net=m[0], pool=pool, data=data),
        "another pool than the set was learned with",
    ),
    (
        lambda m, data, pool: dd.distill(config(pool="custom"), data=data),
        "pool custom stands for nets that Python passes",
    ),
    (
        lambda m, data, pool: dd.distill(config(), data=of_two_classes(), net=m),
        r"makes \(2, 10\) of 2 images",
    ),
    (
        lambda m, data, pool: dd.distill(config(), data=of_two_classes(), net=m[0], pool=pool),
        r"has 10 classes \(0, 1, 2, 3, \.\.\.\).*needs the same classes|makes \(2, 10\)",
    ),
]


@pytest.mark.parametrize(("call", "pattern"), REFUSED, ids=[row[1] for row in REFUSED])
def test_what_is_no_pool_is_refused(modules, data, pool, call, pattern):
    with pytest.raises((UsageError, DataError), match=pattern):
        call(modules, data, pool)
