"""Small distilled sets of every kind: eight 6x6 images in four classes, two steps, two epochs."""

from __future__ import annotations

import json

import torch

from datadistill.data.normalization import Normalization
from datadistill.data.reference import DataReference
from datadistill.distilled import DistilledDataset
from datadistill.distilled_file import SET, to_tensors
from datadistill.innerloop import adam, momentum, sgd
from datadistill.nets.spec import NetSpec
from datadistill.runs.canonical import canonical_json
from datadistill.runs.tensors import pack
from datadistill.synthetic import Schedule

K, N, SIZE, T = 4, 8, 6, 4
CLASSES = ("ant", "bee", "cat", "dog")
MLP = NetSpec("mlp", {"channels": 1, "size": SIZE, "classes": K, "width": 5, "depth": 1})
CONVNET = NetSpec(
    "convnet",
    {"channels": 1, "size": SIZE, "classes": K, "width": 4, "depth": 1, "norm": "batch"},
    "kaiming",
)


def distilled(
    *,
    net=MLP,
    fixed=False,
    per_tensor=False,
    soft=False,
    update=None,
    norm="batch",
    bits=None,
    seed=0,
    module=None,
    order=None,
    raw=False,
):
    """A set of random numbers; the same arguments give the same set."""
    g = torch.Generator().manual_seed(seed)
    named = dict((module or net.build()).named_parameters())
    labels = torch.randn(N, K, generator=g).softmax(1) if soft else torch.arange(N) % K
    labels = torch.randn(N, K, generator=g) if raw else labels
    columns = [len(named)] if per_tensor else []
    theta_0 = (
        {k: 0.5 * torch.randn(p.shape, generator=g) for k, p in named.items()} if fixed else None
    )
    d = DistilledDataset(
        2 * torch.randn(N, 1, SIZE, SIZE, generator=g),
        labels,
        0.05 + 0.2 * torch.rand(T, *columns, generator=g),
        order or [torch.arange(N)[:K], torch.arange(N)[K:]] * 2,
        classes=CLASSES,
        normalization=Normalization((0.25,), (0.5,), size=SIZE, channels=1),
        net=net,
        update=update or sgd(),
        theta_0=theta_0,
        tensors=tuple(named) if per_tensor else None,
        norm=norm,
        loss="squared-error" if raw else "cross-entropy",
        data=DataReference("digits", seed=seed),
        origin={"recipe": "none", "seed": seed, "dataset": "digits"},
        accuracies={"test": 12.5},
    )
    return d if bits is None else d.quantized(bits)


VARIANTS = {
    "plain": {},
    "fixed": {"fixed": True},
    "fixed, a step size for each tensor": {"fixed": True, "per_tensor": True},
    "random, a step size for each tensor": {"per_tensor": True},
    "soft labels": {"soft": True, "update": momentum(0.9, nesterov=True, weight_decay=1e-3)},
    "adam": {"update": adam(beta1=0.5)},
    "batchnorm": {"net": CONVNET, "fixed": True, "norm": "frozen"},
    "eight bits": {"bits": 8, "fixed": True},
    "three bits": {"bits": 3, "soft": True},
    "random minibatches": {"order": Schedule.shuffled(N, 4, epochs=2)},
    "augmented steps": {"order": Schedule.equal(N, 2, epochs=2, augment=("flip",))},
    "raw labels": {"raw": True},
    "custom net": {"net": NetSpec("custom", {}), "module": torch.nn.Linear(3, 4), "fixed": True},
}


def parts(d):
    """Tensors and JSON as a file holds them, free to be edited."""
    return dict(to_tensors(d)), json.loads(canonical_json(SET.metadata(d)))


def write(path, tensors, meta):
    """A file with a checksum that holds, whatever the content."""
    path.write_bytes(pack(tensors, meta))
    return path


def assert_same_set(a, b):
    """Every attribute equal, tensors bit for bit."""
    for name in ("images", "labels", "step_sizes"):
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype, name
        assert x.shape == y.shape, name
        assert torch.equal(x, y), name
    assert a.schedule.describe() == b.schedule.describe()
    assert (a.theta_0 is None) == (b.theta_0 is None)
    assert list(a.theta_0 or {}) == list(b.theta_0 or {})
    assert all(torch.equal(p, b.theta_0[k]) for k, p in (a.theta_0 or {}).items())
    assert (a.buffers is None) == (b.buffers is None)
    assert list(a.buffers or {}) == list(b.buffers or {})
    assert all(torch.equal(x, b.buffers[k]) for k, x in (a.buffers or {}).items())
    plain = {
        "classes",
        "normalization",
        "net",
        "update",
        "norm",
        "loss",
        "own",
        "by_reference",
        "trained",
        "tensors",
        "start",
        "objective",
        "data",
        "origin",
        "accuracies",
        "quantization",
    }
    for name in plain:
        assert getattr(a, name) == getattr(b, name), name
    compared = {
        "images",
        "labels",
        "step_sizes",
        "schedule",
        "_theta_0",
        "_buffers",
        "decoder",
        "coded",
    } | plain
    assert vars(a).keys() == vars(b).keys() == compared
    assert a.decoder is a.coded is b.decoder is b.coded is None
