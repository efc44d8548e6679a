"""What a student and its teacher bring along stays: frozen layers, hooks, images. Noise follows the
seed."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datadistill.data import Split
from datadistill.training.fit_plan import FitPlan
from kd_baselines import CE, KD, Distiller, JacobianMatching, Stage, Teacher, fit, score
from kd_baselines.teacher_cache import CachedTeacher

PLAN = FitPlan(epochs=2, batch=8, lr=0.05)


@pytest.fixture
def split():
    g = torch.Generator().manual_seed(1)
    return Split(torch.randn(16, 1, 4, 4, generator=g), torch.arange(16) % 3)


def net(first=None, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [
            nn.Conv2d(1, 3, 3),
            nn.BatchNorm2d(3),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(12, 3),
        ]
    return nn.Sequential(first or nn.Identity(), *layers)


def test_batchnorm_that_was_frozen_keeps_its_statistics(split):
    student = net()
    student[2].eval()
    trained = fit(student, split, [Stage("a", CE(), PLAN), Stage("b", CE(), PLAN)])
    assert torch.equal(trained[2].running_mean, student[2].running_mean)
    assert (trained.training, trained[2].training, trained[3].training) == (True, False, True)


def test_dropout_that_was_frozen_drops_nothing(split):
    frozen, without = net(), net()
    frozen[3].eval()
    without[3] = nn.Identity()
    a, b = (fit(student, split, Stage("a", CE(), PLAN)) for student in (frozen, without))
    assert torch.equal(a[5].weight, b[5].weight)
    assert not torch.equal(a[5].weight, fit(net(), split, Stage("a", CE(), PLAN))[5].weight)


def test_a_net_in_evaluation_mode_is_trained_in_training_mode(split):
    trained = fit(net().eval(), split, Stage("a", CE(), PLAN))
    assert trained[2].running_mean.any()
    assert not any(m.training for m in trained.modules())


class Noisy(nn.Module):
    """Draws from generators that are not torch's."""

    def forward(self, x):
        return x * (np.random.rand() + random.random())


def test_noise_of_numpy_and_python_follows_the_seed(split):
    found = []
    for n in (1, 2):
        np.random.seed(n)
        random.seed(n)
        before = random.getstate(), np.random.get_state()[1].tolist()
        found.append(fit(net(Noisy()), split, Stage("a", CE(), PLAN), seed=3)[5].weight)
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert torch.equal(*found)


class InPlace(nn.Module):
    """Normalizes its input where it stands."""

    def forward(self, x):
        return x.sub_(0.5).div_(0.3)


class Relu(nn.Module):
    def forward(self, x):
        return F.relu_(x)


class Copied(nn.Module):
    """The same on a copy."""

    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, x):
        return self.inside(x.clone())


@pytest.mark.parametrize("first", [InPlace, Relu])
def test_nets_that_work_in_place_on_their_input_leave_it_alone(split, first):
    images, found = split.images.clone(), []
    for layer in (first, lambda: Copied(first())):
        student, teacher = net(layer()), Teacher(net(layer(), seed=1))
        objective = CE() + KD(T=2.0) + JacobianMatching()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            out = Distiller(student, objective, teacher).step((split.images, split.labels))
        trained = fit(student, split, Stage("a", objective, PLAN), teacher)
        cached = CachedTeacher(teacher, split).outputs(split.images[:3], index=torch.arange(3))
        numbers = [
            out["loss"].detach().reshape(1),
            trained[5].weight.detach(),
            teacher(split.images),
            cached.logits,
        ]
        assert torch.equal(split.images, images)
        found.append((*numbers, score(teacher, split).accuracy, score(student, split).accuracy))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_hooks_of_parameters_are_obeyed(split):
    student = net()
    student[5].weight.register_hook(lambda g: 0 * g)
    trained = fit(student, split, Stage("a", CE(), PLAN))
    assert torch.equal(trained[5].weight, student[5].weight)
    assert not torch.equal(trained[5].bias, student[5].bias)


class Counts(nn.Module):
    """Counts its passes and keeps what it returned."""

    def __init__(self):
        super().__init__()
        self.calls, self.kept = 0, []

    def forward(self, x):
        self.calls += 1
        self.kept.append(x * 1.0)
        return self.kept[-1]


def test_looking_at_a_student_leaves_no_pass_in_it(split):
    student = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), Counts())
    Distiller(student, CE(), sample=split)
    assert (student[2].calls, student[2].kept) == (0, [])
    assert fit(student, split, Stage("a", CE(), PLAN))[2].calls == 4
