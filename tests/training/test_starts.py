"""Where the nets of a run start: pools and given weights, and what does not fit."""

import pytest
import torch
from training_cases import config, loop

from datadistill.config import RunOptions
from datadistill.errors import DataError, UsageError
from datadistill.nets.spec import NetSpec
from datadistill.objectives import Attack
from datadistill.pool import Pool
from datadistill.starts import Pretrained, Random, Start
from datadistill.theta import trainable
from datadistill.training.learning_from_config import load_run_data

SPEC = {"channels": 1, "size": 8, "classes": 10, "width": 6, "depth": 1}


def make_pool(path, spec=None, dataset="digits", classes=None):
    spec = NetSpec("mlp", {**SPEC, **(spec or {})})
    start = Random(spec.build(), "xavier", 5)
    data = load_run_data(config(), RunOptions())
    pool = Pool(
        start.draw(0, 7),
        net=spec,
        nets=4,
        validation_nets=1,
        held_out=2,
        dataset=dataset,
        classes=classes or data.classes,
        normalization=data.normalization,
        accuracies=[50.0] * 7,
        record={},
    )
    pool.save(path)
    return pool


@pytest.fixture
def pool(tmp_path):
    return make_pool(tmp_path / "pool.safetensors"), str(tmp_path / "pool.safetensors")


def among(theta, stacked):
    """The nets of a stack that a theta is."""
    count = len(next(iter(stacked.values())))
    return [n for n in range(count) if all(torch.equal(p, stacked[k][n]) for k, p in theta.items())]


def test_learning_and_looks_use_nets_of_their_own(digits, pool):
    nets, path = pool
    studied = loop(digits, source="digits", pool=path)
    drawn = [among(studied.loop.method.start.draw(i), nets.part("train")) for i in range(40)]
    assert {n for (n,) in drawn} == {0, 1, 2, 3}
    assert among(studied.validation.start.draw(0), nets.part("validation")) == [0]
    assert studied.snapshot().start == Start("pool", False, "digits", nets.fingerprint)
    assert studied.snapshot().theta_0 is None


def test_a_fixed_start_is_one_training_net_and_is_carried(digits, pool):
    nets, path = pool
    studied = loop(digits, pool=path, theta_0="fixed", seed=2)
    assert among(studied.snapshot().theta_0, nets.part("train")) == [2]


def test_one_and_four_nets_draw_the_same_ones(pool):
    start = Pretrained(pool[0].part("train"), seed=3)
    four = start.draw(9, nets=4)
    for n in range(4):
        assert all(torch.equal(p, four[k][n]) for k, p in start.draw(9, 1, n).items())


REFUSED = [
    (
        lambda data, at: loop(data, source="mnist"),
        "nets pretrained on mnist, and no pool of them was given",
    ),
    (
        lambda data, at: loop(data, source="usps", pool=at("p")),
        "were trained on digits, but source is usps",
    ),
    (
        lambda data, at: loop(data, pool=at("q", classes=[f"c{k}" for k in range(10)])),
        r"has 10 classes \(c0, c1, c2, c3, \.\.\.\).*needs the same classes",
    ),
    (
        lambda data, at: loop(data, pool=at("r", spec={"width": 5})),
        r"do not fit mlp .* is \(5, 64\), wanted \(6, 64\)",
    ),
    (
        lambda data, at: config(pool="a", weights="b", theta_0="fixed"),
        "from the pool a and from the weights b; drop one",
    ),
    (lambda data, at: config(weights="b", theta_0="random"), "theta_0 must be fixed"),
    (
        lambda data, at: loop(data, objective="attack", attack_class=12, target_class=5),
        "attack_class is 12, but there are 10 classes",
    ),
]


@pytest.mark.parametrize(("call", "pattern"), REFUSED, ids=[pattern for _, pattern in REFUSED])
def test_what_does_not_fit_is_refused(digits, tmp_path, call, pattern):
    def at(name, **changes):
        make_pool(tmp_path / name, **changes)
        return str(tmp_path / name)

    with pytest.raises((UsageError, DataError), match=pattern):
        call(digits, at)


