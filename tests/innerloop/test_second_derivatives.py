"""Layers whose second derivative torch lacks or has wrong: computed otherwise, or refused by
name."""

import pytest
import torch
import torch.nn.functional as F
from oracles.finite_differences import check_directions
from torch import nn
from torch.autograd import gradgradcheck
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn.utils import parametrizations

from datadistill.errors import UsageError
from datadistill.innerloop import FullUnroll, StepReplay, Truncated, unroll
from datadistill.innerloop.second_derivatives import TwiceDifferentiable

DTYPE = torch.float64


class Call(nn.Module):
    """A layer that calls a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class SelfAttention(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.attention, self.weights = nn.MultiheadAttention(4, 2, batch_first=True), weights

    def forward(self, x):
        x = x[:, None] * torch.linspace(0.5, 1, 3, dtype=x.dtype)[:, None]
        return self.attention(x, x, x, need_weights=self.weights)[0].sum(1)


def attend(x, **args):
    q = x.reshape(-1, 1, 2, 2)
    return F.scaled_dot_product_attention(q, 2 * q, q.square(), **args).flatten(1)


# (B, 4) -> (B, 4)
LAYERS = {
    "Hardsigmoid": nn.Hardsigmoid,
    "Hardsigmoid in place": lambda: nn.Hardsigmoid(inplace=True),
    "Hardswish in place": lambda: nn.Hardswish(inplace=True),
    "SiLU in place": lambda: nn.SiLU(inplace=True),
    "hardsigmoid": lambda: Call(F.hardsigmoid),
    "attention": lambda: Call(attend),
    "causal attention": lambda: Call(lambda x: attend(x, is_causal=True)),
    "MultiheadAttention": lambda: SelfAttention(False),
    "MultiheadAttention with weights": lambda: SelfAttention(True),
    "TransformerEncoderLayer": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2)),
        nn.TransformerEncoderLayer(2, 1, 3, 0.0, F.silu, batch_first=True, norm_first=True),
        nn.Flatten(),
    ),
    "weight_norm": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "weight_norm, last axis": lambda: parametrizations.weight_norm(nn.Linear(4, 4), dim=1),
    "weight_norm, all axes": lambda: parametrizations.weight_norm(nn.Linear(4, 4), dim=None),
}


def make(name):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), LAYERS[name](), nn.Linear(4, 3)).to(DTYPE)


@pytest.mark.parametrize("name", LAYERS)
def test_values_are_torchs(name):
    net, x = make(name), torch.randn(3, 4, dtype=DTYPE, generator=torch.Generator().manual_seed(1))
    with TwiceDifferentiable(net):
        found = net(x)
    torch.testing.assert_close(found, net(x))


@pytest.mark.parametrize("nets", [None, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_hypergradients_equal_finite_differences(name, nets):
    net, generator = make(name), torch.Generator().manual_seed(1)
    inputs = {k: p.detach().clone() for k, p in net.named_parameters()}
    names = list(inputs)
    if nets is not None:
        inputs = {k: torch.stack([p, 0.9 * p]) for k, p in inputs.items()}
    inputs["images"] = torch.randn(2, 4, dtype=DTYPE, generator=generator)
    inputs["labels"] = torch.randn(2, 3, dtype=DTYPE, generator=generator).softmax(1)

    def outer(tensors):
        pairs = [(tensors["images"], tensors["labels"])] * 2
        theta = unroll(
            net, {k: tensors[k] for k in names}, pairs, torch.full((2,), 0.1, dtype=DTYPE)
        )
        return torch.stack([p.square().sum() for p in theta.values()]).sum()

    leaves = {k: x.requires_grad_() for k, x in inputs.items()}
    gradients = torch.autograd.grad(outer(leaves), list(leaves.values()))
    found = dict(zip(leaves, gradients, strict=True))
    check_directions(
        outer, {k: x.detach() for k, x in inputs.items()}, found, generator, directions=1
    )


LABELS = torch.tensor([0, 2, 1])
LOSSES = {
    "plain": {},
    "squared": {"p": 2, "margin": 0.5},
    "weighted": {"weight": torch.tensor([1.0, 2.0, 0.5], dtype=DTYPE)},
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none"},
}


@pytest.mark.parametrize("args", LOSSES.values(), ids=list(LOSSES))
def test_multi_margin_loss_is_torchs_and_twice_differentiable(args):
    logits = torch.randn(
        3, 3, dtype=DTYPE, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()

    def loss(logits):
        with TwiceDifferentiable():
            return F.multi_margin_loss(logits, LABELS, **args)

    torch.testing.assert_close(loss(logits), F.multi_margin_loss(logits, LABELS, **args))
    assert gradgradcheck(loss, logits)


def test_the_callers_layers_stay_as_they_are():
    net = make("MultiheadAttention")
    before = [(id(m), type(m), m.training, dict(vars(m))) for m in net.modules()]
    images = torch.randn(2, 4, dtype=DTYPE).requires_grad_()
    theta = {k: p.detach() for k, p in net.named_parameters()}
    theta_T = unroll(net, theta, [(images, torch.tensor([0, 1]))], torch.ones(1, dtype=DTYPE))
    theta_T["0.weight"].sum().backward()
    assert [(id(m), type(m), m.training, dict(vars(m))) for m in net.modules()] == before


def test_a_net_that_needs_nothing_is_run_plainly_after_one_pass():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    twice, seen = TwiceDifferentiable(net), []
    net.register_forward_hook(lambda *_: seen.append(torch.overrides._get_current_function_mode()))
    for _ in range(2):
        with twice:
            net(torch.ones(1, 4))
    assert seen[0] is not None and seen[1] is None


# --- what has no second derivative


class Once(torch.autograd.Function):
    """x^2, whose backward cannot be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return 2 * gradient * ctx.saved_tensors[0]


