"""Tiny nets in float64, and Jacobians from torch.func as a witness."""

import copy

import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap


def seeded(make, seed):
    """A net from a constructor, in float64, with random weights and biases that are a function of the seed."""
    net = make().double()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(
                torch.randn(p.shape, generator=g, dtype=torch.float64)
                * (p[0].numel() ** -0.5 if p.dim() > 1 else 0.3)
            )
    return net


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def affine(seed=0, inputs=4, classes=3):
    return seeded(lambda: nn.Linear(inputs, classes), seed)


def smooth(seed=0, inputs=4, classes=3, width=5):
    return seeded(
        lambda: nn.Sequential(nn.Linear(inputs, width), nn.Softplus(), nn.Linear(width, classes)), seed
    )


def relu(seed=0, inputs=4, classes=3, width=8):
    return seeded(lambda: nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, classes)), seed)


def smooth_conv(seed=0):
    """(B,1,4,4) to 3 logits."""

    def make():
        first, second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 2)
        return nn.Sequential(first, nn.Softplus(), second, nn.Softplus(), nn.Flatten(), nn.Linear(18, 3))

    return seeded(make, seed)


def relu_conv(seed=0):
    """Two convolutions, ReLU and max-pooling; (B,1,6,6) to 3 logits."""

    def make():
        first, second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 2)
        head = (nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
        return nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), second, *head)

    return seeded(make, seed)


def with_batchnorm(seed=0):
    """In training mode, with running statistics that are not the batch's; (B,4) to 3 logits."""
    net = seeded(
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Softplus(), nn.Linear(5, 3)), seed
    )
    net[1].running_mean.copy_(normal(5, seed=seed + 1))
    net[1].running_var.copy_(normal(5, seed=seed + 2).square() + 0.5)
    return net


def jacobians(net, x, f=lambda z: z):
    """d f(net(x_b)) / d x_b by torch.func, the net in evaluation mode: (B,K,D)."""
    net = copy.deepcopy(net).eval()
    return vmap(jacrev(lambda one: f(net(one[None])[0])))(x).flatten(2)


def at(net, names):
    """The net as a function of the tensors of these names, for gradcheck: (*tensors) -> callable net."""

    def of(*tensors):
        return lambda x: functional_call(net, dict(zip(names, tensors, strict=True)), (x,))

    return of


def leaves(net, names=None):
    """The parameters, as leaves of their own, and their names."""
    found = {
        k: p.detach().clone().requires_grad_() for k, p in net.named_parameters() if names is None or k in names
    }
    return list(found), list(found.values())


def states(net):
    """Everything that a loss must leave alone."""
    tensors = {k: v.detach().clone() for k, v in net.state_dict().items()}
    return tensors, [m.training for m in net.modules()], [p.grad for p in net.parameters()]


def same_state(a, b):
    return a[1:] == b[1:] and all(torch.equal(v, b[0][k]) for k, v in a[0].items())
