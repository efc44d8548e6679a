"""Sums of terms by name, weights and temperatures that are none, and teachers whose images have no gradient."""

import math

import pytest
import torch
from torch import nn

from datadistill.errors import UsageError
from kd_baselines.distiller import Distiller
from kd_baselines.losses import CE, KD, AttentionJacobian, JacobianMatching, Linear, Needs, Term
from kd_baselines.losses.soft_targets import soft_target_loss
from kd_baselines.teachers import Teacher


class Loss(Term):
    """A class that is called as the sum is."""

    needs = Needs(student_logits=True)

    def forward(self, seen):
        return seen.got("student_logits").sum()


@pytest.fixture
def batch():
    return torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3


def net(**norm):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4, **norm), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


def test_the_sum_has_every_term_whatever_their_names(batch):
    objective = CE(name="kd-2", weight=2.0) + CE(name="kd") + CE(name="kd", weight=3.0)
    assert list(objective.named_terms) == ["kd-2", "kd", "kd-3"]
    out = Distiller(net(), objective).step(batch)
    torch.testing.assert_close(out["loss"], 6 * out["kd"])


def test_no_term_takes_the_place_of_the_sum():
    with pytest.raises(UsageError, match="another name"):
        Loss()
    assert list((CE() + Loss(name="mine")).named_terms) == ["ce", "mine"]


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, "1", None, lambda epoch: 1.0])
def test_what_is_no_weight(weight):
    with pytest.raises(UsageError, match="a weight is"):
        CE(weight=weight)
    with pytest.raises(UsageError, match="a weight is"):
        Linear(1.0, weight, epochs=3)


@pytest.mark.parametrize("T", [0, -1.0, math.nan, math.inf, "4", None])
def test_what_is_no_temperature(T):
    with pytest.raises(UsageError, match="temperature"):
        KD(T=T)
    with pytest.raises(UsageError, match="temperature"):
        soft_target_loss(torch.zeros(1, 2), torch.zeros(1, 2), T)


@pytest.mark.parametrize("term", [JacobianMatching, lambda: AttentionJacobian({"0": "0"})])
@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: Teacher(net(), mode="batch_stats"), "batch_stats"),
        (lambda: Teacher(net(track_running_stats=False)), "running statistics"),
    ],
)
def test_a_teacher_that_mixes_images_has_no_jacobian_of_each(term, make, said, batch):
    with pytest.raises(UsageError, match=said):
        Distiller(net(), term(), make()).step(batch)
