"""Jacobian matching: value and weight gradient against closed forms, torch.func and central differences."""

import itertools

import jacobian_cases as cases
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datadistill.errors import UsageError
from datadistill.streams import generator
from kd_baselines.losses.input_gradients import mixes_samples
from kd_baselines.losses.jacobian import JacobianMatching, jacobian_matching_loss
from kd_baselines.losses.term import Objective, Seen
from kd_baselines.teachers import Teacher

LABELS = torch.tensor([2, 0, 1, 1, 0])
CHOICES = [
    *itertools.product(("full", "top", "label", "projected"), ("squared", "cross-entropy"), (False,)),
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
            s, t = (cases.jacobians(net, one, lambda z: F.log_softmax(z, 0))[0] for net in (student, teacher))
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


@pytest.mark.parametrize(("output", "form", "normalize"), [c for c in CHOICES if c[0] != "projected"])
@pytest.mark.parametrize("make", [cases.smooth, cases.relu])
def test_value_against_torch_func(make, output, form, normalize):
    student, teacher, x = make(0), make(1), cases.normal(5, 4)
    loss = jacobian_matching_loss(student, teacher, x, LABELS, output, form=form, normalize=normalize)
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
            net[2].weight @ torch.diag((net[0](one) > 0).double()) @ net[0].weight for net in (student, teacher)
        ]
        expected = expected + (j[0] - j[1]).square().sum() / len(x)
    loss = jacobian_matching_loss(student, teacher, x)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    wanted = torch.autograd.grad(expected, [student[0].weight, student[2].weight])
    for mine, its in zip(
        torch.autograd.grad(loss, [student[0].weight, student[2].weight]), wanted, strict=True
    ):
        assert torch.allclose(mine, its, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("output", "form", "normalize"), CHOICES)
