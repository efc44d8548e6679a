"""Other tensors in the place of a net's own: the net has its own back afterwards, whatever it
shares."""

import pytest
import torch
from torch import nn

import datadistill as dd
from datadistill.data import load
from datadistill.innerloop import sgd
from datadistill.nets.functional import call_with, find_shared


class Shared(nn.Module):
    """A layer with two names, and a weight of two layers."""

    def __init__(self, shared=True):
        super().__init__()
        self.flat = nn.Flatten()
        self.first = nn.Linear(64, 64)
        self.norm = nn.BatchNorm1d(64)
        self.again = self.first if shared else None
        self.tied = nn.Linear(64, 64, bias=False)
        if shared:
            self.again_norm = self.norm
            self.tied.weight = self.first.weight
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        h = torch.relu(self.norm(self.first(self.flat(x))))
        weight = self.first.weight if self.again is None else self.tied.weight
        return self.head(torch.relu(self.norm(self.first(h))) + nn.functional.linear(h, weight))


def of_two(seed=0):
    """The same net, sharing by names and by use alone."""
    torch.manual_seed(seed)
    net = Shared()
    plain = Shared(shared=False)
    plain.load_state_dict(net.state_dict(), strict=False)
    plain.tied = None
    return net, plain


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_a_net_that_shares_layers_trains_as_one_that_uses_them_twice(norm):
    data, (net, plain) = load("digits"), of_two()
    own, before = dict(net.named_parameters()), {k: x.clone() for k, x in net.state_dict().items()}
    pairs = [(data.train.images[:30], data.train.labels[:30])] * 3
    theta_0 = {k: p.detach() for k, p in own.items()}
    theta_T = dd.unroll(net, theta_0, pairs, torch.full((3,), 0.1), sgd(), norm=norm)
    alone = dd.unroll(plain, theta_0, pairs, torch.full((3,), 0.1), sgd(), norm=norm)
    assert all(torch.equal(p, alone[k]) for k, p in theta_T.items())
    assert not torch.equal(theta_T["first.weight"], theta_0["first.weight"])
    assert all(p is own[k] for k, p in net.named_parameters())
    assert all(torch.equal(x, before[k]) for k, x in net.state_dict().items())


def test_shared_places():
    assert find_shared(nn.Linear(2, 2)) == {}
    found = find_shared(of_two()[0])
    assert found["tied.weight"] == found["again.weight"] == ("first.weight", "tied.weight")
    assert found["again.bias"] == ("first.bias",)
    assert found["again_norm.running_mean"] == ("norm.running_mean",)


def test_any_name_stands_for_the_tensor():
    net = of_two()[0].eval()
    images, weight = torch.randn(2, 1, 8, 8), torch.randn(64, 64)
    outputs = [
        call_with(net, {name: weight}, (images,))
        for name in ("first.weight", "again.weight", "tied.weight")
    ]
    assert all(torch.equal(out, outputs[0]) for out in outputs)
    with torch.no_grad():
        net.first.weight.copy_(weight)
    torch.testing.assert_close(net(images), outputs[0])


def test_two_values_for_one_tensor_are_refused():
    net = of_two()[0]
    with pytest.raises(ValueError, match=r"two values for first\.weight"):
        call_with(
            net,
            {"first.weight": torch.zeros(64, 64), "again.weight": torch.ones(64, 64)},
            (torch.zeros(2, 1, 8, 8),),
        )


def test_what_the_net_writes_is_in_the_tensors():
    net = of_two()[0].train()
    tensors = {"norm.running_mean": torch.zeros(64), "norm.running_var": torch.ones(64)}
    own = net.norm.running_mean.clone()
    call_with(net, tensors, (torch.randn(8, 1, 8, 8),))
    assert bool((tensors["norm.running_mean"] != 0).any())
    assert torch.equal(net.norm.running_mean, own)
