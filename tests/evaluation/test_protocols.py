"""Protocols: an ordinary training in place of the set's own, with the published recipe."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import datadistill as dd
from datadistill.data.augmentation import augment
from datadistill.data.reference import DataReference
from datadistill.errors import DataError, UsageError
from datadistill.evaluation.accuracy import accuracy, measure_training
from datadistill.evaluation.protocols import PROTOCOLS, Protocol, find_protocol
from datadistill.evaluation.tested_nets import HELD_OUT
from datadistill.innerloop import momentum, sgd
from datadistill.nets.spec import NetSpec
from datadistill.starts import Fixed, Random
from datadistill.streams import generator

SPEC = NetSpec("mlp", {"channels": 1, "size": 8, "classes": 10, "width": 12, "depth": 1})
CPU = {"device": "cpu", "split": "validation"}


@pytest.fixture(scope="module")
def data():
    return dd.load("digits")


def distilled(data, n=30, *, net=SPEC, dataset="digits", fixed=False, raw=False, norm="batch"):
    labels = data.train.labels[:n]
    if raw:
        labels = F.one_hot(labels, 10).float() - 0.1
    return dd.DistilledDataset(
        data.train.images[:n],
        labels,
        torch.full((3,), 0.5),
        [torch.arange(n)] * 3,
        classes=data.classes,
        normalization=data.normalization,
        net=net,
        update=sgd(),
        norm=norm,
        loss="squared-error" if raw else "cross-entropy",
        theta_0=Random(net.build(), "xavier", 5).draw(0) if fixed else None,
        data=DataReference(dataset),
    )


# --- what they are


@pytest.mark.parametrize(
    ("name", "dataset", "epochs", "strategy"),
    [
        ("plain", "mnist", 300, ()),
        ("dc", "mnist", 1000, ("dc:crop_scale_rotate",)),
        ("dc", "mnist5k", 1000, ("dc:crop_scale_rotate",)),
        ("dc", "fashion-mnist", 300, ()),
        ("dc", "cifar10", 300, ()),
        ("dsa", "cifar10", 1000, ("color_crop_cutout_flip_scale_rotate",)),
        ("dsa", "fashion-mnist", 1000, ("color_crop_cutout_flip_scale_rotate",)),
        ("dsa", "svhn", 1000, ("color_crop_cutout_scale_rotate",)),
        ("dsa", "mnist", 1000, ("color_crop_cutout_scale_rotate",)),
    ],
)
def test_the_published_protocols(data, name, dataset, epochs, strategy):
    found = find_protocol(name, distilled(data, dataset=dataset))
    assert (found.name, found.epochs, found.augment) == (name, epochs, strategy)
    assert (found.minibatch, found.step_size) == (256, 0.01)
    assert (found.beta, found.weight_decay) == (0.9, 5e-4)


def test_a_folder_called_mnist_is_not_mnist(data):
    d = distilled(data, dataset="mnist")
    d.data = DataReference("mnist", holdout=0.2)
    assert find_protocol("dc", d).epochs == 300


@pytest.mark.parametrize("epochs", [1, 2, 3, 10, 300, 1000])
def test_the_step_size_falls_to_a_tenth_after_half(epochs):
    sizes = Protocol("any", epochs).step_sizes(images=300)  # two steps an epoch
    assert len(sizes) == 2 * epochs
    high = min(epochs // 2 + 1, epochs)
    torch.testing.assert_close(sizes[: 2 * high], torch.full((2 * high,), 0.01))
    torch.testing.assert_close(sizes[2 * high :], torch.full((2 * (epochs - high),), 0.001))


def test_a_set_changes_in_its_training_alone(data):
    d = distilled(data)
    changed = Protocol("short", 4, minibatch=20).apply(d)
    assert changed.images is d.images and changed.labels is d.labels
    assert (changed.schedule.minibatch, changed.schedule.steps) == (20, 8)
    assert changed.update == momentum(0.9, weight_decay=5e-4) and d.update == sgd()
    assert find_protocol("own", d) is None


# --- the training


@pytest.mark.parametrize("strategy", [(), ("dsa:rotate",)])
@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_a_protocol_is_torchs_sgd_in_minibatches(data, norm, strategy):
    n, protocol = 300, Protocol("plain", 10, strategy)
    module = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 10))
    d = protocol.apply(distilled(data, n, net=NetSpec("custom", {}), norm=norm))
    start = Fixed(Random(module, "xavier", 3).draw(0))
    found = measure_training(d, module, start, data.validation, nets=1, before=False)[1]

    module.load_state_dict(start.theta_0, strict=False)
    module.train(norm == "batch")
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for epoch in range(10):
        optimizer.param_groups[0]["lr"] = 0.01 if epoch <= 5 else 0.001
        order = torch.randperm(n, generator=generator(0, "minibatches", epoch))
        for step, part in enumerate(order.split(256), 2 * epoch):
            draws = generator(0, "augment_synthetic", step)
            optimizer.zero_grad()
            logits = module(augment(d.images[part], draws, strategy))
            F.cross_entropy(logits, d.labels[part]).backward()
            optimizer.step()
    theta = {k: p.detach() for k, p in module.named_parameters()}
    trained = dd.unroll(
        module, start.theta_0, d.steps(0), d.step_sizes, d.update, norm=norm, stream=0
    )
    torch.testing.assert_close({k: p.detach() for k, p in trained.items()}, theta)

    module[0].reset_running_stats()
    if norm == "batch":
        module[0].momentum = None
        module.train()(d.images)
    expected = accuracy(module.eval(), theta, data.validation)
    assert found == [pytest.approx(expected, abs=0.8)]  # one image of 144
    assert expected > 20


def test_each_net_has_minibatches_of_its_own(data):
    d = Protocol("short", 2, minibatch=16).apply(distilled(data))
    orders = [[d.steps(stream)(t)[1].tolist() for t in range(4)] for stream in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]


@pytest.mark.parametrize("nets", [1, 3])
def test_net_n_is_the_same_whatever_their_number(data, nets):
    d = Protocol("short", 3).apply(distilled(data))
    start = Random(d.net.build(), d.net.init, 0, HELD_OUT)
    run = [measure_training(d, d.net.build(), start, data.validation, nets=k)[1] for k in (3, nets)]
    assert run[1] == run[0][:nets]


# --- evaluate


def test_evaluate_says_protocol_epochs_and_arguments(data):
    found = dd.evaluate(distilled(data), protocol="dsa", epochs=3, nets=2, data=data, **CPU)
    record = found.as_dict()
    assert (record["protocol"], record["epochs"], record["nets"]) == ("dsa", 3, 2)
    assert record["training"] == (
        "3 epochs of SGD with color_crop_cutout_scale_rotate, where the protocol has 1000"
    )
    assert record["net_args"] == {"width": 12, "depth": 1}
    assert record["accuracy_plain"] is None and len(record["values"]) == 2
    own = dd.evaluate(distilled(data), nets=2, plain_nets=0, data=data, **CPU)
    assert (own.protocol, own.epochs, own.training) == ("own", 3, "its own 3 steps")


def test_the_plain_loop_is_the_protocol_plain(data, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "plain", lambda dataset: Protocol("plain", 4))
    d = distilled(data)
    own = dd.evaluate(d, nets=3, plain_nets=2, data=data, **CPU)
    plain = dd.evaluate(d, nets=2, protocol="plain", init="xavier", data=data, **CPU)
    assert own.accuracy_plain == plain.accuracy_mean
    assert (own.init, plain.init) == ("xavier", "xavier")


def test_a_fixed_set_is_trained_from_held_out_draws(data):
    d = distilled(data, fixed=True)
    short = Protocol("short", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = dd.evaluate(d, nets=3, protocol=short, data=data, **CPU)
    start = Random(d.net.build(), "default", 0, HELD_OUT)  # PyTorch's own
    expected = measure_training(short.apply(d), d.net.build(), start, data.validation, nets=3)
    assert (found.nets, found.init) == (3, "default") and list(found.values) == expected[1]
    assert "learned for one fixed initialization, and is tested on held-out" in found.description


def test_raw_labels_keep_their_squared_error(data):
    d = distilled(data, raw=True)
    found = dd.evaluate(d, nets=1, protocol="plain", epochs=2, data=data, **CPU)
    assert found.training.endswith("with the squared error of its raw labels")
    assert find_protocol("plain", d).apply(d).loss == "squared-error"


def test_the_sets_net_with_another_width(data):
    d = distilled(data)
    found = dd.evaluate(d, net="mlp:width=20", nets=1, plain_nets=0, data=data, **CPU)
    assert (found.net, found.net_args) == ("mlp", {"width": 20, "depth": 1})
    other = dd.evaluate(d, net="convnet:width=4,depth=1", nets=1, plain_nets=0, data=data, **CPU)
    assert other.net_args["width"] == 4 and other.net_args["norm"] == "instance"


REFUSED = {
    "no such protocol": ({"protocol": "dcc"}, "there is no protocol 'dcc'; did you mean dc"),
    "epochs of its own": ({"epochs": 3}, "epochs is 3, but the protocol own trains as"),
    "no epochs": ({"protocol": "dc", "epochs": 0}, "epochs of the protocol dc is 0"),
    "no argument": ({"net": "mlp:width"}, "wanted a name, or a name and arguments"),
    "no such scheme": ({"protocol": "dc", "init": "xaviar"}, "did you mean xavier"),
    "an unknown argument": ({"net": "mlp:widht=3"}, "'widht'; did you mean width"),
    "a size": ({"net": "mlp:size=3"}, "size is that of the images"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(data, name):
    asked, words = REFUSED[name]
    with pytest.raises((DataError, UsageError), match=words):
        dd.evaluate(distilled(data), **{"nets": 1, "plain_nets": 0, "data": data, **CPU, **asked})


def test_a_scheme_for_nets_that_are_not_drawn_is_refused(data):
    with pytest.raises(UsageError, match="init is 'default', but the tested nets are given"):
        dd.evaluate(distilled(data, fixed=True), init="default", data=data, **CPU)


def test_images_too_small_for_a_strategy_are_refused():
    d = dd.DistilledDataset(
        torch.zeros(2, 1, 3, 3),
        torch.arange(2),
        torch.ones(1),
        [torch.arange(2)],
        classes=("a", "b"),
        normalization=dd.Normalization((0.0,), (1.0,), size=3, channels=1),
        net=NetSpec("custom", {}),
        update=sgd(),
    )
    with pytest.raises(DataError, match="wants sides of at least 4 pixels"):
        find_protocol("dsa", d).apply(d)
