"""Nets of the user's own, images and labels that a loop cannot differentiate through: one sentence
each."""

import pytest
import torch
from foreign_nets import IMAGES, LABELS, NETS, Flat
from torch import nn

from datadistill.errors import UsageError
from datadistill.innerloop import FullUnroll, Higher, unroll


class Clamps(Flat):
    def forward(self, x):
        self.a.weight.data.clamp_(-0.1, 0.1)
        return super().forward(x)


class Renormed(Flat):
    def forward(self, x):
        self.a.weight.data = torch.renorm(self.a.weight.data, 2, 0, 0.5)
        return super().forward(x)


def small(width=4):
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(width * 4, 3))


class Auxiliary(Flat):
    def forward(self, x):
        y = super().forward(x)
        return (y, y) if self.training else y


def hooked():
    net = Flat()
    net.a.weight.register_hook(lambda g: 0 * g)
    return net


X, Y, FULL, HIGHER = IMAGES.float(), LABELS, FullUnroll(), Higher()
REFUSED = {
    "labels of a float type": (
        small,
        X,
        Y.float(),
        FULL,
        r"labels are torch.float32.*labels.long\(\)",
    ),
    "labels (B, 1)": (small, X, Y[:, None], FULL, r"labels have shape \(12, 1\)"),
    "labels past K": (small, X, Y + 1, FULL, "labels go from 1 to 3 and the net has 3 logits"),
    "labels below 0": (small, X, Y - 1, FULL, "labels go from -1"),
    "uint8 images": (
        small,
        (X * 50).byte(),
        Y,
        FULL,
        "torch.uint8.*torch.float32 as its parameters",
    ),
    "float64 images": (
        small,
        X.double(),
        Y,
        FULL,
        "torch.float64.*torch.float32 as its parameters",
    ),
    "NHWC images": (small, X.permute(0, 2, 3, 1), Y, FULL, r"does not take images \(12, 4, 4, 1\)"),
    "auxiliary outputs": (Auxiliary, X, Y, FULL, "makes a tuple in training mode"),
    "one logit": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), X, Y, FULL, "one logit"),
    "TorchScript": (lambda: torch.jit.trace(small(), X), X, Y, FULL, "TorchScript"),
    "parameters clamped": (Clamps, X, Y, FULL, r"writes its parameter a\.weight"),
    "parameters renormed": (Renormed, X, Y, FULL, r"writes its parameter a\.weight"),
    "a hook of a parameter": (hooked, X, Y, FULL, r"a\.weight has a hook"),
    "a replica wrapper": (lambda: nn.DataParallel(Flat()), X, Y, FULL, r"net\.module"),
    "higher, spectral norm": (NETS["spectral_norm"], X, Y, HIGHER, "buffers that the net writes"),
    "higher, a buffer in place": (
        NETS["buffer in place"],
        X,
        Y,
        HIGHER,
        "buffers that the net writes",
    ),
}


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(name):
    make, images, labels, adjoint, pattern = REFUSED[name]
    net = make()
    before = {k: p.detach().clone() for k, p in net.named_parameters()}
    theta = {k: p.detach() for k, p in net.named_parameters()}
    with pytest.raises(UsageError, match=pattern):
        unroll(net, theta, [(images, labels)] * 2, torch.full((2,), 0.1), adjoint=adjoint)
    assert all(torch.equal(p, before[k]) for k, p in net.named_parameters())
