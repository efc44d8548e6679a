"""Jacobian matching: value and weight gradient against closed forms, torch.func and central
differences."""

import itertools

import loss_cases as cases
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datadistill.streams import generator
from kd_baselines.losses.jacobian import jacobian_matching_loss
from kd_baselines.losses.term import Seen

LABELS = torch.tensor([2, 0, 1, 1, 0])
CHOICES = [
    *itertools.product(
        ("full", "top", "label", "projected"), ("squared", "cross-entropy"), (False,)
    ),
    *itertools.product(("full", "top", "label"), ("squared",), (True,)),
]


def witness(student, teacher, x, labels, output, form, normalize):
    """The loss from torch.func's Jacobians, written out sample by sample."""
    total = 0.0
    for b in range(len(x)):
        one = x[b : b + 1]
        v = teacher(one)[0].detach()
        if form == "squared":
            s, t = (cases.jacobians(net, one)[0] for net in (student, teacher))
        else:
            s, t = (
                cases.jacobians(net, one, lambda z: F.log_softmax(z, 0))[0]
                for net in (student, teacher)
            )
            s, t = (j * (v.softmax(0)[:, None] / 2).sqrt() for j in (s, t))
        rows = {"full": slice(None), "top": int(v.argmax()), "label": int(labels[b])}[output]
        s, t = s[rows], t[rows]
        if normalize:
            s, t = s / s.norm(), t / t.norm()
        total += (s - t).square().sum().item()
    return total / len(x)


def noise(name):
    return generator(0, name)


def seen(student, teacher, x, labels=LABELS):
    x = x.detach().requires_grad_()
    logits = student(x)
    return Seen(x, labels, logits, teacher(x), student=student, teacher=teacher, noise=noise)


@pytest.mark.parametrize(
    ("output", "form", "normalize"), [c for c in CHOICES if c[0] != "projected"]
)
@pytest.mark.parametrize("make", [cases.smooth, cases.relu])
def test_value_against_torch_func(make, output, form, normalize):
    student, teacher, x = make(0), make(1), cases.normal(5, 4)
    loss = jacobian_matching_loss(
        student, teacher, x, LABELS, output, form=form, normalize=normalize
    )
    expected = witness(student, teacher, x, LABELS, output, form, normalize)
    # unit Jacobians: the eps of 1e-6 times a mean squared norm is the difference
    assert loss.item() == pytest.approx(expected, rel=1e-4 if normalize else 1e-10)


def test_affine_closed_form():
    student, teacher = cases.affine(0), cases.affine(1)
    loss = jacobian_matching_loss(student, teacher, cases.normal(5, 4))
    loss.backward()
    difference = teacher.weight - student.weight
    # (c) summed over the inputs: no division by D, nor by K
    assert loss.item() == pytest.approx(difference.square().sum().item(), rel=1e-12)
    assert torch.allclose(student.weight.grad, -2 * difference, rtol=1e-12)
    assert teacher.weight.grad is None and teacher.bias.grad is None


def test_two_layer_relu_closed_form():
    student, teacher, x = cases.relu(0), cases.relu(1), cases.normal(5, 4)
    expected = 0.0
    for one in x:
        j = [
            net[2].weight @ torch.diag((net[0](one) > 0).double()) @ net[0].weight
            for net in (student, teacher)
        ]
        expected = expected + (j[0] - j[1]).square().sum() / len(x)
    loss = jacobian_matching_loss(student, teacher, x)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    wanted = torch.autograd.grad(expected, [student[0].weight, student[2].weight])
    for mine, its in zip(
        torch.autograd.grad(loss, [student[0].weight, student[2].weight]), wanted, strict=True
    ):
        assert torch.allclose(mine, its, rtol=1e-10, atol=1e-14)


def test_in_smooth_nets_all_biases_but_the_last_learn():
    student, teacher = cases.smooth_conv(0), cases.smooth_conv(1)
    jacobian_matching_loss(student, teacher, cases.normal(4, 1, 4, 4)).backward()
    assert (student[0].bias.grad != 0).all() and (student[2].bias.grad != 0).all()
    assert student[5].bias.grad is None or not student[5].bias.grad.any()


def test_projection_is_a_function_of_the_generator():
    args = (cases.smooth(0), cases.smooth(1), cases.normal(5, 4), None, "projected")
    values = [jacobian_matching_loss(*args, generator=generator(s, "u")).item() for s in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    # the same u for both nets: equal nets do not differ
    assert (
        jacobian_matching_loss(args[0], args[0], *args[2:], generator=generator(0, "u")).item() == 0
    )


def test_top_is_the_teachers_for_both():
    student, teacher, x = cases.smooth(0), cases.smooth(1), cases.normal(32, 4)
    top = teacher(x).argmax(1)
    assert (student(x).argmax(1) != top).any()
    loss = jacobian_matching_loss(student, teacher, x, output="top")
    assert loss.item() == jacobian_matching_loss(student, teacher, x, top, "label").item()


@pytest.mark.parametrize(("scale", "bound"), [(0.0, 1e-9), (1e-12, 1e4), (1e-4, 1e4), (1.0, 1e2)])
def test_unit_jacobians_of_a_vanishing_gradient(scale, bound):
    """(d) value in [0, 4] and a finite weight gradient, down to a Jacobian of zero."""
    student, teacher, x = cases.smooth(0), cases.smooth(1), cases.normal(5, 4)
    with torch.no_grad():
        student[2].weight *= scale
    loss = jacobian_matching_loss(student, teacher, x, normalize=True)
    loss.backward()
    assert 0 <= loss.item() <= 4
    assert student[0].weight.grad.abs().max() < bound
    # 1 / (1e-3 * norm of the teacher's Jacobian) caps the factor
    assert torch.isfinite(student[2].weight.grad).all() and student[2].weight.grad.abs().max() < 1e4
    both = [nn.Sequential(nn.Linear(4, 3), nn.ReLU()).double() for _ in range(2)]
    with torch.no_grad():
        for net in both:
            net[0].bias.fill_(-100.0)
    flat = jacobian_matching_loss(*both, x, normalize=True)
    flat.backward()
    assert flat.item() == 0 and torch.isfinite(both[0][0].weight.grad).all()


def test_unit_jacobians_do_not_see_scale():
    student, teacher, x = cases.smooth(0), cases.smooth(1), cases.normal(5, 4)

    def unit(student):
        return jacobian_matching_loss(student, teacher, x, normalize=True).item()

    assert unit(lambda x: 7 * teacher(x)) == pytest.approx(0, abs=1e-10)
    assert unit(lambda x: -teacher(x)) == pytest.approx(4, rel=1e-4)
    assert unit(lambda x: 7 * student(x)) == pytest.approx(unit(student), rel=1e-4)
