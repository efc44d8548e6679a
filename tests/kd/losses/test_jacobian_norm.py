"""Jacobian-norm penalties: value and gradient against closed forms, torch.func and central differences."""

import itertools

import jacobian_cases as cases
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datadistill.errors import UsageError
from datadistill.streams import generator
from kd_baselines.losses.jacobian_norm import JacobianNorm, jacobian_norm_penalty
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


@pytest.mark.parametrize(("output", "form"), CHOICES)
def test_gradcheck_through_the_double_backward(output, form):
    student, x = cases.smooth(0, inputs=3), cases.normal(3, 3)
    names, tensors = cases.leaves(student)

    def loss(*weights):
        net, g = cases.at(student, names)(*weights), generator(0, "u")
        return jacobian_norm_penalty(net, x, LABELS[:3], output, form=form, generator=g)

    assert torch.autograd.gradcheck(loss, tensors, eps=1e-6, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("form", ["squared", "fisher"])
def test_gradcheck_of_a_convolutional_net(form):
    student, x = cases.smooth_conv(0), cases.normal(2, 1, 4, 4)
    names, tensors = cases.leaves(student, {"0.weight", "0.bias", "2.weight", "2.bias"})

    def loss(*weights):
        return jacobian_norm_penalty(cases.at(student, names)(*weights), x, form=form)

    assert torch.autograd.gradcheck(loss, tensors, eps=1e-6, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("output", "form"), CHOICES)
def test_every_convolution_weight_of_the_student_learns(output, form):
    student, x = cases.relu_conv(0), cases.normal(5, 1, 6, 6)
    JacobianNorm(output, form)(seen(student, x)).backward()
    for module in (student[0], student[3]):
        assert (module.weight.grad != 0).all()
        if form == "squared":
            assert module.bias.grad is None or not module.bias.grad.any()


@pytest.mark.parametrize("form", ["squared", "fisher"])
def test_projection_is_unbiased(form, monkeypatch):
    """The mean over all 2^K sign vectors is the full penalty, exactly."""
    student, x = cases.smooth(0), cases.normal(5, 4)
    each = []
    for signs in torch.tensor(list(itertools.product((0, 1), repeat=3))):
        coins = signs.expand(1, 5, -1)
        monkeypatch.setattr(torch, "randint", lambda *_, coins=coins, **__: coins)
        each.append(jacobian_norm_penalty(student, x, output="projected", form=form).item())
    assert max(each) - min(each) > 1e-3
    assert sum(each) / 8 == pytest.approx(jacobian_norm_penalty(student, x, form=form).item(), rel=1e-12)


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
        student[2].bias[0] += 1000.0  # one class is sure: no second order is left, and nothing is NaN
    sure = jacobian_norm_penalty(student, x, form="fisher")
    sure.backward()
    assert sure.item() == 0 and all(
        p.grad is None or torch.isfinite(p.grad).all() for p in student.parameters()
    )


@pytest.mark.parametrize(("output", "form"), EXACT)
def test_samples_do_not_mix(output, form):
    student, x = cases.smooth(0), cases.normal(5, 4)
    alone = [
        jacobian_norm_penalty(student, x[b : b + 1], LABELS[b : b + 1], output, form=form).item()
        for b in range(5)
    ]
    whole = jacobian_norm_penalty(student, x, LABELS, output, form=form).item()
    assert whole == pytest.approx(sum(alone) / 5, rel=1e-12)


def test_zero_jacobian_has_a_finite_gradient():
    student = cases.smooth(0)
    with torch.no_grad():
        student[2].weight.zero_()
    for form in ("squared", "cross-entropy", "fisher"):
        loss = jacobian_norm_penalty(student, cases.normal(5, 4), LABELS, form=form)
        loss.backward()
        assert loss.item() == 0
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in student.parameters())


@pytest.mark.parametrize("output", ["full", "top"])
def test_batchnorm_in_training_mode_is_taken_per_sample(output):
    student, x = cases.with_batchnorm(0), cases.normal(5, 4)
    given = seen(student, x)
    before = cases.states(student)
    term = JacobianNorm(output)(given)
    pure = jacobian_norm_penalty(student, x, output=output)
    assert cases.same_state(before, cases.states(student))
    expected = witness(student.eval(), x, LABELS, output, "squared")
    assert term.item() == pytest.approx(expected, rel=1e-12) == pure.item()


@pytest.mark.parametrize(("output", "form"), CHOICES)
def test_term_is_the_function_and_costs_no_pass(output, form):
    student, x = cases.smooth(0), cases.normal(5, 4)
    given = seen(student, x)
    calls = []
    hook = student.register_forward_hook(lambda *_: calls.append(1))
    term = JacobianNorm(output, form, weight=0.1)
    value = term(given)
    hook.remove()
    noise = generator(0, "jacobian_projection")
    pure = jacobian_norm_penalty(student, x, LABELS, output, form=form, generator=noise)
    assert not calls and value.item() == pytest.approx(pure.item(), rel=1e-12)
    assert term.needs.student_input_gradients and not term.needs.any_teacher


def test_arguments_stay_as_they_are():
    student, x = cases.with_batchnorm(0), cases.normal(5, 4).requires_grad_()
    before, copy = cases.states(student), x.detach().clone()
    loss = jacobian_norm_penalty(student, x)
    assert cases.same_state(before, cases.states(student))
    loss.backward()
    assert torch.equal(x, copy) and x.grad is None


@pytest.mark.parametrize(
    ("match", "change"),
    [
        ("output is 'best'", {"output": "best"}),
        ("form is 'kl'", {"form": "kl"}),
        ('"projected" does not go', {"output": "projected", "form": "cross-entropy"}),
        ('"top" does not go', {"output": "top", "form": "fisher"}),
        ("there are no labels", {"output": "label"}),
        ("there are no labels", {"form": "cross-entropy"}),
        ("floating point", {"x": torch.ones(5, 4, dtype=torch.long)}),
        ("no gradient to the images", {"student": lambda x: cases.affine(1)(x.detach())}),
        ("running statistics", {"student": nn.BatchNorm1d(4, track_running_stats=False)}),
        ("5 images", {"student": lambda x: cases.affine(1)(x[:3])}),
    ],
)
def test_bad_input(match, change):
    given = {"student": cases.affine(0), "x": cases.normal(5, 4), **change}
    with pytest.raises(UsageError, match=match):
        jacobian_norm_penalty(**given)
    for bad in ({"output": "best"}, {"form": "kl"}, {"weight": -1.0}, {"output": "top", "form": "fisher"}):
        with pytest.raises(UsageError):
            JacobianNorm(**bad)