def test_gradcheck_through_the_double_backward(output, form, normalize):
    """Central differences of the loss in every weight of the student."""
    student, teacher, x = cases.smooth(0, inputs=3), cases.smooth(1, inputs=3), cases.normal(3, 3)
    names, tensors = cases.leaves(student)

    def loss(*weights):
        return jacobian_matching_loss(
            cases.at(student, names)(*weights), teacher, x, LABELS[:3], output, form=form, normalize=normalize,
            generator=generator(0, "u"), projections=2,
        )  # fmt: skip

    assert torch.autograd.gradcheck(loss, tensors, eps=1e-6, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("output", ["full", "top"])
def test_gradcheck_of_a_convolutional_net(output):
    student, teacher, x = cases.smooth_conv(0), cases.smooth_conv(1), cases.normal(2, 1, 4, 4)
    names, tensors = cases.leaves(student, {"0.weight", "0.bias", "2.weight", "2.bias"})

    def loss(*weights):
        return jacobian_matching_loss(cases.at(student, names)(*weights), teacher, x, output=output)

    assert torch.autograd.gradcheck(loss, tensors, eps=1e-6, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("output", "form", "normalize"), CHOICES)
def test_every_convolution_weight_of_the_student_learns(output, form, normalize):
    """(a) the double backward reaches the weights, and (f) in ReLU nets no bias."""
    student, teacher, x = cases.relu_conv(0), cases.relu_conv(1), cases.normal(16, 1, 6, 6)
    labels = torch.arange(16) % 3
    assert all((student[: k + 1](x) > 0).any((0, 2, 3)).all() for k in (0, 3)), "a filter is never active"
    term = JacobianMatching(output, form, normalize=normalize)
    term(seen(student, Teacher(teacher), x, labels)).backward()
    for module in (student[0], student[3]):
        assert (module.weight.grad != 0).all()
        if form == "squared":
            assert module.bias.grad is None or not module.bias.grad.any()
    assert all(p.grad is None for p in teacher.parameters())


def test_in_smooth_nets_all_biases_but_the_last_learn():
    student, teacher = cases.smooth_conv(0), cases.smooth_conv(1)
    jacobian_matching_loss(student, teacher, cases.normal(4, 1, 4, 4)).backward()
    assert (student[0].bias.grad != 0).all() and (student[2].bias.grad != 0).all()
    assert student[5].bias.grad is None or not student[5].bias.grad.any()


@pytest.mark.parametrize("form", ["squared", "cross-entropy"])
def test_projection_is_unbiased(form, monkeypatch):
    """The mean over all 2^K sign vectors is the full loss, exactly; several draws are a mean over draws."""
    student, teacher, x = cases.smooth(0), cases.smooth(1), cases.normal(5, 4)
    full = jacobian_matching_loss(student, teacher, x, form=form)
    signs = torch.tensor(list(itertools.product((0, 1), repeat=3)))

    def projected(coins):
        coins = coins[:, None].expand(-1, 5, -1)
        monkeypatch.setattr(torch, "randint", lambda *_, **__: coins)
        kwargs = {"form": form, "projections": len(coins)}
        return jacobian_matching_loss(student, teacher, x, output="projected", **kwargs).item()

    each = [projected(one[None]) for one in signs]
    assert max(each) - min(each) > 1e-3
    assert sum(each) / 8 == pytest.approx(full.item(), rel=1e-12)
    assert projected(signs) == pytest.approx(full.item(), rel=1e-12)


def test_projection_is_a_function_of_the_generator():
    args = (cases.smooth(0), cases.smooth(1), cases.normal(5, 4), None, "projected")
    values = [jacobian_matching_loss(*args, generator=generator(s, "u")).item() for s in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    # the same u for both nets: equal nets do not differ
    assert jacobian_matching_loss(args[0], args[0], *args[2:], generator=generator(0, "u")).item() == 0


def test_top_is_the_teachers_for_both():
    student, teacher, x = cases.smooth(0), cases.smooth(1), cases.normal(32, 4)
    top = teacher(x).argmax(1)
    assert (student(x).argmax(1) != top).any()
    loss = jacobian_matching_loss(student, teacher, x, output="top")
    assert loss.item() == jacobian_matching_loss(student, teacher, x, top, "label").item()


@pytest.mark.parametrize(
    ("output", "form", "normalize"), [c for c in CHOICES if c[0] != "projected" and not c[2]]
)
def test_samples_do_not_mix(output, form, normalize):
    """(b) a batch is the mean of its samples taken one by one."""
    student, teacher, x = cases.smooth(0), cases.smooth(1), cases.normal(5, 4)

    def loss(x, y):
        return jacobian_matching_loss(student, teacher, x, y, output, form=form)

    alone = torch.stack([loss(x[b : b + 1], LABELS[b : b + 1]) for b in range(5)])
    assert alone.std() > 1e-3
    assert loss(x, LABELS).item() == pytest.approx(alone.mean().item(), rel=1e-12)


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


def test_batchnorm_in_training_mode_is_taken_per_sample():
    """(e) with running statistics, which are not written; the batch's would mix the samples."""
    student, teacher, x = cases.with_batchnorm(0), cases.smooth(1), cases.normal(5, 4)
    assert mixes_samples(student)
    given = seen(student, Teacher(teacher), x)
    before = cases.states(student)
    expected = witness(student, teacher, x, LABELS, "full", "squared", False)
    mixed = torch.autograd.grad(given.student_logits[:, 0].sum(), given.images, retain_graph=True)[0]
    assert not torch.allclose(mixed, cases.jacobians(student, x)[:, 0])
    term = JacobianMatching()(given)
    pure = jacobian_matching_loss(student, teacher, x)
    assert cases.same_state(before, cases.states(student))
    assert term.item() == pytest.approx(expected, rel=1e-12) == pure.item()
    term.backward()
    assert student[1].weight.grad.abs().min() > 0


def test_batchnorm_without_running_statistics_is_refused():
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)).double()
    x = cases.normal(5, 4)
    for pair in ((net, cases.affine()), (cases.affine(), net)):
        with pytest.raises(UsageError, match="running statistics"):
            jacobian_matching_loss(*pair, x)
    with pytest.raises(UsageError, match="running statistics"):
        JacobianMatching()(seen(net, Teacher(cases.affine()), x))
    with pytest.raises(UsageError, match="batch_stats"):
        JacobianMatching().prepare(seen(cases.affine(), Teacher(cases.affine(), mode="batch_stats"), x))


