"""Jacobian-norm penalties: value and gradient against closed forms, torch.func and central
differences."""

import itertools

import loss_cases as cases
import pytest
import torch
import torch.nn.functional as F

from datadistill.streams import generator
from kd_baselines.hausdorff import lipschitz_bound
from kd_baselines.losses.jacobian_norm import jacobian_norm_penalty
from kd_baselines.losses.term import Seen

LABELS = torch.tensor([2, 0, 1, 1, 0])
CHOICES = [
    *itertools.product(("full", "top", "label", "projected"), ("squared",)),
    *itertools.product(("full", "top", "label"), ("cross-entropy",)),
    *itertools.product(("full", "projected"), ("fisher",)),
]
EXACT = [choice for choice in CHOICES if choice[0] != "projected"]


def witness(student, x, labels, output, form):
    """The printed formulas, from torch.func's Jacobians of logits and of probabilities."""
    z = student(x)
    j, q = cases.jacobians(student, x), z.softmax(1)
    chosen = {"full": None, "top": z.argmax(1), "label": labels}[output]
    if form == "squared":
        each = j.square().sum(2)
        return (each.sum(1) if chosen is None else each[torch.arange(len(x)), chosen]).mean().item()
    if form == "cross-entropy":
        y = F.one_hot(labels if chosen is None else chosen, q.shape[1])
        of_q = cases.jacobians(student, x, lambda z: z.softmax(0))
        return (y * of_q.square().sum(2) / q.square()).sum(1).mean().item() / 2
    mean = (q[:, :, None] * j).sum(1, keepdim=True)
    return (q[:, :, None] * (j - mean).square()).sum((1, 2)).mean().item() / 2  # sum_d Var_{i~q}


def seen(student, x):
    x = x.detach().requires_grad_()
    return Seen(x, LABELS, student(x), student=student, noise=lambda name: generator(0, name))


@pytest.mark.parametrize(("output", "form"), EXACT)
@pytest.mark.parametrize("make", [cases.smooth, cases.relu])
def test_value_against_torch_func(make, output, form):
    student, x = make(0), cases.normal(5, 4)
    value = jacobian_norm_penalty(student, x, LABELS, output, form=form).item()
    assert value == pytest.approx(witness(student, x, LABELS, output, form), rel=1e-10)


def test_affine_closed_form():
    student = cases.affine(0)
    loss = jacobian_norm_penalty(student, cases.normal(5, 4))
    loss.backward()
    assert loss.item() == pytest.approx(student.weight.square().sum().item(), rel=1e-12)
    assert torch.allclose(student.weight.grad, 2 * student.weight, rtol=1e-12)


@pytest.mark.parametrize("make", [cases.smooth, cases.relu])
def test_weight_decay_bounds_the_jacobian(make):
    """Layer by layer it is the penalty; over layers the product of norms is a bound."""
    student, x = make(0), cases.normal(5, 4)
    layers = [layer for layer in student if isinstance(layer, torch.nn.Linear)]
    squares = [layer.weight.square().sum() for layer in layers]
    for layer, square in zip(layers, squares, strict=True):
        own = jacobian_norm_penalty(layer, cases.normal(5, layer.in_features))
        assert own.item() == pytest.approx(square.item(), rel=1e-12)
    norms, product = cases.jacobians(student, x), torch.stack(squares).prod()
    assert (norms.square().sum((1, 2)) <= product).all()
    assert product <= torch.stack(squares).mean() ** len(layers)
    assert (torch.linalg.matrix_norm(norms, ord=2) <= lipschitz_bound(student)).all()
    layers[0].weight.data /= 2  # the bound falls with it
    assert cases.jacobians(student, x).square().sum((1, 2)).max() <= product / 4


def test_fisher_identity():
    """E over labels from q of the cross-entropy form = the fisher form."""
    student, x = cases.smooth(0), cases.normal(5, 4)
    mean = 0.0
    for b in range(5):
        one = x[b : b + 1]
        for c, probability in enumerate(student(one).softmax(1)[0]):
            value = jacobian_norm_penalty(student, one, torch.tensor([c]), form="cross-entropy")
            mean += probability.item() * value.item() / 5
    assert jacobian_norm_penalty(student, x, form="fisher").item() == pytest.approx(mean, rel=1e-12)


def test_fisher_form_does_not_read_labels_and_sees_certainty():
    student, x = cases.smooth(0), cases.normal(5, 4)
    fisher = jacobian_norm_penalty(student, x, form="fisher")
    assert fisher.item() == jacobian_norm_penalty(student, x, LABELS, form="fisher").item()
    with torch.no_grad():
        # one class is sure: no second order is left, and nothing is NaN
        student[2].bias[0] += 1000.0
    sure = jacobian_norm_penalty(student, x, form="fisher")
    sure.backward()
    assert sure.item() == 0 and all(
        p.grad is None or torch.isfinite(p.grad).all() for p in student.parameters()
    )


def test_zero_jacobian_has_a_finite_gradient():
    student = cases.smooth(0)
    with torch.no_grad():
        student[2].weight.zero_()
    for form in ("squared", "cross-entropy", "fisher"):
        loss = jacobian_norm_penalty(student, cases.normal(5, 4), LABELS, form=form)
        loss.backward()
        assert loss.item() == 0
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in student.parameters())
