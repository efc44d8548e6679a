"""Distillation on noisy images."""

import copy

import loss_cases as cases
import pytest
import torch

from datadistill.data import Split
from datadistill.streams import generator
from kd_baselines.losses.input_noise import InputNoise, input_noise_loss
from kd_baselines.losses.jacobian import jacobian_matching_loss
from kd_baselines.losses.logit_regression import logit_regression_loss
from kd_baselines.losses.soft_targets import soft_target_loss
from kd_baselines.losses.term import Seen
from kd_baselines.teacher_cache import CachedTeacher
from kd_baselines.teachers import Teacher

LABELS = torch.zeros(5, dtype=torch.long)


def noise(name):
    return generator(0, name)


def drawn(x, sigma, samples):
    g = noise("input_noise")
    return [x + sigma * torch.randn(x.shape, generator=g, dtype=x.dtype) for _ in range(samples)]


@pytest.mark.parametrize("teacher_noisy", [True, False])
@pytest.mark.parametrize("loss", ["kd", "logits"])
def test_value_and_gradient_on_the_drawn_images(loss, teacher_noisy):
    student, teacher, x = cases.smooth(0), cases.smooth(1), cases.normal(5, 4)
    value = input_noise_loss(
        student,
        teacher,
        x,
        0.3,
        loss,
        2.5,
        3,
        teacher_noisy=teacher_noisy,
        generator=noise("input_noise"),
    )
    expected = 0.0
    for noisy in drawn(x, 0.3, 3):
        z, v = student(noisy), teacher(noisy if teacher_noisy else x).detach()
        expected = (
            expected
            + (soft_target_loss(z, v, 2.5) if loss == "kd" else (z - v).square().sum() / 10) / 3
        )
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    grads = [torch.autograd.grad(of, list(student.parameters())) for of in (value, expected)]
    for mine, its in zip(*grads, strict=True):
        assert torch.allclose(mine, its, rtol=1e-10, atol=1e-14)
    assert not any(p.grad is not None for p in teacher.parameters())


def test_antithetic_draws_are_proposition_1_for_affine_nets(monkeypatch):
    """The noise replaced by the cubature's points: activation + sigma^2 Jacobian matching,
    halved."""
    student, teacher, x, sigma = cases.affine(0), cases.affine(1), cases.normal(5, 4), 0.7
    steps = iter(2.0 * torch.cat([torch.eye(4), -torch.eye(4)]).double())  # sqrt(D) e_i
    monkeypatch.setattr(torch, "randn", lambda *_, **__: next(steps))
    mean = input_noise_loss(student, teacher, x, sigma, "logits", samples=8)
    jacobian = jacobian_matching_loss(student, teacher, x)
    two = logit_regression_loss(student(x), teacher(x)) + sigma**2 / 2 * jacobian
    assert mean.item() == pytest.approx(two.item(), rel=1e-12)


def test_no_noise_is_the_plain_loss():
    student, teacher, x = cases.smooth(0), cases.smooth(1), cases.normal(5, 4)
    plain = soft_target_loss(student(x), teacher(x), 4.0)
    assert input_noise_loss(student, teacher, x, 0.0, T=4.0).item() == pytest.approx(
        plain.item(), rel=1e-12
    )


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
@pytest.mark.parametrize("teacher_noisy", [True, False])
def test_term_softens_an_ensemble_as_its_average_says(average, teacher_noisy):
    student, x, T = cases.smooth(0), cases.normal(5, 4), 3.0
    teacher = Teacher(cases.smooth(1), cases.smooth(2), average=average)
    term = InputNoise(0.3, "kd", T, samples=2, teacher_noisy=teacher_noisy)
    outputs = teacher.outputs(x)
    given = Seen(
        x,
        LABELS,
        teacher_logits=outputs.logits,
        teacher_at=outputs.at,
        student=student,
        noise=noise,
    )
    given.teacher = teacher if term.needs.teacher else None
    expected = 0.0
    for noisy in drawn(x, 0.3, 2):
        members = [net(noisy if teacher_noisy else x) / T for net in teacher.nets]
        if average == "arithmetic":
            p = (members[0].softmax(1) + members[1].softmax(1)) / 2
        else:
            p = ((members[0] + members[1]) / 2).softmax(1)
        q = (student(noisy) / T).softmax(1)
        expected += T**2 * (p * (p.log() - q.log())).sum(1).mean().item() / 2
    value = term(given)
    assert value.item() == pytest.approx(expected, rel=1e-10)
    assert term(given).item() == value.item()  # the same step draws the same noise
    value.backward()
    assert all(p.grad.any() for p in student.parameters())


def test_a_cached_teacher_answers_noisy_images_itself():
    student, teacher = cases.smooth_conv(0), Teacher(cases.smooth_conv(1), cases.smooth_conv(2))
    split = Split(cases.normal(5, 1, 4, 4), LABELS)
    cached = CachedTeacher(teacher, split)
    for T in (1.0, 3.0):
        seen = [
            Seen(split.images, LABELS, student=student, teacher=t, noise=noise)
            for t in (teacher, cached)
        ]
        values = [InputNoise(0.3, "kd", T)(one).item() for one in seen]
        assert values[0] == values[1] > 0


def test_student_with_batchnorm_sees_the_noisy_batch():
    student, teacher, x = cases.with_batchnorm(0), cases.smooth(1), cases.normal(5, 4)
    other = copy.deepcopy(student)
    input_noise_loss(student, teacher, x, 0.3, generator=noise("input_noise"))
    other(drawn(x, 0.3, 1)[0])
    assert torch.equal(student[1].running_mean, other[1].running_mean)