@pytest.mark.parametrize(("output", "form", "normalize"), CHOICES)
def test_term_is_the_function_and_costs_no_pass(output, form, normalize):
    student, teacher, x = cases.smooth(0), cases.smooth(1), cases.normal(5, 4)
    given = seen(student, Teacher(teacher), x)
    calls = []
    hook = student.register_forward_hook(lambda *_: calls.append(1))
    term = JacobianMatching(output, form, normalize=normalize, projections=2)
    value = term(given)
    hook.remove()
    assert not calls
    pure = jacobian_matching_loss(
        student, teacher, x, LABELS, output, form=form, normalize=normalize, projections=2,
        generator=noise("jacobian_projection"),
    )  # fmt: skip
    assert value.item() == pytest.approx(pure.item(), rel=1e-12)
    # a second term reads the same graphs
    objective = Objective(term, JacobianMatching("full"))
    objective(given)["loss"].backward()
    needs = term.needs
    assert needs.student_logits and needs.student_input_gradients and needs.teacher_input_gradients


@pytest.mark.parametrize("make", [cases.smooth, cases.with_batchnorm])
def test_a_layer_stands_for_the_logits(make):
    trunk, teacher, x = make(0), cases.smooth(1), cases.normal(5, 4)

    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.source, self.target = trunk, cases.affine(5, 3, 3), cases.affine(6, 3, 7)

        def forward(self, x):
            return self.target(self.trunk(x)) + 0 * self.source(self.trunk(x)).sum()

    student, term = TwoHeads(), JacobianMatching(logits="source")
    assert term.needs.student_features == {"source"} and not term.needs.student_logits
    images = x.detach().requires_grad_()
    head = {"source": student.source(student.trunk(images))}
    given = Seen(
        images, LABELS, None, Teacher(teacher)(images), student_features=head, student=student, noise=noise
    )
    expected = jacobian_matching_loss(nn.Sequential(trunk, student.source), teacher, x)
    assert term(given).item() == pytest.approx(expected.item(), rel=1e-12)


def test_arguments_stay_as_they_are():
    student, teacher, x = cases.smooth(0), cases.with_batchnorm(1), cases.normal(5, 4)
    before, copy = (cases.states(student), cases.states(teacher)), x.clone()
    x.requires_grad_()
    loss = jacobian_matching_loss(student, teacher, x)
    assert cases.same_state(before[0], cases.states(student))
    loss.backward()
    assert cases.same_state(before[1], cases.states(teacher))
    assert torch.equal(x, copy) and x.grad is None
    with torch.no_grad():
        assert jacobian_matching_loss(student, teacher, x).item() == pytest.approx(loss.item(), rel=1e-12)


def test_teacher_is_in_evaluation_mode():
    """A teacher left in training mode does not drop anything, and stays as it was."""
    student, teacher, x = cases.smooth(0), cases.smooth(1), cases.normal(5, 4)
    dropping = nn.Sequential(nn.Dropout(0.5), *teacher)
    losses = [jacobian_matching_loss(student, net, x).item() for net in (teacher, dropping)]
    assert losses[0] == losses[1] and dropping[0].training


@pytest.mark.parametrize(
    ("match", "change"),
    [
        ("student has 3 classes, the teacher 4", {"teacher": cases.affine(0, 4, 4)}),
        ("output is 'best'", {"output": "best"}),
        ("form is 'kl'", {"form": "kl"}),
        ("there are no labels", {"output": "label"}),
        ("labels are", {"output": "label", "labels": torch.tensor([0, 1])}),
        ("labels go from 0 to 3", {"output": "label", "labels": torch.tensor([0, 1, 2, 3, 0])}),
        ("projections is 0", {"output": "projected", "projections": 0}),
        ("normalize=True", {"form": "cross-entropy", "normalize": True}),
        ("floating point", {"x": torch.ones(5, 4, dtype=torch.long)}),
        ("teacher's logits have no gradient", {"teacher": lambda x: cases.affine(1)(x).detach()}),
        ("student's logits have no gradient", {"student": lambda x: cases.affine(1)(x.detach())}),
        ("student's logits", {"student": lambda x: x[:, None] * 2}),
    ],
)
def test_bad_input(match, change):
    given = {"student": cases.affine(0), "teacher": cases.affine(1), "x": cases.normal(5, 4), **change}
    with pytest.raises(UsageError, match=match):
        jacobian_matching_loss(**given)


def test_bad_terms():
    for bad in ({"output": "best"}, {"form": "kl"}, {"weight": -1.0}, {"projections": 0}):
        with pytest.raises(UsageError):
            JacobianMatching(**bad)
