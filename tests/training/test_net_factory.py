"""net= a function that builds nets: each draw of theta_0 is what the constructor makes under its
own stream."""

import functools
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from training_cases import config

import datadistill as dd
from datadistill.errors import UsageError
from datadistill.nets.factory import make_net
from datadistill.starts import Built, nets_at_once
from datadistill.streams import global_stream


class Bare(nn.Module):
    """Parameters that no reset reaches, from three generators."""

    def __init__(self, width=8):
        super().__init__()
        self.first = nn.Parameter(torch.randn(64, width) * 0.1)
        self.second = nn.Parameter(torch.tensor(np.random.randn(width, 10) * 0.1).float())
        self.scale = nn.Parameter(torch.tensor(random.uniform(0.9, 1.1)))

    def forward(self, x):
        return self.scale * (x.flatten(1) @ self.first).relu() @ self.second


class RandomFeatures(nn.Module):
    """Frozen features and a buffer, drawn as the trained head is."""

    def __init__(self):
        super().__init__()
        self.features = nn.Linear(64, 32).requires_grad_(False)
        self.register_buffer("shift", torch.randn(32))
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head((self.features(x.flatten(1)) + self.shift).relu())


def orthogonal():
    return nn.Sequential(
        nn.Flatten(), parametrizations.orthogonal(nn.Linear(64, 8)), nn.Linear(8, 10)
    )


FACTORIES = {
    "a lambda": lambda: Bare(),
    "a class": Bare,
    "a partial": functools.partial(Bare, width=5),
    "frozen parameters and buffers": RandomFeatures,
    "a parametrization": orthogonal,
}


def small(**changes):
    return config(net="lenet", net_args={}, **{"iterations": 2, "validate_every": 2, **changes})


def tensors(net):
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def built_by_hand(make, seed, name, *indices):
    with global_stream(seed, name, *indices, everything=True):
        return make()


@pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)
def test_every_draw_is_what_the_constructor_makes(make):
    start = Built(make, make(), 3)
    for n in (0, 1, 4):
        ((net, theta, count),) = nets_at_once(start, start.net, 2, 1, n)
        wanted = built_by_hand(make, 3, "theta_0", 2, n)
        assert count == 1
        assert same({**tensors(net), **theta}, tensors(wanted))


@pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)
def test_several_nets_are_the_same_ones_as_one_by_one(make):
    start = Built(make, make(), 3)
    outputs = []
    x = torch.randn(2, 1, 8, 8)
    for net, theta, count in nets_at_once(start, start.net, 0, 3):
        for n in range(count):
            one = theta if count == 1 else {k: p[n] for k, p in theta.items()}
            outputs.append(torch.func.functional_call(net, one, (x,)))
    assert len(outputs) == 3
    for n, found in enumerate(outputs):
        torch.testing.assert_close(found, built_by_hand(make, 3, "theta_0", 0, n)(x))


def test_global_generators_are_left_as_they_were():
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    make_net(Bare, 0, "theta_0")
    after = torch.get_rng_state(), np.random.get_state(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert np.array_equal(before[1][1], after[1][1])
    assert before[2] == after[2]


@pytest.mark.parametrize("make", [Bare, RandomFeatures])
def test_learning_is_the_mean_over_nets_built_anew(make, digits):
    """One iteration's gradient, from nets built by hand."""
    from datadistill.config import RunOptions
    from datadistill.training.learning_from_config import learning_of

    loop = learning_of(small(theta_0="random", nets=2), RunOptions(), digits, make)
    _, gradients = loop.loop.gradients(0)
    wanted = 0
    for n in range(2):
        one = learning_of(small(theta_0="random", nets=1), RunOptions(), digits, make)
        one.loop.method.start = Shifted(one.loop.method.start, n)
        wanted = wanted + one.loop.gradients(0)[1][0] / 2
    torch.testing.assert_close(gradients[0], wanted)


class Shifted(Built):
    """Net n + first of an iteration in the place of net n."""

    def __init__(self, start, first):
        super().__init__(start.make, start.net, start.seed, start.name)
        object.__setattr__(self, "first", first)

    def whole(self, iteration, n):
        return super().whole(iteration, n + self.first)


@pytest.mark.parametrize("make", [Bare, RandomFeatures, orthogonal])
def test_held_out_nets_are_like_nets_built_anew(make, digits):
    changes = {
        "theta_0": "random",
        "update": "adam",
        "step_size": 0.01,
        "epochs": 8,
        "iterations": 3,
    }
    d = dd.distill(small(**changes), data=digits, net=make)
    assert (d.net.name, d.net.init, d.theta_0) == ("custom", "factory", None)
    plain = 2 if make is RandomFeatures else 0
    found = dd.evaluate(d, net=make, nets=4, data=digits, plain_nets=plain, device="cpu")
    by_hand = []
    for n in range(4):
        net = d.train(built_by_hand(make, 0, "held_out_theta_0", 0, n)).eval()
        with torch.no_grad():
            by_hand.append(
                float((net(digits.test.images).argmax(1) == digits.test.labels).float().mean())
                * 100
            )
    by_hand = torch.tensor(by_hand)
    image = 100 / len(digits.test)  # rounding may move one
    assert found.accuracy_mean == pytest.approx(float(by_hand.mean()), abs=image)
    assert found.accuracy_std == pytest.approx(float(by_hand.std(correction=0)), abs=image)
    assert found.accuracy_std > 0


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 10, dtype=torch.complex64) * 0.1)

    def forward(self, x):
        return (x.flatten(1).to(torch.complex64) @ self.weight).abs()


