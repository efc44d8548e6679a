"""Small inner problems in float64: a net, T steps of images, soft labels and step sizes, and real
data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from datadistill.innerloop import unroll

DTYPE = torch.float64


class LeNet(nn.Module):
    """LeCun et al. 1998, as in the paper: 28 pixels, ReLU, maximum pooling."""

    size, classes = 28, 10

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)
        for weight in (p for p in self.parameters() if p.dim() > 1):
            nn.init.xavier_normal_(weight)  # as in the paper

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class ConvNet(nn.Module):
    """Two smooth blocks on 8 pixels; `norm` is "group" or "batch", `dropout` goes before the
    classifier."""

    size, classes = 8, 4

    def __init__(self, norm="group", dropout=0.0):
        super().__init__()
        make = {
            "group": lambda c: nn.GroupNorm(c, c, eps=1e-2),
            "batch": lambda c: nn.BatchNorm2d(c),
        }[norm]
        self.conv1, self.norm1 = nn.Conv2d(1, 3, 3, padding=1), make(3)
        self.conv2, self.norm2 = nn.Conv2d(3, 4, 3, padding=1), make(4)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = F.avg_pool2d(F.softplus(self.norm1(self.conv1(x))), 2)
        x = F.avg_pool2d(F.softplus(self.norm2(self.conv2(x))), 2)
        return self.head(self.dropout(x.flatten(1)))


NETS = {
    "lenet": LeNet,
    "groupnorm": lambda: ConvNet("group"),
    "batchnorm": lambda: ConvNet("batch"),
    "dropout": lambda: ConvNet("group", dropout=0.4),
}


@dataclass
class Case:
    """`inputs` maps images.t, labels.t, step_sizes and theta_0.<parameter> to leaves that require
    gradients."""

    net: nn.Module
    inputs: dict[str, Tensor]
    T: int
    real: tuple[Tensor, Tensor]

    def pairs(self, inputs=None):
        inputs = inputs or self.inputs
        return [(inputs[f"images.{t}"], inputs[f"labels.{t}"]) for t in range(self.T)]

    def theta_0(self, inputs=None):
        named = (inputs or self.inputs).items()
        return {k.removeprefix("theta_0."): x for k, x in named if k.startswith("theta_0.")}

    def theta_T(self, inputs=None, **how):
        inputs = inputs or self.inputs
        return unroll(
            self.net, self.theta_0(inputs), self.pairs(inputs), inputs["step_sizes"], **how
        )

    def outer(self, theta):
        """The loss of theta on the real batch; dropout off, BatchNorm on this batch's
        statistics."""
        buffers = {k: b.clone() for k, b in self.net.named_buffers()}
        dropouts = [m for m in self.net.modules() if isinstance(m, nn.Dropout) and m.training]
        for m in dropouts:
            m.p, m.was = 0.0, m.p
        logits = functional_call(self.net, (theta, buffers), (self.real[0],))
        for m in dropouts:
            m.p = m.was
        return F.cross_entropy(logits, self.real[1])

    def gradients_of(self, theta):
        found = torch.autograd.grad(self.outer(theta), list(self.inputs.values()))
        return dict(zip(self.inputs, found, strict=True))

    def gradients(self, **how):
        return self.gradients_of(self.theta_T(**how))


def case(name="groupnorm", T=3, per_tensor=False, batch=4, seed=0, eta=0.3):
    """The net called `name` with everything that T steps need, drawn from `seed`; step sizes around
    `eta`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = NETS[name]().to(DTYPE)
        size, classes = (28, 10) if name == "lenet" else (8, 4)
        inputs = {}
        for t in range(T):
            inputs[f"images.{t}"] = torch.randn(batch, 1, size, size, dtype=DTYPE)
            inputs[f"labels.{t}"] = torch.randn(batch, classes, dtype=DTYPE).softmax(1)
        columns = [len(list(net.parameters()))] if per_tensor else []
        inputs["step_sizes"] = eta * (0.5 + torch.rand(T, *columns, dtype=DTYPE))
        inputs |= {f"theta_0.{k}": p.detach().clone() for k, p in net.named_parameters()}
        real = torch.randn(6, 1, size, size, dtype=DTYPE), torch.randint(classes, (6,))
    return Case(net, {k: x.requires_grad_() for k, x in inputs.items()}, T, real)


def assert_same(found, expected, rtol):
    """Same names, and every difference at most `rtol` times the largest entry of its group (name to
    the dot).

    A gradient that is zero in theory (a bias before BatchNorm) has rounding for entries, so its
    group is the scale.
    """
    assert found.keys() == expected.keys()
    groups = {name.split(".")[0] for name in expected}
    sizes = {k: float(x.detach().abs().max()) for k, x in expected.items()}
    scale = {g: max(size for k, size in sizes.items() if k.split(".")[0] == g) for g in groups}
    for name, x in expected.items():
        size = scale[name.split(".")[0]]
        assert size > 0, f"{name}: nothing to compare"
        error = float((found[name] - x).detach().abs().max())
        assert error <= rtol * size, (
            f"{name}: differs by {error / size:.1e} of its group's largest entry"
        )