def test_given_weights_get_a_fresh_last_layer_of_the_seed(digits, tmp_path):
    net = NetSpec("mlp", SPEC).build()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    first, second = (
        loop(
            digits, weights=str(tmp_path / "net.pt"), theta_0="fixed", seed=s
        ).loop.method.start.draw(0)
        for s in (0, 1)
    )
    names = trainable(net)
    for name in names[:2]:
        assert torch.equal(first[name], net.get_parameter(name))
    assert not torch.equal(first[names[2]], net.get_parameter(names[2]))
    assert not torch.equal(first[names[2]], second[names[2]])


def test_buffers_of_a_pretrained_net_travel_with_the_set(digits, tmp_path):
    args = {**SPEC, "width": 4, "depth": 2, "norm": "batch"}
    changes = {
        "net": "convnet",
        "net_args": {"width": 4, "depth": 2, "norm": "batch"},
        "norm": "frozen",
    }
    net = NetSpec("convnet", args).build()
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.fill_(0.25)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    studied = loop(digits, weights=str(tmp_path / "net.pt"), theta_0="fixed", **changes)
    studied.advance()
    d = studied.snapshot()
    d.save(tmp_path / "set")
    loaded = type(d).load(tmp_path / "set", weights=tmp_path / "net.pt")
    means = [b for k, b in loaded.train().named_buffers() if k.endswith("running_mean")]
    assert means
    assert all(bool((b == 0.25).all()) for b in means)


def test_an_attack_relabels_the_images_of_the_class_and_is_noted(digits):
    studied = loop(digits, objective="attack", attack_class=3, target_class=5)
    assert studied.loop.synthetic.classes.tolist() == [0, 1, 2, 5, 4, 5, 6, 7, 8, 9]
    assert studied.snapshot().objective == Attack(3, 5, 10)


def test_no_more_validation_nets_than_the_pool_has(digits, pool):
    studied = loop(digits, source="digits", pool=pool[1], validate_nets=4)
    studied.advance()
    assert studied.validate()["accuracy_std"] == 0.0  # one net, once


def test_a_resumed_run_wants_the_pool_it_was_started_with(tmp_path, pool):
    import datadistill as dd

    small = config(source="digits", pool=pool[1], iterations=1)
    dd.distill(small, out=tmp_path / "run")
    other = tmp_path / "other"
    nets = pool[0]
    Pool(
        {k: p.flip(0) for k, p in nets.tensors.items()},
        net=nets.net,
        nets=4,
        validation_nets=1,
        held_out=2,
        dataset="digits",
        classes=nets.classes,
        normalization=nets.normalization,
        accuracies=[50.0] * 7,
        record={},
    ).save(other)
    with pytest.raises(
        UsageError, match=r"was started from another pool .* pass that one with pool"
    ):
        dd.distill(small.with_changes(pool=str(other)), out=tmp_path / "run", resume=True)
    moved = tmp_path / "moved"
    moved.write_bytes((tmp_path / "pool.safetensors").read_bytes())
    dd.distill(small.with_changes(pool=str(moved)), out=tmp_path / "run", resume=True)


def test_testing_with_another_pool_is_refused(digits, tmp_path, pool):
    import datadistill as dd

    d = loop(digits, source="digits", pool=pool[1]).snapshot()
    nets = pool[0]
    other = Pool(
        {k: p.flip(0) for k, p in nets.tensors.items()},
        net=nets.net,
        nets=4,
        validation_nets=1,
        held_out=2,
        dataset="digits",
        classes=nets.classes,
        normalization=nets.normalization,
        accuracies=[50.0] * 7,
        record={},
    )
    with pytest.raises(UsageError, match="this is another pool"):
        dd.evaluate(d, pool=other, plain_nets=0, device="cpu")
    found = dd.evaluate(d, pool=nets, plain_nets=0, device="cpu")
    assert (found.nets, found.source, found.accuracy_plain) == (2, "digits", None)
