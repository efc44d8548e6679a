"""`evaluate`: held-out nets, each trained by the set's own steps and tested on other data."""

import statistics
import warnings

import pytest
import torch
from torch import nn

import datadistill as dd
from datadistill.data import RealData
from datadistill.data.reference import DataReference
from datadistill.errors import DataError, UsageError, ValuesNotUsed
from datadistill.evaluation import Evaluation
from datadistill.evaluation.accuracy import CHUNK, accuracy, measure_training
from datadistill.evaluation.own_data import load_own_data
from datadistill.evaluation.protocols import PROTOCOLS, Protocol
from datadistill.evaluation.tested_nets import HELD_OUT
from datadistill.innerloop import sgd
from datadistill.nets.spec import NetSpec
from datadistill.starts import Random

SPEC = NetSpec("mlp", {"channels": 1, "size": 8, "classes": 10, "width": 12, "depth": 1})
CONVNET = NetSpec("convnet", {**SPEC.args, "width": 4, "norm": "instance"})
CPU = {"device": "cpu", "plain_nets": 1}


@pytest.fixture
def data():
    return dd.load("digits")


@pytest.fixture(autouse=True)
def a_short_plain_loop(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "plain", lambda dataset: Protocol("plain", 5))


def real_set(
    data,
    *,
    fixed=False,
    net=SPEC,
    update=None,
    module=None,
    per_tensor=False,
    norm="batch",
    step_size=0.5,
):
    """Thirty real digits used as a distilled set: three steps, twice."""
    chosen = (
        torch.cat([(data.train.labels == k).nonzero()[:3, 0] for k in range(10)])
        .view(10, 3)
        .T.flatten()
    )
    named = dict((module or net.build()).named_parameters())
    return dd.DistilledDataset(
        data.train.images[chosen],
        data.train.labels[chosen],
        torch.full((6, len(named)) if per_tensor else (6,), step_size),
        list(torch.arange(30).split(10)) * 2,
        classes=data.classes,
        normalization=data.normalization,
        net=net,
        update=update or sgd(),
        norm=norm,
        theta_0=Random(net.build(), "xavier", 5).draw(0) if fixed else None,
        tensors=tuple(named) if per_tensor else None,
        data=DataReference("digits"),
    )


def by_hand(net, split):
    """Percent right, without the library."""
    net.eval()
    with torch.no_grad():
        found = torch.tensor([int(net(x[None]).argmax()) for x in split.images])
    return 100 * float((found == split.labels).double().mean())


# --- the number


def test_a_random_set_is_tested_on_held_out_nets(data):
    d = real_set(data)
    found = dd.evaluate(d, nets=3, data=data, seed=4, **CPU)
    draws = [Random(d.net.build(), d.net.init, 4, HELD_OUT).one(0, n) for n in range(3)]
    after = [by_hand(d.train(theta_0=theta), data.test) for theta in draws]
    before = []
    for theta in draws:
        net = d.net.build()
        net.load_state_dict(theta)
        before.append(by_hand(net, data.test))
    # 0.28% is an image
    assert found.accuracy_mean == pytest.approx(statistics.fmean(after), abs=0.3)
    assert found.accuracy_before_mean == pytest.approx(statistics.fmean(before), abs=0.3)
    assert found.accuracy_std == pytest.approx(statistics.pstdev(after), abs=0.3)
    assert found.accuracy_before_std == pytest.approx(statistics.pstdev(before), abs=0.3)
    assert found.nets == 3
    assert found.accuracy_mean > found.accuracy_before_mean + 20


def test_the_deviation_is_the_populations(data):
    d = real_set(data)
    found = dd.evaluate(d, nets=2, data=data, **CPU)
    start = Random(d.net.build(), d.net.init, 0, HELD_OUT)
    _, values = measure_training(d, d.net.build(), start, data.test, nets=2)
    # of two: half their distance
    assert found.accuracy_std == pytest.approx(abs(values[0] - values[1]) / 2)
    assert found.accuracy_std > 0


def test_a_fixed_set_is_tested_on_its_one_net(data):
    d = real_set(data, fixed=True)
    found = dd.evaluate(d, nets=200, data=data, **CPU)
    assert (found.nets, found.accuracy_std, found.accuracy_before_std) == (1, 0.0, 0.0)
    assert found.accuracy_mean == pytest.approx(by_hand(d.train(), data.test), abs=0.3)
    assert found.bytes_theta_0 == d.bytes_theta_0 > 0


def test_the_report_has_the_keys_of_the_command_line(data):
    d = real_set(data)
    found = dd.evaluate(d, nets=1, data=data, split="validation", **CPU)
    record = found.as_dict()
    promised = {
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
    }
    assert promised <= record.keys()
    assert (record["images"], record["bytes"], record["bytes_theta_0"]) == (30, d.bytes, 0)
    assert (record["dataset"], record["split"], record["net"]) == ("digits", "validation", "mlp")
    assert isinstance(found, Evaluation)


