"""Nets and images for the tests of cached teachers."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from datadistill.data import Split
from datadistill.training.fit_loop import Fit
from kd_baselines.teachers import Teacher

N = 23  # no multiple of a batch


class Counted(nn.Module):
    """BatchNorm, dropout and an activation in place; counts the images it sees."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.bn, self.relu = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(108, 4)
        self.bn.running_mean.normal_()
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return self.head(self.drop(self.relu(self.bn(self.conv(x)))).flatten(1))


def make_split():
    """N images of four classes."""
    stream = torch.Generator().manual_seed(0)
    return Split(torch.randn(N, 2, 8, 8, generator=stream), torch.arange(N) % 4)


def seen(teacher):
    return sum(net.seen for net in teacher.nets)


def asked(cached, split, plan, *, seed=0, number=0, online=None):
    """Train on the cache's answers; return its and the online teacher's losses of every step."""
    online = (
        Teacher(*(copy.deepcopy(net) for net in cached.teacher.nets)) if online is None else online
    )
    found, wanted = [], []
    w = torch.zeros(4, requires_grad=True)

    def soft(out):
        return F.kl_div(
            F.log_softmax(w.expand_as(out.logits), 1),
            F.softmax(out.at(4.0) / 4, 1),
            reduction="batchmean",
        )

    def loss(batch):
        out = cached.outputs(batch.images, cached.layers, index=batch.index, view=fit.epoch)
        same = online.outputs(batch.images, cached.layers)
        hints = [f.square().sum() for o in (out, same) for f in o.features.values()]
        if hints:
            torch.testing.assert_close(hints[0], hints[1], rtol=1e-6, atol=0)
        found.append(soft(out).item())
        wanted.append(soft(same).item())
        return soft(out)

    fit = Fit({"w": w}, loss, split, plan, seed=seed, nets=number)
    while not fit.is_done:
        fit.advance()
    return found, wanted
