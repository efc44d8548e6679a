"""Three well separated classes of 3x3 images, and sets made of them."""

import statistics

import torch

import datadistill as dd
from datadistill.data import Normalization, RealData
from datadistill.data.held_out import HeldOut
from datadistill.data.reference import DataReference
from datadistill.evaluation.accuracy import accuracy
from datadistill.evaluation.choosing import Trial
from datadistill.evaluation.tested_nets import SELECTION
from datadistill.innerloop import sgd
from datadistill.nets.spec import NetSpec
from datadistill.objectives import Attack
from datadistill.starts import Random

K, SIZE = 3, 3
CLASSES = ("a", "b", "c")
NORMALIZATION = Normalization((0.0,), (1.0,), size=SIZE, channels=1)
MLP = NetSpec("mlp", {"channels": 1, "size": SIZE, "classes": K, "width": 4, "depth": 1})


def blobs(n, seed, spread=0.15):
    """n images: a bright row of its own for each class, and noise."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % K
    images = spread * torch.rand(n, 1, SIZE, SIZE, generator=g)
    images[torch.arange(n), 0, labels] += 0.8
    return images.clamp(0, 1), labels


def real(n=90, spread=0.15, normalization=NORMALIZATION):
    images, labels = blobs(n, 0, spread)
    test_images, test_labels = blobs(30, 1, spread)
    return RealData.from_tensors(
        images,
        labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=CLASSES,
        validation=6,
        normalization=normalization,
    )


def sealed(data):
    """The same data; reading the test split is a failure."""

    def refuse():
        raise AssertionError("the test split was read")

    parts = (data.train, data.validation, data.classes, data.normalization, data.description)
    return RealData(data.name, *parts, HeldOut(refuse))


def distilled(
    ipc=2,
    steps=2,
    epochs=3,
    *,
    step_size=0.5,
    net=MLP,
    update=None,
    labels=None,
    order=None,
    theta_0=None,
    tensors=None,
    columns=(),
    start=None,
    attack=None,
    normalization=NORMALIZATION,
):
    """A set laid out as a learned one: image j is of class j % K. Its step sizes all differ."""
    n = K * ipc
    index = torch.arange(n).split(n // steps)
    T = steps * epochs
    sizes = step_size * (1 + 0.01 * torch.arange(T, dtype=torch.float32))
    images = torch.randn(n, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(7))
    return dd.DistilledDataset(
        images,
        torch.arange(n) % K if labels is None else labels,
        sizes.view(T, *[1 for _ in columns]).expand(T, *columns).contiguous(),
        list(index) * epochs if order is None else order,
        classes=CLASSES,
        normalization=normalization,
        net=net,
        update=update or sgd(),
        theta_0=theta_0,
        tensors=tensors,
        start=start,
        objective=attack and Attack(*attack, K),
        data=DataReference("blobs"),
    )


def drawn(stream, nets):
    return [Random(MLP.build(), "xavier", 0, stream).one(0, n) for n in range(nets)]


def trial(data, nets=2):
    return Trial(MLP.build(), Random(MLP.build(), "xavier", 0, SELECTION), nets, data.train)


def trained(d, theta):
    """A net after the set's steps from theta, one net at a time."""
    net = d.train(theta_0=theta)
    return net, {k: p.detach() for k, p in net.named_parameters()}


def mean_accuracy(sets, thetas, split):
    return statistics.fmean(accuracy(*trained(d, theta), split) for d in sets for theta in thetas)


def row(found, name):
    (one,) = (r for r in found.rows if r.name == name)
    return one