@pytest.mark.parametrize("net", ["batch", "instance"])
def test_batches_of_the_test_images_do_not_matter(data, net):
    spec = NetSpec("convnet", {**CONVNET.args, "depth": 2, "norm": net})
    d = real_set(data, net=spec)
    trained = d.train()
    theta = {k: p.detach() for k, p in trained.named_parameters()}
    expected = by_hand(trained, data.validation)
    trained.train()
    for batch in (1000, 7):
        found = accuracy(trained, theta, data.validation, batch)
        assert found == pytest.approx(expected, abs=0.8)  # one of 144
    start = Random(spec.build(), spec.init, 0, "train_theta_0")
    _, (found,) = measure_training(d, spec.build(), start, data.validation, nets=1)
    assert found == pytest.approx(expected, abs=0.8)


# --- which nets


def test_held_out_draws_are_none_of_training(data):
    from datadistill.config import DistillConfig, RunOptions
    from datadistill.training.learning_from_config import learning_of

    config = DistillConfig(
        dataset="digits",
        net="mlp",
        net_args={"width": 12, "depth": 1},
        theta_0="random",
        nets=3,
        seed=0,
        device="cpu",
    )
    loop = learning_of(config, RunOptions(), data, None)
    training = [loop.loop.method.start.draw(i, 1)["layers.0.weight"] for i in range(5)]
    training += list(loop.loop.method.start.draw(0, 3)["layers.0.weight"])
    training += list(loop.validation.start.draw(0, 4)["layers.0.weight"])
    held_out = Random(loop.net, "xavier", 0, HELD_OUT).draw(0, CHUNK)["layers.0.weight"]
    assert not any(torch.equal(a, b) for a in training for b in held_out)
    assert not any(torch.equal(a, b) for i, a in enumerate(held_out) for b in held_out[:i])


@pytest.mark.parametrize("nets", [1, CHUNK - 1, CHUNK, CHUNK + 1, CHUNK + 2])
def test_net_n_is_the_same_whatever_their_number(data, nets):
    d = real_set(data)
    start = Random(d.net.build(), d.net.init, 0, HELD_OUT)
    many = measure_training(d, d.net.build(), start, data.validation, nets=2 * CHUNK + 1)
    few = measure_training(d, d.net.build(), start, data.validation, nets=nets)
    assert len(many[0]) == len(many[1]) == 2 * CHUNK + 1
    for all_, some in zip(many, few, strict=True):
        assert len(some) == nets
        assert some == pytest.approx(all_[:nets], abs=0.8)  # rounding may turn one image of 144
        assert len(set(all_)) > CHUNK


def test_another_seed_draws_other_nets(data):
    d = real_set(data)
    a, b, c = (
        dd.evaluate(d, nets=2, data=data, split="validation", seed=s, **CPU) for s in (0, 0, 1)
    )
    assert a == b
    assert (a.accuracy_before_mean, a.accuracy_std) != (c.accuracy_before_mean, c.accuracy_std)


def test_another_architecture(data):
    found = dd.evaluate(
        real_set(data, net=CONVNET), net="mlp", nets=1, data=data, split="validation", **CPU
    )
    assert found.net == "mlp"
    d = real_set(data)
    d.net = NetSpec("mlp", {"channels": 1, "size": 8, "classes": 10}, "xavier")  # the default sizes
    assert found == dd.evaluate(d, nets=1, data=data, split="validation", **CPU)
    own = dd.evaluate(real_set(data), net="mlp", nets=1, data=data, split="validation", **CPU)
    assert own == dd.evaluate(real_set(data), nets=1, data=data, split="validation", **CPU)


def test_step_sizes_of_tensors_a_net_lacks_are_averaged(data):
    d = real_set(data, per_tensor=True)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.warns(UserWarning, match="geometric mean"):
        found = dd.evaluate(d, net=net, nets=2, data=data, split="validation", **CPU)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = dd.evaluate(real_set(data), net=net, nets=2, data=data, split="validation", **CPU)
    # all step sizes are equal
    assert found.accuracy_mean == pytest.approx(same.accuracy_mean, abs=0.4)


def test_a_fixed_set_on_another_architecture_says_so(data):
    d = real_set(data, fixed=True, net=CONVNET)
    with pytest.warns(UserWarning, match="one fixed initialization"):
        found = dd.evaluate(d, net="mlp", nets=2, data=data, split="validation", **CPU)
    assert found.nets == 2


