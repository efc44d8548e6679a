"""The check of a net: right ones pass, wrong second derivatives are found and the layer is
named."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from checked_nets import (
    CONFIG,
    IMAGES,
    LABELS,
    Call,
    Gated,
    Recomputing,
    Untracked,
    bag,
    make,
    real,
    rounded,
    through_numpy,
)
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.data import TensorDataset

import datadistill as dd
from datadistill.data import Split
from datadistill.errors import DataError, InexactGradients, UsageError

RIGHT = {
    "ReLU": nn.ReLU(),
    "max-pooling": nn.Sequential(
        nn.Unflatten(1, (1, 4)), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(2, 4)
    ),
    "dropout": nn.Dropout(0.5),
    "BatchNorm": nn.BatchNorm1d(4),
    "rounding": Call(torch.round),
    "Hardsigmoid": nn.Sequential(nn.Linear(4, 4), nn.Hardsigmoid(inplace=True)),
    "weight_norm": parametrizations.weight_norm(nn.Linear(4, 4)),
    "float32 inside": Call(lambda x: x.float().sigmoid().to(x.dtype)),
    "frozen": nn.Linear(4, 4).requires_grad_(False),
}


@pytest.mark.parametrize("layer", RIGHT.values(), ids=list(RIGHT))
def test_right_nets_pass(layer):
    found = dd.check_net(make(layer), (IMAGES, LABELS))
    assert found.ok is True and set(found.errors) == {"images", "labels", "step_sizes", "theta_0"}
    assert "equals finite differences" in str(found)


WRONG = {
    "untracked": (
        Call(Untracked.apply),
        "wrong",
        "2.1",
        "autograd.Function Untracked: its second derivative",
    ),
    "straight-through": (Call(rounded), "approximate", "2.1", "calls detach"),
    "numpy": (Call(through_numpy), "approximate", "2.1", "calls detach, numpy"),
    "data": (Call(lambda x: x * x.data.sigmoid()), "approximate", "2.1", "calls data"),
    "stopped": (Gated, "approximate", "2.1", r"calls detach"),
    "gumbel": (
        Call(lambda x: F.gumbel_softmax(x, hard=True)),
        "approximate",
        "2.1",
        "gumbel_softmax",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_layer_is_named(name):
    layer, fault, path, reason = WRONG[name]
    net = make(layer)
    found = dd.check_net(net, (IMAGES, LABELS))
    assert found.ok is False and max(found.errors.values()) > 1e-3
    assert [(f.path, f.fault) for f in found.faults] == [(path, fault)]
    assert reason in str(found) and f"layer {path} " in str(found)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_a_layer_without_a_second_derivative_is_named():
    found = dd.check_net(make(Call(bag)), (IMAGES, LABELS))
    assert found.ok is False
    assert [(f.path, f.kind, f.fault) for f in found.faults] == [("2.1", "Call", "missing")]
    assert "cannot be trained through" in str(found)


def test_a_fault_outside_all_layers_is_the_nets_own():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(Untracked.apply(self.body(x.flatten(1))))

    torch.manual_seed(0)
    found = dd.check_net(Net(), (IMAGES, LABELS))
    assert [(f.path, f.kind, f.fault) for f in found.faults] == [("", "Net", "wrong")]
    assert "the net's own forward (Net): autograd.Function Untracked" in str(found)


CALLS = itertools.count(1)
UNKNOWN = {
    "float32 alone": (Call(lambda x: F.linear(x, torch.ones(4, 4))), "does not run in float64"),
    "a counter": (Call(lambda x: x * next(CALLS)), "something else at every call"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_told_is_said(name):
    layer, note = UNKNOWN[name]
    found = dd.check_net(make(layer), (IMAGES, LABELS))
    assert found.ok is None and note in str(found)


class Fourier(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.full((1, 2, 2), 0.5 + 1j))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.fft.irfft2(torch.fft.rfft2(x) * self.w, s=(2, 2)).flatten(1))


class Ordered(nn.Module):
    """The first parameter is an integer one."""

    def __init__(self):
        super().__init__()
        self.order = nn.Parameter(torch.tensor([3, 1, 0, 2]), requires_grad=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(x.flatten(1)[:, self.order])


class HalfScale(nn.Module):
    """The first parameter is frozen, in half precision."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, dtype=torch.float16), requires_grad=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(x.flatten(1) * self.scale.to(x.dtype))


