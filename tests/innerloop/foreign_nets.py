"""Nets of the user's own, as they are found elsewhere, and the loop that trains them."""

import collections
import warnings

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from datadistill.innerloop import FullUnroll, unroll_with_buffers
from datadistill.streams import global_stream

T, ETA = 6, 0.3
FULL = FullUnroll()
IMAGES = torch.randn(12, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3


class Flat(nn.Module):
    """Two layers whose hidden block a subclass runs in its own way."""

    def __init__(self, norm=False):
        super().__init__()
        self.a, self.b = nn.Linear(16, 8), nn.Linear(8, 3)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()

    def block(self, x):
        return torch.tanh(self.norm(self.a(x)))

    def forward(self, x):
        return self.b(self.block(x.flatten(1)))


class Checkpointed(Flat):
    def forward(self, x):
        return self.b(checkpoint(self.block, x.flatten(1), use_reentrant=False))


class Reentrant(Flat):
    def forward(self, x):
        return self.b(checkpoint(self.block, x.flatten(1), use_reentrant=True))


class Sequential(Flat):
    def forward(self, x):
        parts = nn.Sequential(nn.Flatten(), self.a, nn.Tanh(), self.b)
        return checkpoint_sequential(parts, 2, x, use_reentrant=False)


class Counter(Flat):
    """Uses a buffer that it counts in, so that every step is another function."""

    def __init__(self):
        super().__init__()
        self.register_buffer("n", torch.zeros(()))

    def forward(self, x):
        self.n += 1
        return super().forward(x) / self.n


class Replaced(Flat):
    """Puts a new tensor in the place of its buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, dtype=torch.float64))

    def forward(self, x):
        y = super().forward(x)
        self.mean = 0.9 * self.mean + 0.1 * y.detach().mean(0)
        return y - self.mean


class InPlace(Replaced):
    """Writes into its buffer."""

    def forward(self, x):
        y = Flat.forward(self, x)
        self.mean.mul_(0.9).add_(0.1 * y.detach().mean(0))
        return y - self.mean


class Keeps(Flat):
    """Keeps tensors of its pass, and grows a list."""

    def __init__(self):
        super().__init__()
        self.seen, self.calls = [], 0

    def forward(self, x):
        self.features = self.block(x.flatten(1))
        self.seen.append(self.features)
        self.calls += 1
        return self.b(self.features)


class Branch(Flat):
    def forward(self, x):
        y = super().forward(x)
        return 2 * y if y.mean().item() > 0 else y


class Recurrent(nn.Module):
    def __init__(self, kind=nn.LSTM):
        super().__init__()
        self.r, self.o = kind(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.o(self.r(x[:, 0])[0][:, -1])


class Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return a.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.saved_tensors[0] > 0)


class OwnFunction(Flat):
    def block(self, x):
        return Relu.apply(self.a(x))


def frozen(norm):
    """A norm layer of the user's in evaluation mode, inside a net in training mode."""
    net = Flat()
    net.norm = norm.eval()
    nn.init.uniform_(norm.running_mean)
    return net


def legacy_weight_norm():
    net = Flat()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(net.a)
    return net


def legacy_spectral_norm():
    net = Flat()
    nn.utils.spectral_norm(net.a)
    return net


def pruned():
    net = Flat()
    prune.l1_unstructured(net.a, "weight", 0.5)
    return net


class Counts(Flat):
    """Computes with a counter that is neither parameter nor buffer; has a buffer that it does not
    use."""

    def __init__(self):
        super().__init__()
        self.n = 0
        self.register_buffer("unused", torch.ones(2))

    def forward(self, x):
        self.n += 1
        return super().forward(x) * (1 + 0.1 * self.n)


class WritesLater(Counter):
    """Writes its buffer from the third pass on."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 2:
            self.n += 1
        return Flat.forward(self, x) / (1 + self.n)


class Stateful(Flat):
    """Keeps a hidden state, which the next pass starts from, and a queue of features."""

    def __init__(self):
        super().__init__()
        self.h, self.queue = None, collections.deque(maxlen=2)

    def forward(self, x):
        z = self.block(x.flatten(1))
        z = z if self.h is None else z + 0.5 * self.h
        self.h = z.detach()
        self.queue.append({"h": [z]})
        return self.b(z if z.mean().item() > -9 else -z)


class FirstInPlace(Flat):
    """Writes into the images it is given."""

    def forward(self, x):
        return super().forward(x.relu_())


def with_parametrization(register):
    net = Flat()
    register(net.a)
    return net


def instance_norm():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.InstanceNorm2d(4, track_running_stats=True),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


NETS = {
    "checkpoint": Checkpointed,
    "checkpoint, BatchNorm": lambda: Checkpointed(norm=True),
    "checkpoint, reentrant": Reentrant,
    "checkpoint_sequential": Sequential,
    "counter": Counter,
    "buffer replaced": Replaced,
    "buffer in place": InPlace,
    "keeps tensors": Keeps,
    "branch": Branch,
    "counter in Python": Counts,
    "buffer written later": WritesLater,
    "hidden state": Stateful,
    "first layer in place": FirstInPlace,
    "frozen BatchNorm": lambda: frozen(nn.BatchNorm1d(8)),
    "LSTM": Recurrent,
    "GRU": lambda: Recurrent(nn.GRU),
    "RNN": lambda: Recurrent(nn.RNN),
    "own function": OwnFunction,
    "weight_norm": lambda: with_parametrization(parametrizations.weight_norm),
    "spectral_norm": lambda: with_parametrization(parametrizations.spectral_norm),
    "orthogonal": lambda: with_parametrization(parametrizations.orthogonal),
    "older weight_norm": legacy_weight_norm,
    "older spectral_norm": legacy_spectral_norm,
    "pruned": pruned,
    "InstanceNorm": instance_norm,
}


def made(name, seed=0):
    with global_stream(seed, "net"):
        return NETS[name]().double()


def theta_of(net):
    return {k: p.detach().clone() for k, p in net.named_parameters()}


def torch_loop(net):
    """T steps of torch.optim.SGD on the net itself, without checkpointing (which writes BatchNorm's
    statistics twice, and leaves a layer untrained whose input has no gradient)."""
    if isinstance(net, Checkpointed | Reentrant | Sequential):
        net.__class__ = Flat
    optimizer = torch.optim.SGD(net.parameters(), ETA)
    for _ in range(T):
        optimizer.zero_grad()
        F.cross_entropy(net(IMAGES.clone()), LABELS).backward()
        optimizer.step()
    return net


def ours(net, theta, images=IMAGES, adjoint=FULL, **kwargs):
    step_sizes = torch.full((T,), ETA, dtype=torch.float64)
    return unroll_with_buffers(
        net, theta, [(images, LABELS)] * T, step_sizes, adjoint=adjoint, **kwargs
    )


def theta_T_of(net, images, adjoint=FULL):
    found = ours(net, theta_of(net), images, adjoint)
    return {k: found[k] for k in theta_of(net)}


def cubes(theta):
    return sum((p**3).sum() for p in theta.values())


def state_of(net):
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}
