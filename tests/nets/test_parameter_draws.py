"""Draws of theta_0: distribution, determinism, no side effect, and the rule for every kind of
parameter."""

import copy
import math

import pytest
import torch
from torch import nn

from datadistill.errors import UsageError
from datadistill.nets import INITIALIZATIONS, build, draw


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


class Mixed(nn.Module):
    """One parameter of every kind."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.layer_norm = nn.LayerNorm([4, 2])
        self.embedding = nn.Embedding(5, 6)
        self.attention = nn.MultiheadAttention(4, 2)
        self.recurrent = nn.GRU(4, 3)
        self.slope = nn.PReLU(3)
        self.scale = nn.Parameter(torch.tensor([2.0, 3.0]))
        self.matrix = nn.Parameter(torch.full((4, 4), 7.0))
        self.tied = nn.Conv2d(3, 4, 3)
        self.tied.weight = self.conv.weight
        for parameter in self.norm.parameters():
            nn.init.constant_(parameter, 9.0)


@pytest.fixture(scope="module")
def lenet():
    return build("lenet", channels=1, size=28, classes=10)


# variance of a weight with fan_in inputs and fan_out outputs
VARIANCES = {
    "xavier": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "xavier-uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "kaiming": lambda fan_in, fan_out: 2 / fan_in,
    "normal": lambda fan_in, fan_out: 0.02**2,
    "default": lambda fan_in, fan_out: 1 / (3 * fan_in),  # uniform in +-1/sqrt(fan_in)
}


@pytest.mark.parametrize("init", VARIANCES)
def test_variance_of_each_scheme(init):
    net = nn.Sequential(nn.Conv2d(8, 32, 5), nn.Linear(200, 100))
    theta = draw(net, init, stream())
    for name, fan_in, fan_out in [("0.weight", 8 * 25, 32 * 25), ("1.weight", 200, 100)]:
        weight = theta[name]
        expected = VARIANCES[init](fan_in, fan_out)
        # the mean square of n normal values has a relative deviation of sqrt(2 / n); four of them
        tolerance = 4 * math.sqrt(2 / weight.numel())
        assert weight.square().mean().item() == pytest.approx(expected, rel=tolerance)
        assert abs(weight.mean().item()) < 4 * math.sqrt(expected / weight.numel())


@pytest.mark.parametrize(
    ("init", "kurtosis"), [("xavier", 3.0), ("xavier-uniform", 1.8), ("kaiming", 3.0)]
)
def test_normal_schemes_are_normal_and_uniform_ones_uniform(init, kurtosis):
    weight = draw(nn.Linear(200, 200), init, stream())["weight"]
    # its deviation over 40,000 normal values is sqrt(24 / 40000) = 0.024
    assert (weight**4).mean() / weight.square().mean() ** 2 == pytest.approx(kurtosis, abs=0.1)


def test_orthogonal_rows_or_columns():
    theta = draw(nn.Sequential(nn.Linear(7, 4), nn.Conv2d(2, 30, 3)), "orthogonal", stream())
    wide, tall = theta["0.weight"], theta["1.weight"].flatten(1)
    torch.testing.assert_close(wide @ wide.T, torch.eye(4))
    torch.testing.assert_close(tall.T @ tall, torch.eye(18))


@pytest.mark.parametrize("init", INITIALIZATIONS)
def test_draw_is_a_function_of_the_generator_and_changes_nothing(init, lenet):
    before = copy.deepcopy(lenet.state_dict())
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second, other = (draw(lenet, init, stream(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert list(first) == [name for name, _ in lenet.named_parameters()]
    storages = {p.untyped_storage().data_ptr() for p in lenet.parameters()}
    for name, parameter in lenet.named_parameters():
        assert torch.equal(parameter, before[name])
        assert torch.equal(first[name], second[name])
        assert first[name].shape == parameter.shape
        assert not first[name].requires_grad
        assert first[name].untyped_storage().data_ptr() not in storages
        if name.endswith("weight"):
            assert not torch.equal(first[name], other[name])
    assert len({value.untyped_storage().data_ptr() for value in first.values()}) == len(first)


def test_successive_draws_from_one_generator_differ(lenet):
    for init in INITIALIZATIONS:
        generator = stream()
        first, second = draw(lenet, init, generator), draw(lenet, init, generator)
        assert not torch.equal(first["fc1.weight"], second["fc1.weight"]), init


@pytest.mark.parametrize("init", sorted(set(INITIALIZATIONS) - {"default"}))
def test_rule_for_every_kind_of_parameter(init):
    net = Mixed()
    theta = draw(net, init, stream())
    assert list(theta) == [name for name, _ in net.named_parameters()]
    assert "tied.weight" not in theta
    for name in ("norm.weight", "layer_norm.weight"):
        assert (theta[name] == 1).all()
    zeros = [
        "conv.bias",
        "norm.bias",
        "layer_norm.bias",
        "attention.in_proj_bias",
        "attention.out_proj.bias",
    ]
    for name in [*zeros, "recurrent.bias_ih_l0", "recurrent.bias_hh_l0"]:
        assert (theta[name] == 0).all(), name
    assert torch.equal(theta["scale"], torch.tensor([2.0, 3.0]))
    assert torch.equal(theta["slope.weight"], net.slope.weight)
    drawn = [
        "conv.weight",
        "embedding.weight",
        "attention.in_proj_weight",
        "recurrent.weight_hh_l0",
        "matrix",
    ]
    for name in drawn:
        assert theta[name].unique().numel() == theta[name].numel(), name
    for name, parameter in net.named_parameters():
        assert theta[name].data_ptr() != parameter.data_ptr(), name


def test_default_is_what_constructors_draw():
    net = Mixed()
    theta = draw(net, "default", stream())
    assert (theta["norm.weight"] == 1).all()
    assert (theta["attention.in_proj_bias"] == 0).all()
    assert (theta["attention.out_proj.bias"] == 0).all()  # attention's own reset has the last word
    assert theta["attention.in_proj_weight"].unique().numel() == 48
    assert not torch.equal(theta["attention.in_proj_weight"], net.attention.in_proj_weight)
    assert 0 < theta["conv.bias"].abs().max() <= 1 / math.sqrt(27)
    assert torch.equal(theta["scale"], net.scale)
    assert torch.equal(theta["matrix"], net.matrix)
    assert (theta["slope.weight"] == 0.25).all()
    assert (net.norm.weight == 9).all()


@pytest.mark.parametrize("init", sorted(set(INITIALIZATIONS) - {"default"}))
def test_float64_net_starts_from_the_same_numbers(init, lenet):
    single = draw(lenet, init, stream())
    double = draw(copy.deepcopy(lenet).double(), init, stream())
    for name, value in double.items():
        assert value.dtype == torch.float64
        assert torch.equal(value.float(), single[name])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("init", INITIALIZATIONS)
def test_cuda_net_starts_from_the_same_numbers(init, lenet):
    state = torch.cuda.get_rng_state()
    there = draw(copy.deepcopy(lenet).cuda(), init, stream())
    assert torch.equal(torch.cuda.get_rng_state(), state)
    here = draw(lenet, init, stream())
    for name, value in there.items():
        assert value.device.type == "cuda"
        assert torch.equal(value.cpu(), here[name])


def test_sentences_for_what_cannot_be_drawn(lenet):
    with pytest.raises(UsageError, match="did you mean xavier"):
        draw(lenet, "xavir", stream())
    with pytest.raises(UsageError, match=r"0\.weight has no shape yet"):
        draw(nn.Sequential(nn.LazyLinear(3)), "xavier", stream())
