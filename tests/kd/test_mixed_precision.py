"""Mixed precision: nets in bfloat16, losses, weights and steps in float32."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import kd_baselines as kd
from datadistill import FitPlan, load
from datadistill.errors import UsageError
from datadistill.training.fit import fit as plain_fit
from kd_baselines import CE, KD, Distiller, Stage, Teacher
from kd_baselines.config import KdConfig
from kd_baselines.losses import soft_target_loss

OBJECTIVES = {
    "soft targets": lambda: CE() + KD(T=4.0),
    "attention": lambda: CE() + kd.AttentionTransfer({"0": "0"}, form="at_code", weight=10.0),
    "jacobian": lambda: CE() + kd.JacobianMatching(output="label", weight=0.1),
    "hints": lambda: CE() + kd.Hint({"0": "0"}),
}


def net(seed, width=8):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.Softplus(), nn.Flatten(), nn.Linear(36 * width, 10)
    )


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(16, 1, 8, 8, generator=generator), torch.arange(16) % 10


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def gradients(student, objective, teacher, mixed):
    distiller = Distiller(student, objective(), Teacher(teacher), sample=batch())
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        parts = distiller.step(batch(1))
    parts["loss"].backward()
    found = torch.cat([p.grad.flatten() for p in student.parameters()])
    return parts, found


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_loop_of_ones_own_under_autocast_has_whole_losses_and_nearly_the_same_gradients(name):
    student, teacher = net(0), net(1, 12)
    whole, exact = gradients(copy.deepcopy(student), OBJECTIVES[name], teacher, mixed=False)
    mixed, near = gradients(copy.deepcopy(student), OBJECTIVES[name], teacher, mixed=True)
    assert {value.dtype for value in mixed.values()} == {torch.float32}
    assert near.dtype == torch.float32 and not torch.equal(near, exact)
    torch.testing.assert_close(mixed["loss"], whole["loss"], rtol=0.02, atol=0)
    assert torch.cosine_similarity(near, exact, dim=0) > 0.999


def test_the_losses_are_those_of_what_the_nets_computed():
    student, teacher = net(0), net(1)
    images, labels = batch(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        short = [student(images), teacher(images)]
        found = Distiller(student, KD(T=3.0), Teacher(teacher)).step((images, labels))["loss"]
    assert {one.dtype for one in short} == {torch.bfloat16}
    z, v = (one.detach().float() for one in short)
    assert torch.equal(found.detach(), soft_target_loss(z, v, temperature=3.0))


def test_a_net_of_half_precision_without_autocast_is_as_it_was():
    student = net(0).to(torch.bfloat16)
    found = Distiller(student, CE()).see(*batch(1))
    assert found.student_logits.dtype == torch.bfloat16


def test_a_plan_in_bfloat16_trains_another_net_as_good(digits):
    plan = FitPlan(epochs=4, batch=32, lr=0.01)
    short = replace(plan, precision="bfloat16")
    stages = [Stage("student", CE() + KD(T=4.0), one) for one in (plan, short, short)]
    teacher = Teacher(net(1))
    exact, near, again = (kd.fit(net(0), digits.train, stage, teacher) for stage in stages)
    weights = [torch.cat([p.detach().flatten() for p in n.parameters()]) for n in (exact, near)]
    assert {w.dtype for w in weights} == {torch.float32}
    gap = (weights[0] - weights[1]).norm() / weights[0].norm()
    assert 1e-5 < gap < 0.1
    for a, b in zip(near.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_labels_alone_too(digits):
    plan = FitPlan(epochs=2, batch=64, lr=0.01)
    exact, near = (
        plain_fit(net(0), digits.train, one) for one in (plan, replace(plan, precision="bfloat16"))
    )
    gap = max(
        float((a - b).abs().max())
        for a, b in zip(exact.parameters(), near.parameters(), strict=True)
    )
    assert 0 < gap < 0.1


def test_what_returns_no_logits_is_told_as_ever(digits):
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net(0)

        def forward(self, x):
            return self.net(x), x

    for precision in ("float32", "bfloat16"):
        with pytest.raises(UsageError, match="logits"):
            plain_fit(Pair(), digits.train, FitPlan(epochs=1, precision=precision))


def test_what_is_no_precision_or_has_none_is_refused():
    with pytest.raises(UsageError, match="precision is 'float16'"):
        FitPlan(precision="float16")
    with pytest.raises(UsageError, match="own steps are taken in float32"):
        KdConfig(data_from="set.safetensors", data_schedule="own", precision="bfloat16")