class ClosesOver(nn.Module):
    """A copy of it runs the original's layer."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 3)
        self.run = lambda x: self.body(x)

    def forward(self, x):
        return self.head(self.run(x.flatten(1)).tanh())


class CannotBeCopied(Fourier):
    def __deepcopy__(self, memo):
        raise TypeError("cannot pickle a lock")


NETS = {
    "a complex parameter": Fourier,
    "an integer parameter": Ordered,
    "a frozen half parameter": HalfScale,
    "a closure": ClosesOver,
    "a closure in float64": lambda: ClosesOver().double(),
    "no copy": CannotBeCopied,
    "DataParallel": lambda: nn.DataParallel(make(nn.Tanh)),
    "compiled": lambda: torch.compile(make(nn.Tanh)),
    "a function": lambda: lambda: make(nn.Tanh),
}


@pytest.mark.parametrize("build_net", NETS.values(), ids=list(NETS))
def test_nets_of_every_kind_pass(build_net):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build_net()
    assert dd.check_net(net, (IMAGES, LABELS)).ok is True


@pytest.mark.parametrize("net", [Fourier, Ordered, HalfScale])
def test_learning_takes_parameters_of_other_types(net, recwarn):
    dd.distill(dd.recipe("digits-random").with_changes(**CONFIG), data=real(), net=net)
    assert not [w for w in recwarn if issubclass(w.category, InexactGradients)]


TYPES = ("uint8", "int8", "int16", "int32", "uint16", "uint32", "uint64", "float32", "float64")
DATA = {
    **{name: (IMAGES, LABELS.to(getattr(torch, name))) for name in TYPES},
    "one-hot": (IMAGES, F.one_hot(LABELS)),
    "a column": (IMAGES, LABELS[:, None]),
    "arrays": (IMAGES.numpy(), LABELS.numpy().astype(np.uint16)),
    "lists": (IMAGES.tolist(), LABELS.tolist()),
    "a split": Split(IMAGES, LABELS),
    "a data set": TensorDataset(IMAGES, LABELS),
}


@pytest.mark.parametrize("data", DATA.values(), ids=list(DATA))
def test_data_of_every_kind_are_the_same_check(data):
    net = make(nn.Tanh)
    assert dd.check_net(net, data) == dd.check_net(net, (IMAGES, LABELS))


REFUSED_DATA = {
    "no images": ((IMAGES[:0], LABELS[:0]), DataError, "one image or more"),
    "an empty data set": (TensorDataset(IMAGES[:0], LABELS[:0]), DataError, "one image or more"),
    "complex images": ((IMAGES + 1j, LABELS), DataError, "real numbers"),
    "fewer labels": ((IMAGES, LABELS[:5]), DataError, r"wanted \(8,\) integers"),
    "fractions": ((IMAGES, LABELS + 0.5), DataError, "the label 0.5 of image 0"),
    "triples": (
        TensorDataset(IMAGES, LABELS, LABELS),
        UsageError,
        "data is a TensorDataset; wanted RealData",
    ),
    "three": ((IMAGES, LABELS, LABELS), UsageError, "data is 3 things"),
    "a name": ("digits", UsageError, "data is a str"),
}


@pytest.mark.parametrize("name", REFUSED_DATA)
def test_what_are_no_data_is_refused(name):
    data, error, sentence = REFUSED_DATA[name]
    with pytest.raises(error, match=sentence):
        dd.check_net(make(nn.Tanh), data)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_that_recomputes_is_named_in_any_precision(dtype):
    found = dd.check_net(make(Recomputing).to(dtype), (IMAGES, LABELS))
    assert found.ok is False and [f.path for f in found.faults] == ["2.1"]
    assert "autograd.Function Recomputed" in str(found)


class Keeps(nn.Module):
    """Counts its calls, keeps what it made, and writes its parameter."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.calls, self.log, self.kept = 0, {"made": []}, None

    def forward(self, x):
        self.calls += 1
        self.head.weight.data.clamp_(-0.01, 0.01)
        self.kept = self.head(x.flatten(1))
        self.log["made"].append(self.kept)
        return self.kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_left_in_the_callers_net(dtype):
    net = Keeps().to(dtype)
    weight = net.head.weight
    value = weight.detach().clone()
    dd.check_net(net, (IMAGES, LABELS))
    assert (net.calls, net.log, net.kept) == (0, {"made": []}, None)
    assert net.head.weight is weight and weight.dtype is dtype and torch.equal(weight, value)


def test_a_net_that_a_function_returns_stays():
    net = make(nn.Tanh)
    dd.check_net(lambda: net, (IMAGES, LABELS))
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_one_logit_passes_with_a_loss_of_its_own():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    assert dd.check_net(net, (IMAGES, LABELS), loss=F.binary_cross_entropy_with_logits).ok is True


REFUSED = {
    "no logits": (nn.Conv2d(1, 2, 1), "wanted logits"),
    "other images": (nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), "does not run on these images"),
    "no parameters": (nn.Flatten(), "no parameters"),
    "one logit": (nn.Sequential(nn.Flatten(), nn.Linear(4, 1)), "makes one logit an image"),
    "no shapes yet": (nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "1.weight has no shape yet"),
    "a name": ("lenet", "net is 'lenet'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_net_for_these_images_is_refused(name):
    net, sentence = REFUSED[name]
    with pytest.raises(UsageError, match=sentence):
        dd.check_net(net, (IMAGES, LABELS))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_is_refused():
    with pytest.raises(UsageError, match="TorchScript"):
        dd.check_net(torch.jit.trace(make(nn.Tanh), IMAGES), (IMAGES, LABELS))


def test_the_net_and_torchs_random_numbers_stay():
    net = make(nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5)))
    values = {k: x.clone() for k, x in net.state_dict().items()}
    state = torch.get_rng_state()
    with torch.no_grad():  # the caller's own affair
        assert dd.check_net(net, (IMAGES, LABELS)).ok
    assert torch.equal(torch.get_rng_state(), state) and net.training
    assert all(torch.equal(x, values[k]) for k, x in net.state_dict().items())