class Mixed(nn.Module):
    """Dropout switched off by its owner, BatchNorm, and values of its own."""

    def __init__(self):
        super().__init__()
        self.norm, self.dropout, self.head = nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Linear(64, 10)
        self.dropout.eval()

    def forward(self, x):
        return self.head(self.dropout(self.norm(x)).flatten(1))


def test_the_module_passed_is_not_changed(data):
    d = real_set(data)
    net = Mixed()
    before, flags = (
        {k: v.clone() for k, v in net.state_dict().items()},
        [m.training for m in net.modules()],
    )
    assert dd.evaluate(d, net=net, nets=2, data=data, split="validation", **CPU).net == "custom"
    assert [m.training for m in net.modules()] == flags
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    accuracy(net, {k: p.detach() for k, p in net.named_parameters()}, data.validation)
    assert [m.training for m in net.modules()] == flags


# --- which data


def test_only_evaluate_on_test_reads_the_test_part(data):
    d = real_set(data)
    short = {"iterations": 2, "epochs": 2, "validate_every": 1, "keep": "best", "device": "cpu"}
    dd.distill(dd.recipe("digits-random").with_changes(**short), data=data)
    dd.evaluate(d, nets=1, data=data, split="validation", **CPU)
    dd.evaluate(d, nets=1, data=data, split="train", **CPU)
    assert not data.test_was_read
    dd.evaluate(d, nets=1, data=data, **CPU)
    assert data.test_was_read


def test_its_own_data_is_found_by_name_in_its_own_normalization(data):
    d = real_set(data)
    d.normalization = dd.Normalization((0.1,), (0.7,), size=8, channels=1)
    own = load_own_data(d)
    assert own.normalization == d.normalization
    torch.testing.assert_close(
        d.normalization.inverse(own.train.images), data.normalization.inverse(data.train.images)
    )
    assert torch.equal(own.validation.labels, data.validation.labels)
    assert dd.evaluate(d, nets=1, split="validation", **CPU).dataset == "digits"


def other_data(size, classes):
    images = torch.rand(4 * classes, 1, size, size, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(4 * classes) % classes
    return RealData.from_tensors(
        images, labels, test_images=images, test_labels=labels, validation=classes
    )


NINE = other_data(9, 10)
NO_NAME = "no data set that can be found by name; pass its folder"
REFUSED = {  # other attributes of the set, what is asked for, words of the refusal
    "unknown data": ({"data": DataReference()}, {"data": None}, NO_NAME),
    "data of no name": ({"data": DataReference("my holiday")}, {"data": None}, NO_NAME),
    "other classes": ({}, {"data": other_data(8, 4)}, r"the set has 10 classes .*has 4 "),
    "another size": (
        {"classes": NINE.classes},
        {"data": NINE},
        "the set's images are 1x8x8, those of custom are 1x9x9",
    ),
    "no nets": ({}, {"nets": 0}, "nets is 0"),
    "plain nets": ({}, {"plain_nets": -1}, "plain_nets is -1"),
    "nine logits": (
        {},
        {"net": nn.Sequential(nn.Flatten(), nn.Linear(64, 9))},
        r"the net makes \(2, 9\) of 2 images, wanted \(2, 10\)",
    ),
    "other images": ({}, {"net": nn.Linear(3, 10)}, "the net does not take images 1x8x8"),
    "no such split": ({}, {"split": "tset"}, "unknown split 'tset'"),
    "the user's net": ({"net": NetSpec("custom", {})}, {}, "pass it as net="),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(data, name):
    change, asked, words = REFUSED[name]
    d = real_set(data)
    for attribute, value in change.items():
        setattr(d, attribute, value)
    with pytest.raises((DataError, UsageError), match=words):
        dd.evaluate(d, **{**CPU, "nets": 1, "data": data, **asked})


def test_signals_are_looked_at_between_nets(data):
    d, calls = real_set(data), []

    def poll():
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dd.evaluate(d, nets=2 * CHUNK, data=data, split="validation", poll=poll, **CPU)


def test_a_fixed_set_of_a_frozen_net_has_its_own_start(data):
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            c, h, w = data.shape
            self.fixed, self.learned = nn.Linear(c * h * w, 12), nn.Linear(12, len(data.classes))
            self.fixed.requires_grad_(False)

        def forward(self, x):
            return self.learned(self.fixed(x.flatten(1)).relu())

    net = Frozen()
    config = dd.DistillConfig(theta_0="fixed", iterations=2, epochs=1, batch=16, device="cpu")
    with pytest.warns(ValuesNotUsed):
        d = dd.distill(config, data=data, net=net)
    assert list(d.theta_0) == ["learned.weight", "learned.bias"]
    found = dd.evaluate(d, net=net, data=data, split="validation", **CPU)
    assert (found.nets, found.accuracy_std) == (1, 0.0)
