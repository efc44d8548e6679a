"""Taps on layers: the values, their gradients, what is computed, and what is left behind."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datadistill.errors import UsageError
from kd_baselines.features import layers, run


class Residual(nn.Module):
    """Overwrites in place in two ways: an activation, and a sum."""

    def __init__(self, inplace=True):
        super().__init__()
        self.inplace = inplace
        self.conv1, self.bn1 = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.conv2, self.bn2 = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.relu = nn.ReLU(inplace=inplace)  # called twice
        self.head = nn.Linear(2, 3)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.inplace:
            out += x
        else:
            out = out + x
        return self.head(self.relu(out).mean((2, 3)))


class Odd(nn.Module):
    """Everything that a tap cannot be on."""

    def __init__(self):
        super().__init__()
        self.flat = nn.Flatten()
        self.lstm = nn.LSTM(4, 3, batch_first=True)
        self.mix = nn.Bilinear(4, 4, 3)
        self.never = nn.Linear(4, 3)

    def forward(self, x):
        x = self.flat(x)
        return self.lstm(x[:, None])[0][:, 0] + self.mix(x, x)


def hooks(net):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


@pytest.fixture
def pair():
    """The same net, working in place and not."""
    torch.manual_seed(0)
    net, plain = Residual().double(), Residual(inplace=False).double()
    plain.load_state_dict(net.state_dict())
    return net, plain


@pytest.fixture
def images():
    return torch.randn(4, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


# --- values and gradients


def test_a_tap_is_the_value_before_what_overwrites_it(pair, images):
    net, plain = (n.eval() for n in pair)
    got = run(net, images, ["bn1", "relu#1", "bn2", "relu#2:in", "relu#2"]).features
    bn1 = plain.bn1(plain.conv1(images))
    assert (bn1 < 0).any()  # which an activation in place would have put to zero
    bn2 = plain.bn2(plain.conv2(bn1.relu()))
    wanted = [bn1, bn1.relu(), bn2, bn2 + images, (bn2 + images).relu()]
    assert all(torch.equal(a, b) for a, b in zip(got.values(), wanted, strict=True))
    assert list(got) == ["bn1", "relu#1", "bn2", "relu#2:in", "relu#2"]


def test_the_net_computes_what_it_computes_without_taps(pair, images):
    net, plain = pair
    names = [name for name in layers(net) if name != "relu"] + [
        "relu#1:in",
        "relu#1",
        "relu#2:in",
        "relu#2",
    ]
    labels = torch.tensor([0, 1, 2, 0])
    out = run(net, images, names)
    F.cross_entropy(out.logits, labels).backward()
    logits = plain(images)
    F.cross_entropy(logits, labels).backward()
    assert torch.equal(out.logits, logits)
    for (name, a), b in zip(net.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name
    for a, b in zip(net.buffers(), plain.buffers(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "name", ["conv1", "bn1", "relu#1:in", "conv2", "bn2", "relu#2:in", "bn2:in"]
)
def test_gradients_flow_from_a_tap_to_the_layers_below(pair, images, name):
    net, plain = pair
    weights = torch.randn(
        4, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    for each in pair:
        (run(each, images, [name]).features[name] * weights).sum().backward()
    below = {
        "conv1": 1,
        "bn1": 2,
        "relu#1:in": 2,
        "conv2": 3,
        "bn2:in": 3,
        "bn2": 4,
        "relu#2:in": 4,
    }[name]
    reached = [p for m in (net.conv1, net.bn1, net.conv2, net.bn2)[:below] for p in m.parameters()]
    assert [p.grad is not None for p in net.parameters()] == [
        any(p is r for r in reached) for p in net.parameters()
    ]
    for a, b in zip(net.parameters(), plain.parameters(), strict=True):
        assert (a.grad is None and b.grad is None) or torch.equal(a.grad, b.grad)


def test_second_derivatives_go_through_a_tap():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Softplus(), nn.Linear(3, 2)).double()
    x = torch.randn(2, 1, 2, 2, dtype=torch.float64, requires_grad=True)

    def squared_jacobian(weight):
        out = run(net, x, ["2"], logits=False, tensors={"1.weight": weight}).features["2"]
        return torch.autograd.grad(out.square().sum(), x, create_graph=True)[0].square().sum()

    assert torch.autograd.gradcheck(squared_jacobian, net[1].weight.detach().requires_grad_())


# --- nothing else is computed, and nothing is left


def test_without_logits_the_forward_stops_at_the_last_tap(images):
    called = []
    net = Residual().double()
    for name, module in net.named_modules():
        module.register_forward_pre_hook(lambda _, __, name=name: called.append(name))
    before = hooks(net)
    out = run(net, images, ["bn1", "conv1"], logits=False)
    assert (
        called == ["", "conv1", "bn1"]
        and out.logits is None
        and list(out.features) == ["bn1", "conv1"]
    )
    called.clear()
    run(net, images, ["conv2:in"], logits=False)
    assert called == ["", "conv1", "bn1", "relu", "conv2"]
    called.clear()
    assert run(net, images, logits=False).features == {} and not called
    assert net.bn2.num_batches_tracked == 0 and hooks(net) == before


def test_hooks_are_gone_after_errors_too():
    net = Odd()
    for names in (["flat", "nothing"], ["flat", "lstm"], ["flat", "never"], ["flat"]):
        with pytest.raises((UsageError, RuntimeError)):
            run(net, torch.zeros(2, 9, 9), names)
    assert hooks(net) == 0


def test_a_nets_own_handler_does_not_swallow_the_stop():
    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(2, 2)

        def forward(self, x):
            try:
                return self.first(x)
            except Exception:
                handled.append(True)
                return torch.zeros(1)

    handled = []
    out = run(Careful(), torch.ones(3, 2), ["first"], logits=False)
    assert out.features["first"].shape == (3, 2) and not handled


def test_stand_ins_take_the_place_of_parameters_and_buffers():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = {name: t.clone() for name, t in net.state_dict().items()}
    own = {name: torch.zeros_like(t) for name, t in net.state_dict().items()}
    out = run(net, torch.ones(3, 2), ["0"], tensors=own)
    assert not out.features["0"].any() and own["1.num_batches_tracked"] == 1
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


# --- names


def test_layers_are_the_paths_of_the_modules():
    assert layers(Residual()) == ("conv1", "bn1", "conv2", "bn2", "relu", "head")
    nested = nn.Sequential(nn.Sequential(nn.ReLU()))
    assert layers(nested) == ("0", "0.0")


def test_an_unknown_name_lists_the_near_ones_first(images):
    with pytest.raises(
        UsageError, match=r"no layer 'conv3'; did you mean conv2 or conv1\? \(known: bn1, .*relu"
    ):
        run(Residual().double(), images, ["conv3:in"])
    with pytest.raises(UsageError, match="Residual has no layer ''"):
        run(Residual().double(), images, [""])


@pytest.mark.parametrize("name", ["relu:out", "relu#", "relu#0", "relu#two", "relu:", "relu#-1"])
def test_a_name_that_ends_in_no_place_is_refused(images, name):
    with pytest.raises(UsageError, match="give 'relu'"):
        run(Residual().double(), images, [name])


def test_a_layer_that_is_called_again_must_say_which_call(images):
    net = Residual().double()
    with pytest.raises(
        UsageError, match=r"'relu' is called more than once.*'relu#1:in', 'relu#2:in'"
    ):
        run(net, images, ["relu:in"])
    with pytest.raises(UsageError, match=r"'relu' is called more than once.*'relu#1', 'relu#2'"):
        run(net, images, ["relu"])
    with pytest.raises(UsageError, match="without reaching layer 'relu#3'"):
        run(net, images, ["relu#3"], logits=False)


def test_what_is_no_single_tensor_is_refused():
    net, x = Odd(), torch.zeros(2, 1, 2, 2)
    with pytest.raises(UsageError, match="'lstm' returns a tuple of 2, wanted one tensor"):
        run(net, x, ["lstm"])
    with pytest.raises(UsageError, match="'mix:in' is given a tuple of 2, wanted one tensor"):
        run(net, x, ["mix:in"])
    with pytest.raises(UsageError, match="without reaching layer 'never'"):
        run(net, x, ["never"])
    with pytest.raises(UsageError, match="LSTM returns a tuple"):
        run(net.lstm, torch.zeros(2, 1, 4))
