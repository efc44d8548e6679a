"""Nets of four numbers with one layer to be looked at, and functions whose gradients are not what
they seem."""

import torch
import torch.nn.functional as F
from torch import nn

import datadistill as dd


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Untracked(torch.autograd.Function):
    """x^2, whose backward uses a tensor that autograd does not see: the issue
    pytorch/pytorch#76185."""

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


CONFIG = {"ipc": 1, "epochs": 1, "iterations": 1, "validate_nets": 1, "nets": 1, "batch": 8}
IMAGES, LABELS = (
    torch.randn(8, 1, 2, 2, generator=torch.Generator().manual_seed(0)),
    torch.arange(8) % 3,
)


def build(layer):
    layer = layer() if isinstance(layer, type) else layer
    return nn.Sequential(
        nn.Flatten(), nn.Linear(4, 4), nn.Sequential(nn.Tanh(), layer), nn.Linear(4, 3)
    )


def make(layer):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(layer)


def bag(x):
    return F.embedding_bag(torch.arange(len(x))[:, None], x)


class Recomputed(torch.autograd.Function):
    """Runs a module again in its backward pass, with the values that the module has then."""

    @staticmethod
    def forward(ctx, function, x):
        ctx.function = function
        ctx.save_for_backward(x)
        with torch.no_grad():
            return function(x)

    @staticmethod
    def backward(ctx, gradient):
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            torch.autograd.backward(ctx.function(x), gradient)
        return None, x.grad


class Recomputing(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)

    def forward(self, x):
        return Recomputed.apply(self.body, x)


def real():
    images = torch.rand(60, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(60) % 3
    return dd.RealData.from_tensors(images, labels, test_images=images[:6], test_labels=labels[:6])
