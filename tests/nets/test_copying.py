"""Copies of nets that copy.deepcopy refuses, and the state of torch during the library's own
functions."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from datadistill.data import Split
from datadistill.errors import UsageError
from datadistill.nets.copying import bare_net, copy_net
from datadistill.nets.fits import check_fits
from datadistill.torch_defaults import use_library_defaults
from datadistill.training.fit import fit
from datadistill.training.fit_plan import FitPlan


class Keeps(nn.Module):
    """Keeps tensors of its forward pass, alone and in containers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.seen: list[Tensor] = []
        self.named: dict[str, tuple[Tensor, ...]] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.layer(x)
        self.seen.append(self.kept)
        self.named["kept"] = (self.kept,)
        return self.kept * 2


def legacy_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(nn.Linear(3, 2))


def pruned() -> nn.Module:
    return prune.l1_unstructured(nn.Linear(3, 2), "weight", 0.5)


@pytest.mark.parametrize("make", [Keeps, legacy_weight_norm, pruned])
def test_a_net_that_keeps_a_graph_is_copied(make):
    net, x = make(), torch.ones(1, 3)
    net(x)
    with pytest.raises(RuntimeError):
        copy.deepcopy(net)
    twin = copy_net(net)
    assert torch.equal(twin(x), net(x))
    assert all(a is not b for a, b in zip(twin.parameters(), net.parameters(), strict=True))


def test_what_a_copy_keeps_has_no_graph_and_is_shared_alike():
    net = Keeps()
    net(torch.ones(1, 3))
    twin = copy_net(net)
    assert not twin.kept.requires_grad and torch.equal(twin.kept, net.kept)
    assert twin.seen[0] is twin.kept and twin.named["kept"][0] is twin.kept


def test_a_compiled_net_is_the_module_inside():
    inside = nn.Linear(3, 2)
    assert bare_net(torch.compile(nn.DataParallel(inside), backend="eager")) is inside


def test_inference_tensors_become_ordinary_ones():
    with torch.inference_mode():
        net = nn.Linear(3, 2)
    twin = copy_net(net)
    twin(torch.ones(1, 3)).sum().backward()
    assert twin.weight.grad is not None and torch.equal(twin.weight, net.weight)


def test_library_defaults_are_put_in_place_and_back():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            with use_library_defaults():
                made = torch.zeros(1, requires_grad=True) * 2
            assert torch.is_inference_mode_enabled() and torch.get_default_dtype() is torch.float64
        assert made.requires_grad and not made.is_inference() and made.dtype is torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_library_defaults_switch_autocast_off_and_back(kind):
    caller = torch.is_autocast_enabled(kind)
    torch.set_autocast_enabled(kind, True)
    try:
        with use_library_defaults():
            assert not torch.is_autocast_enabled(kind)
        assert torch.is_autocast_enabled(kind)
    finally:
        torch.set_autocast_enabled(kind, caller)


def test_a_closure_over_the_module_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    net.f = lambda x: net[1](x)
    net.forward = lambda x: net.f(x.flatten(1))
    split = Split(torch.rand(4, 1, 2, 2), torch.arange(4) % 2)
    for call in (lambda: check_fits(net, (1, 2, 2), 2), lambda: fit(net, split, FitPlan(epochs=1))):
        with pytest.raises(UsageError, match="make it a method"):
            call()
