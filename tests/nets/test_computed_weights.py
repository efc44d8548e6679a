"""Draws of nets whose weights are computed from others, and what no scheme draws."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.spectral_norm import spectral_norm as older_spectral_norm
from torch.nn.utils.weight_norm import weight_norm as older_weight_norm

import datadistill as dd
from datadistill.errors import UsageError
from datadistill.nets import NETS, draw
from datadistill.nets.computed import computed_weights
from datadistill.nets.copying import copy_net
from datadistill.nets.initialization import draw_whole, find_undrawn
from datadistill.nets.spec import NetSpec
from datadistill.starts import Built, Random, nets_at_once, random_start
from datadistill.theta import put

WIDE, TALL = (48, 32), (32, 48)  # inputs, outputs


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


class Symmetric(nn.Module):
    """No right_inverse: as torch has it, the original is then the weight as it was."""

    def forward(self, x):
        return x.triu() + x.triu(1).T


class Exponential(nn.Module):
    def forward(self, x):
        return x.sign() * x.abs().expm1()

    def right_inverse(self, w):
        return w.sign() * w.abs().log1p()


class OneWay(nn.Module):
    def forward(self, x):
        return x

    def right_inverse(self, w):
        if getattr(self, "closed", False):
            raise RuntimeError("no way back")
        return w


def layer(wrap=lambda x: x, shape=WIDE):
    torch.manual_seed(0)
    return wrap(nn.Linear(*shape)).double()


def with_(parametrization):
    return lambda x: parametrize.register_parametrization(x, "weight", parametrization()) or x


def pruned(x):
    prune.random_unstructured(x, "weight", 0.3)
    return prune.l1_unstructured(x, "bias", 0.5)


# what gives the layer back the weight that was drawn
EXACT = {
    "weight norm": parametrizations.weight_norm,
    "weight norm over inputs": lambda x: parametrizations.weight_norm(x, dim=1),
    "weight norm of the whole": lambda x: parametrizations.weight_norm(x, dim=None),
    "older weight norm": older_weight_norm,
    "older weight norm of the whole": lambda x: older_weight_norm(x, dim=None),
    "a function with its inverse": with_(Exponential),
    "two of them": lambda x: with_(Exponential)(parametrizations.weight_norm(x)),
}
NORMED = {
    "spectral norm": parametrizations.spectral_norm,
    "older spectral norm": older_spectral_norm,
}
ORTHOGONAL = {
    "orthogonal": parametrizations.orthogonal,
    "householder": lambda x: parametrizations.orthogonal(x, orthogonal_map="householder"),
    "cayley": lambda x: parametrizations.orthogonal(x, orthogonal_map="cayley"),
    "householder alone": lambda x: parametrizations.orthogonal(
        x, orthogonal_map="householder", use_trivialization=False
    ),
}
ALL = {
    **EXACT,
    **NORMED,
    **ORTHOGONAL,
    "pruning": pruned,
    "symmetric": lambda x: with_(Symmetric)(x),
}


def weight_of(net, init, seed):
    """The weight in use of a drawn net, in evaluation mode, by its forward pass."""
    theta, buffers = draw_whole(net, init, stream(seed))
    twin = copy_net(net)
    put(twin, {**theta, **buffers})
    twin.eval()
    eye = torch.eye(net.in_features, dtype=torch.float64)
    with torch.no_grad():
        return (twin(eye) - twin(torch.zeros(1, net.in_features, dtype=torch.float64))).T


@pytest.mark.parametrize("init", ["default", "xavier", "orthogonal"])
@pytest.mark.parametrize("wrap", EXACT.values(), ids=EXACT)
def test_the_weight_in_use_is_drawn_as_a_plain_one(wrap, init):
    plain = draw(layer(), init, stream(3))["weight"]
    torch.testing.assert_close(weight_of(layer(wrap), init, 3), plain)


@pytest.mark.parametrize("init", ["default", "kaiming"])
@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, older_weight_norm])
def test_magnitudes_of_weight_norm_are_the_norms_of_the_weight(wrap, init):
    theta = draw(layer(wrap), init, stream(1))
    g, v = (p for name, p in theta.items() if not name.endswith("bias"))
    if g.shape != (WIDE[1], 1):
        g, v = v, g
    torch.testing.assert_close(g, v.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("init", ["default", "xavier"])
@pytest.mark.parametrize("wrap", NORMED.values(), ids=NORMED)
def test_spectral_norm_follows_the_drawn_weight(wrap, init):
    weight, plain = weight_of(layer(wrap), init, 3), draw(layer(), init, stream(3))["weight"]
    sigma = torch.linalg.matrix_norm(plain, 2)
    # torch's constructor iterates as often: within a few percent of the norm, and the same
    # direction exactly
    assert float(
        (plain.flatten() @ weight.flatten()) / plain.norm() / weight.norm()
    ) == pytest.approx(1)
    torch.testing.assert_close(
        torch.linalg.matrix_norm(weight, 2), sigma / sigma, rtol=0.05, atol=0
    )


@pytest.mark.parametrize("shape", [WIDE, TALL, (32, 32)])
@pytest.mark.parametrize("init", ["default", "xavier", "orthogonal"])
@pytest.mark.parametrize("wrap", ORTHOGONAL.values(), ids=ORTHOGONAL)
def test_orthogonal_weights_stay_orthogonal(wrap, init, shape):
    first, second = (weight_of(layer(wrap, shape), init, seed) for seed in (0, 1))
    for w in (first, second):
        w = w if w.shape[0] <= w.shape[1] else w.T
        torch.testing.assert_close(w @ w.T, torch.eye(len(w), dtype=torch.float64))
    assert (first - second).abs().max() > 0.1


def test_a_pruned_layer_is_drawn_behind_its_mask():
    net = layer(pruned)
    plain = draw(layer(), "default", stream(3))
    theta = draw(net, "default", stream(3))
    assert torch.equal(theta["weight_orig"], plain["weight"])
    assert torch.equal(theta["bias_orig"], plain["bias"])
    torch.testing.assert_close(weight_of(net, "default", 3), plain["weight"] * net.weight_mask)
    assert (draw(net, "xavier", stream(3))["bias_orig"] == 0).all()
    norm = nn.BatchNorm1d(4)
    prune.l1_unstructured(norm, "bias", 0.5)
    assert (draw(norm, "xavier", stream(3))["bias_orig"] == 0).all()


def test_a_parametrization_without_inverse_starts_as_in_torch():
    net = layer(with_(Symmetric), (32, 32))
    original = draw(net, "default", stream(3))["parametrizations.weight.original"]
    assert torch.equal(original, draw(layer(shape=(32, 32)), "default", stream(3))["weight"])


@pytest.mark.parametrize("wrap", ALL.values(), ids=ALL)
def test_a_draw_changes_nothing_of_the_net(wrap):
    net = layer(wrap, (32, 32))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    kind, names = type(net), [name for name, _ in net.named_parameters()]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for init in ("default", "xavier"):
        theta, buffers = draw_whole(net, init, stream())
        again = draw_whole(net, init, stream())
        assert list(theta) == names
        assert all(torch.equal(theta[k], again[0][k]) for k in theta)
        assert all(torch.equal(buffers[k], again[1][k]) for k in buffers)
        assert not any(p.requires_grad for p in theta.values())
    assert torch.equal(torch.get_rng_state(), state)
    assert type(net) is kind
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert computed_weights(net)[0].full_name == "weight"


@pytest.mark.parametrize("wrap", ALL.values(), ids=ALL)
@pytest.mark.parametrize("init", ["default", "xavier"])
def test_nothing_of_these_is_the_same_in_every_draw(wrap, init):
    assert find_undrawn(layer(wrap, (32, 32)), init) == []


def test_each_orthogonal_net_has_a_module_of_its_own():
    net = nn.Sequential(layer(parametrizations.orthogonal), layer(shape=(32, 4)))
    start, x = Random(net, "xavier", 0), torch.randn(3, 48, dtype=torch.float64)
    parts = nets_at_once(start, net, 0, 2)
    assert [count for _, _, count in parts] == [1, 1]
    for n, (own, theta, _) in enumerate(parts):
        twin = copy_net(net)
        whole = start.whole(0, n)
        put(twin, {**whole[0], **whole[1]})
        torch.testing.assert_close(torch.func.functional_call(own, theta, (x,)), twin(x))
    ((_, theta, count),) = nets_at_once(
        Random(layer(parametrizations.weight_norm), "xavier", 0), net, 0, 2
    )
    assert (count, theta["bias"].shape) == (2, (2, 32))


def test_a_weight_whose_originals_are_frozen_is_not_drawn():
    net = layer(parametrizations.orthogonal)
    net.parametrizations.weight.original.requires_grad_(False)
    assert draw_whole(net, "xavier", stream())[1] == {}
    assert list(Random(net, "xavier", 0).whole(0, 0)[0]) == ["bias"]


def test_complex_weights_have_the_variance_of_the_scheme():
    net = nn.Linear(200, 100, dtype=torch.complex64)
    for init, variance in (("xavier", 2 / 300), ("xavier-uniform", 2 / 300), ("kaiming", 2 / 200)):
        weight = draw(net, init, stream())["weight"]
        for part in (weight.real, weight.imag):  # a mean of 20,000 squares is within 4 percent
            assert float(part.square().mean()) == pytest.approx(variance / 2, rel=0.05)
    unitary = draw(net, "orthogonal", stream())["weight"]
    torch.testing.assert_close(unitary @ unitary.mH, torch.eye(100, dtype=torch.complex64))


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(4, 6))
        self.slopes = nn.Parameter(torch.randn(6))
        self.gate, self.ones = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.ones(6))
        self.layers = nn.Sequential(
            nn.Linear(6, 6), nn.LayerNorm(6), nn.InstanceNorm1d(6, affine=True)
        )
        self.listed = nn.ParameterList([torch.randn(3)])
        self.frozen = nn.Parameter(torch.randn(3), requires_grad=False)
        self.attention, self.recurrent = (
            nn.MultiheadAttention(6, 2, add_bias_kv=True),
            nn.LSTM(6, 3),
        )


@pytest.mark.parametrize(
    ("init", "kept"),
    [("default", ["table", "slopes", "listed.0"]), ("xavier", ["slopes", "listed.0"])],
)
def test_bare_parameters_that_vary_are_named(init, kept):
    net = Bare()
    with torch.no_grad():
        net.layers[1].weight.normal_()  # trained values of a norm are drawn as its constructor does
    assert find_undrawn(net, init) == kept


def test_bare_parameters_are_refused_where_many_nets_are_drawn():
    with pytest.raises(
        UsageError, match=r"default does not draw table, slopes, listed\.0: .*net=lambda: MyNet"
    ):
        random_start(Bare(), "default", 0, "theta_0")


def test_a_library_net_is_built_anew_where_a_reset_is_too_little(monkeypatch):
    monkeypatch.setitem(NETS, "bare", lambda channels, size, classes: Bare())
    spec = NetSpec("bare", {"channels": 1, "size": 8, "classes": 2})
    start = random_start(spec.build(), "default", 0, "theta_0", spec)
    assert isinstance(start, Built)
    assert not torch.equal(start.one(0, 0)["table"], start.one(0, 1)["table"])
    with pytest.raises(UsageError, match=r"xavier does not draw slopes.*or choose init default"):
        random_start(spec.build(), "xavier", 0, "theta_0", spec)


def test_a_pool_of_nets_that_a_scheme_does_not_reach_is_refused(monkeypatch):
    monkeypatch.setitem(NETS, "bare", lambda channels, size, classes: Slopes())
    config = dd.PoolConfig(
        dataset="digits", net="bare", nets=1, validation_nets=1, held_out=1, device="cpu"
    )
    with pytest.raises(
        UsageError, match=r"xavier does not draw slopes: .*the nets not independent"
    ):
        dd.pretrain(config)


class Slopes(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))
        self.slopes = nn.Parameter(torch.randn(10))


def closed():
    net = layer(with_(OneWay))
    net.parametrizations.weight[0].closed = True
    return net


REFUSED = [
    (
        lambda: draw(closed(), "xavier", stream()),
        "weight is computed by OneWay.*no way back.*net=lambda",
    ),
    (
        lambda: draw(layer(parametrizations.orthogonal), "xavier", stream()),
        "a draw of weight is in buffers too .*draw_whole",
    ),
]


@pytest.mark.parametrize(("call", "said"), REFUSED)
def test_refusals(call, said):
    with pytest.raises(UsageError, match=said):
        call()