def bag(x):
    return F.embedding_bag(torch.tensor([[0, 1], [1, 0]]), x)


def several_labels(logits, labels):
    return F.multilabel_margin_loss(logits, torch.tensor([[0, -1, 0], [2, -1, 0]]))


REFUSED = {
    "once_differentiable": (
        Once.apply,
        F.cross_entropy,
        r"layer 1\.0 \(Call\): autograd.Function Once: no",
    ),
    "embedding_bag": (
        bag,
        F.cross_entropy,
        r"layer 1\.0 \(Call\): embedding_bag: no second derivative",
    ),
    "loss": (F.relu, several_labels, r"the loss \(several_labels\): .*no second derivative"),
}


def refused_net(function):
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(Call(function), nn.Tanh()), nn.Linear(4, 3))


@pytest.mark.parametrize(
    "adjoint", [FullUnroll(), StepReplay(), Truncated(1)], ids=lambda a: type(a).__name__
)
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_none_is_named_before_learning(name, adjoint):
    function, loss, sentence = REFUSED[name]
    net, images = refused_net(function), torch.ones(2, 4, requires_grad=True)
    theta = {k: p.detach() for k, p in net.named_parameters()}
    with pytest.raises(UsageError, match=sentence):
        unroll(
            net,
            theta,
            [(images, torch.tensor([0, 1]))] * 2,
            torch.ones(2),
            adjoint=adjoint,
            loss=loss,
        )
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_training_without_gradients_needs_none():
    net, images = refused_net(bag), torch.ones(2, 4)
    theta = {k: p.detach() for k, p in net.named_parameters()}
    labels = torch.tensor([0, 1])
    with torch.no_grad():
        theta_T = unroll(net, theta, [(images, labels)], torch.ones(1))
    loss = F.cross_entropy(functional_call(net, theta_T, (images,)), labels)
    assert loss < F.cross_entropy(net(images), labels)