def test_complex_parameters_are_drawn_and_tested(digits):
    d = dd.distill(small(theta_0="random"), data=digits, net=Complex)
    found = dd.evaluate(d, net=Complex, nets=2, data=digits, plain_nets=0, device="cpu")
    assert found.accuracy_std > 0


def test_compare_tests_baselines_on_nets_built_anew(digits):
    d = dd.distill(small(theta_0="fixed"), data=digits, net=RandomFeatures)
    found = dd.compare(
        d,
        net=RandomFeatures,
        data=digits,
        nets=3,
        sets=1,
        selection_nets=2,
        candidates="learned",
        baselines=["average-real"],
        device="cpu",
    )
    assert [row.nets for row in found.rows] == [1, 3]
    assert found.rows[1].accuracy_std > 0


def test_one_draw_of_a_factory_is_carried_whole(digits, tmp_path):
    d = dd.distill(small(theta_0="fixed", seed=4), data=digits, net=RandomFeatures)
    d.save(tmp_path / "set")
    d = dd.DistilledDataset.load(tmp_path / "set")
    wanted = built_by_hand(RandomFeatures, 4, "theta_0", 0, 0)
    assert same({**d.theta_0, **d.buffers}, tensors(wanted))
    trained = [tensors(d.train(net)) for net in (wanted, RandomFeatures(), RandomFeatures)]
    assert same(trained[0], trained[1])
    assert same(trained[0], trained[2])


def test_a_module_with_frozen_features_is_carried_whole(digits):
    net = RandomFeatures()
    with pytest.warns(UserWarning, match="not used"):
        d = dd.distill(small(theta_0="fixed"), data=digits, net=net)
    assert same(d.buffers, {k: v for k, v in tensors(net).items() if "head" not in k})
    assert same(tensors(d.train(net)), tensors(d.train(RandomFeatures())))


def test_training_builds_a_net_of_the_seed(digits):
    d = dd.distill(small(theta_0="random"), data=digits, net=Bare)
    by_hand = d.train(built_by_hand(Bare, 5, "train_theta_0", 0, 0))
    assert same(tensors(d.train(Bare, seed=5)), tensors(by_hand))
    assert not same(tensors(d.train(Bare, seed=6)), tensors(by_hand))


def test_a_resume_wants_the_factory_it_started_with(digits, tmp_path):
    dd.distill(small(theta_0="random"), data=digits, net=Bare, out=tmp_path / "run")
    again = dd.distill(None, data=digits, net=lambda: Bare(), out=tmp_path / "run", resume=True)
    assert again.start.kind == "factory" and again.start.fingerprint.startswith("sha256:")

    def other():
        net = Bare()
        net.scale.data.mul_(2)
        return net

    with pytest.raises(UsageError, match="with a factory whose first net has other values"):
        dd.distill(None, data=digits, net=other, out=tmp_path / "run", resume=True)


def test_a_factory_gives_its_first_net_where_values_are_given(digits):
    d = dd.distill(small(theta_0="given"), data=digits, net=Bare)
    assert same(d.theta_0, tensors(built_by_hand(Bare, 0, "theta_0", 0, 0)))


def reseeded():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def unseeded():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    net[1].weight.data = torch.tensor(np.random.default_rng().normal(size=(10, 64))).float()
    return net


def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))


def needs_a_width(width):
    return Bare(width)


def two_kinds():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=bool(torch.rand(()) < 0.5)))


ONE = Bare()
REFUSED = [
    (lambda: ONE, 'builds the same values at every call.*theta_0="given"'),
    (reseeded, "builds the same values at every call"),
    (unseeded, "builds another net at every call from the same seed"),
    (needs_a_width, "cannot be called without arguments"),
    (3, "net is 3, which cannot be called"),
    (lambda: "lenet", "returned str; wanted a torch module"),
    (lazy, "1.weight has no shape yet"),
    (nn.Flatten, "makes .2, 64. of 2 images"),
    (two_kinds, "the factory built nets of two kinds: '1.bias' is"),
]


@pytest.mark.parametrize(("make", "said"), REFUSED)
def test_refusals(make, said, digits):
    with pytest.raises(UsageError, match=said):
        dd.distill(small(theta_0="random", nets=4), data=digits, net=make)


def test_held_out_nets_need_the_factory(digits):
    d = dd.distill(small(theta_0="random"), data=digits, net=Bare)
    with pytest.raises(UsageError, match="held-out nets are built by it too; pass that function"):
        dd.evaluate(d, net=Bare(), data=digits, device="cpu")
    with pytest.raises(UsageError, match="builds the same values at every call"):
        dd.evaluate(d, net=lambda: ONE, data=digits, device="cpu")
    with pytest.raises(
        UsageError, match="wanted a torch module: fine-tuning starts from its values"
    ):
        dd.finetune(d, Bare, data=digits)
    found = dd.evaluate(d, net="mlp", nets=2, data=digits, plain_nets=0, device="cpu")
    assert found.net == "mlp"
