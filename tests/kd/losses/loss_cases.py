"""Logits, tiny nets in float64, what is seen of a batch, and Jacobians from torch.func as a
witness."""

import copy
import itertools

import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

from datadistill.streams import generator
from kd_baselines.features import run
from kd_baselines.losses import Seen, attention_map


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(dtype)


def logits(seed=0, b=6, k=5, scale=3.0, shift=0.0, dtype=torch.float64):
    """Of the student and of the teacher, (2,B,K)."""
    return shift + scale * normal(2, b, k, seed=seed, dtype=dtype)


def labels(b=6, k=5):
    return torch.arange(b) % k


def noise(name):
    return generator(3, name)


def seen(z=None, v=None, **more):
    """A batch of logits alone."""
    b, k = (z if v is None else v).shape
    given = {"teacher_at": lambda T: v, "noise": noise, **more}
    return Seen(torch.zeros(b, 1, 1, 1), given.pop("labels", labels(b, k)), z, v, **given)


def seen_by(student, teacher, x, y, layer):
    """A batch as two nets see it: one pass of each, with a graph to the images."""
    x = x.detach().requires_grad_()
    ours, theirs = (run(net, x, [layer]) for net in (student, teacher.requires_grad_(False)))
    return Seen(
        x,
        y,
        ours.logits,
        theirs.logits,
        ours.features,
        theirs.features,
        teacher_at=lambda T: theirs.logits,
        student=student,
        teacher=teacher,
        noise=noise,
    )


def gradient(function, z):
    z = z.clone().requires_grad_()
    return torch.autograd.grad(function(z), z)[0]


def close(found, wanted, rtol=1e-12, atol=1e-15):
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=atol)


# --- nets


def seeded(make, seed):
    """A net from a constructor, in float64, with random weights and biases that are a function of
    the seed."""
    net = make().double()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            scale = p[0].numel() ** -0.5 if p.dim() > 1 else 0.3
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64) * scale)
    return net


def affine(seed=0, inputs=4, classes=3):
    return seeded(lambda: nn.Linear(inputs, classes), seed)


def two_layers(activation, inputs, classes, width):
    return lambda: nn.Sequential(nn.Linear(inputs, width), activation(), nn.Linear(width, classes))


def smooth(seed=0, inputs=4, classes=3, width=5):
    return seeded(two_layers(nn.Softplus, inputs, classes, width), seed)


def relu(seed=0, inputs=4, classes=3, width=8):
    return seeded(two_layers(nn.ReLU, inputs, classes, width), seed)


def smooth_conv(seed=0):
    """(B,1,4,4) to 3 logits; "3" is the output of the second convolution's activation."""

    def make():
        first, second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 2)
        return nn.Sequential(
            first, nn.Softplus(), second, nn.Softplus(), nn.Flatten(), nn.Linear(18, 3)
        )

    return seeded(make, seed)


def norm_conv(seed=0):
    """`smooth_conv` with BatchNorm, in training mode, whose running statistics are not the
    batch's."""
    net = smooth_conv(seed)
    net[0] = nn.Sequential(net[0], nn.BatchNorm2d(2).double())
    net[0][1].running_mean.copy_(normal(2, seed=seed + 1))
    net[0][1].running_var.copy_(normal(2, seed=seed + 2).square() + 0.5)
    return net


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
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Softplus(), nn.Linear(5, 3)),
        seed,
    )
    net[1].running_mean.copy_(normal(5, seed=seed + 1))
    net[1].running_var.copy_(normal(5, seed=seed + 2).square() + 0.5)
    return net


def jacobians(net, x, f=lambda z: z):
    """d f(net(x_b)) / d x_b by torch.func, the net in evaluation mode: (B,K,D)."""
    net = copy.deepcopy(net).eval()
    return vmap(jacrev(lambda one: f(net(one[None])[0])))(x).flatten(2)


class At(nn.Module):
    """A net at other weights, by name."""

    def __init__(self, net, theta):
        super().__init__()
        self.net, self.theta = [net], theta

    def forward(self, x):
        return functional_call(self.net[0], self.theta, (x,))


def states(net):
    """Everything that a loss must leave alone."""
    tensors = {k: v.detach().clone() for k, v in net.state_dict().items()}
    return tensors, [m.training for m in net.modules()], [p.grad for p in net.parameters()]


def same_state(a, b):
    return a[1:] == b[1:] and all(torch.equal(v, b[0][k]) for k, v in a[0].items())


class Maps(nn.Module):
    """Attention maps of a net's features, or of its logits."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        features = self.net(images)
        return attention_map(features if features.dim() == 4 else features[:, :, None, None])


# output, form, normalize of Jacobian matching; output, form of the penalty
MATCHING = [
    *itertools.product(
        ("full", "top", "label", "projected"), ("squared", "cross-entropy"), (False,)
    ),
    *itertools.product(("full", "top", "label"), ("squared",), (True,)),
]
NORMS = [
    *itertools.product(("full", "top", "label", "projected"), ("squared",)),
    *itertools.product(("full", "top", "label"), ("cross-entropy",)),
    *itertools.product(("full", "projected"), ("fisher",)),
]
