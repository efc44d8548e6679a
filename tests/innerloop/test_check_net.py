"""The check of a net: right ones pass, wrong second derivatives are found and the layer is named."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import datadistill as dd
from datadistill.cli.dispatch import main
from datadistill.errors import InexactGradients, UsageError


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Untracked(torch.autograd.Function):
    """x^2, whose backward uses a tensor that autograd does not see: the issue pytorch/pytorch#76185."""

    @staticmethod
    def forward(ctx, x):
        ctx.twice = 2 * x
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.twice


def rounded(x):
    """A straight-through estimator."""
    return x + (torch.round(4 * x) / 4 - x).detach()


def through_numpy(x):
    return x * torch.from_numpy(x.detach().numpy().copy()).sigmoid()


class Gated(nn.Module):
    """A layer that stops a gradient itself."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 4)

    def forward(self, x):
        return x * self.gate(x).detach()


IMAGES, LABELS = torch.randn(8, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3


def build(layer):
    layer = layer() if isinstance(layer, type) else layer
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Sequential(nn.Tanh(), layer), nn.Linear(4, 3))


def make(layer):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(layer)


RIGHT = {
    "ReLU": nn.ReLU(),
    "max-pooling": nn.Sequential(nn.Unflatten(1, (1, 4)), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(2, 4)),
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
    "untracked": (Call(Untracked.apply), "wrong", "2.1", "autograd.Function Untracked: its second derivative"),
    "straight-through": (Call(rounded), "approximate", "2.1", "calls detach"),
    "numpy": (Call(through_numpy), "approximate", "2.1", "calls detach, numpy"),
    "data": (Call(lambda x: x * x.data.sigmoid()), "approximate", "2.1", "calls data"),
    "stopped": (Gated, "approximate", "2.1", r"calls detach"),
    "gumbel": (Call(lambda x: F.gumbel_softmax(x, hard=True)), "approximate", "2.1", "gumbel_softmax"),
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


def bag(x):
    return F.embedding_bag(torch.arange(len(x))[:, None], x)


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


REFUSED = {
    "no logits": (nn.Conv2d(1, 2, 1), "wanted logits"),
    "other images": (nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), "does not run on these images"),
    "no parameters": (nn.Flatten(), "no parameters"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_net_for_these_images_is_refused(name):
    net, sentence = REFUSED[name]
    with pytest.raises(UsageError, match=sentence):
        dd.check_net(net, (IMAGES, LABELS))


def test_the_net_and_torchs_random_numbers_stay():
    net = make(nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5)))
    values = {k: x.clone() for k, x in net.state_dict().items()}
    state = torch.get_rng_state()
    with torch.no_grad():  # the caller's own affair
        assert dd.check_net(net, (IMAGES, LABELS)).ok
    assert torch.equal(torch.get_rng_state(), state) and net.training
    assert all(torch.equal(x, values[k]) for k, x in net.state_dict().items())


# --- before learning, and on the command line

CONFIG = {"ipc": 1, "epochs": 1, "iterations": 1, "validate_nets": 1, "nets": 1, "batch": 8}


def real():
    images = torch.rand(60, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(60) % 3
    return dd.RealData.from_tensors(images, labels, test_images=images[:6], test_labels=labels[:6])


def learn(layer):
    return dd.distill(dd.recipe("digits-random").with_changes(**CONFIG), data=real(), net=lambda: build(layer))


def test_learning_with_an_approximate_layer_warns():
    with pytest.warns(InexactGradients, match=r"layer 2\.1 \(Call\): its gradient is not the derivative"):
        learn(Call(rounded))


def test_learning_with_a_right_net_does_not(recwarn):
    learn(nn.ReLU())
    assert not [w for w in recwarn if issubclass(w.category, InexactGradients)]


def test_learning_without_a_second_derivative_is_refused():
    with pytest.raises(UsageError, match=r"layer 2\.1 \(Call\): embedding_bag: no second derivative"):
        learn(Call(bag))


def test_doctor_checks_a_net(capsys):
    assert main(["doctor", "--net", "mlp", "--net-args", "width", "8", "--size", "8"]) == 0
    assert "mlp: the hypergradient of two steps equals finite differences" in capsys.readouterr().out


def test_doctor_fails_for_a_net_that_is_wrong(capsys, monkeypatch):
    from datadistill.nets import NETS

    monkeypatch.setitem(NETS, "mlp", lambda **_: make(Call(Untracked.apply)))
    assert main(["doctor", "--net", "mlp", "--size", "2", "--json"]) == 4
    found = capsys.readouterr().out
    assert '"path": "2.1"' in found and '"fault": "wrong"' in found


def test_doctor_wants_a_net_for_arguments(capsys):
    assert main(["doctor", "--net-args", "width", "8"]) == 2
    assert "name it with --net" in capsys.readouterr().err
