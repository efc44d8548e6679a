"""The student with two heads, and the objective that keeps what the teacher knows."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datadistill.errors import UsageError
from datadistill.nets.lenet import LeNet
from datadistill.nets.torchvision_net import torchvision_net
from kd_baselines.features import run
from kd_baselines.heads import TwoHeaded, lwf_objective, two_headed
from kd_baselines.losses.schedules import Linear
from kd_baselines.losses.term import Seen


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


class Convolutions(nn.Module):
    """A smooth net with a layer that can be tapped."""

    def __init__(self, classes):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, classes)

    def forward(self, x):
        return self.fc(F.softplus(self.conv2(F.softplus(self.conv1(x)))).mean((2, 3)))


IMAGES = torch.randn(5, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
LABELS = torch.tensor([0, 1, 2, 0, 1])
LAYERS = {"trunk.conv2": "conv2"}


def test_both_heads_see_the_trunk():
    net = seeded(
        lambda: TwoHeaded(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), 72, 3, 10)
    ).double()
    out = run(net, IMAGES, ["source", "target", "trunk"])
    features = out.features["trunk"].flatten(1)
    assert torch.equal(out.logits, F.linear(features, net.target.weight, net.target.bias))
    assert torch.equal(
        out.features["source"], F.linear(features, net.source.weight, net.source.bias)
    )
    assert out.logits.shape == (5, 3) and out.features["source"].shape == (5, 10)
    assert [name for name, _ in net.named_children()] == ["trunk", "target", "source"]


@pytest.mark.parametrize(
    ("make", "shape", "last"),
    [
        (lambda: LeNet(size=28, classes=3), (1, 28, 28), "fc3"),
        (
            lambda: torchvision_net(size=64, classes=3, model="squeezenet1_1"),
            (3, 64, 64),
            "classifier.1",
        ),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3, bias=False)), (1, 4, 4), "1"),
        (lambda: nn.Sequential(nn.Conv2d(2, 3, 1), nn.Flatten()), (2, 1, 1), "0"),
    ],
)
def test_any_classifier_gets_a_head_beside_its_last_layer(make, shape, last):
    net = seeded(make).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    student = two_headed(net, 7, torch.Generator().manual_seed(1))
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = run(student, images, ["source", "target"])
        assert torch.allclose(out.logits, net(images), rtol=1e-5, atol=1e-6)
        assert torch.equal(out.logits, out.features["target"])
        # the source logits: the net with the new layer where the last one is
        net.set_submodule(last, student.get_submodule(f"trunk.{last}.source"))
        assert torch.allclose(out.features["source"], net(images), rtol=1e-5, atol=1e-6)
    assert out.features["source"].shape == (2, 7)
    own = student.trunk.state_dict()
    assert all(
        torch.equal(
            value,
            own[name.replace(f"{last}.", f"{last}.target.", 1) if name.startswith(last) else name],
        )
        for name, value in before.items()
    )
    assert not any(m.training for m in student.modules())


def test_a_single_layer_too():
    net = seeded(lambda: nn.Linear(4, 3))
    out = run(two_headed(net, 7), torch.ones(2, 4), ["source"])
    assert torch.allclose(out.logits, net(torch.ones(2, 4))) and out.features["source"].shape == (
        2,
        7,
    )


def test_the_net_stays_as_it_was_and_shares_nothing():
    net = seeded(lambda: Convolutions(3))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    student = two_headed(net, 10)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert list(net.state_dict()) == list(before) and isinstance(net.fc, nn.Linear)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())


def test_the_new_head_is_a_function_of_the_generator():
    heads = [
        two_headed(Convolutions(3), 10, torch.Generator().manual_seed(seed)).trunk.fc.source.weight
        for seed in (0, 0, 1)
    ]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_saving_and_loading():
    student = seeded(lambda: two_headed(Convolutions(3), 10)).double()
    again = two_headed(Convolutions(3), 10).double()
    again.load_state_dict(student.state_dict())
    assert torch.equal(
        run(again, IMAGES, ["source"]).features["source"],
        run(student, IMAGES, ["source"]).features["source"],
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: two_headed(nn.Flatten(), 2), "no linear or convolution layer"),
        (lambda: two_headed(nn.Linear(2, 2), 0), "source_classes is 0"),
        (
            lambda: two_headed(nn.Sequential(nn.Linear(2, 2), nn.Softmax(1)), 2),
            r"Softmax \(1\) behind its last",
        ),
        (lambda: two_headed(nn.Conv2d(2, 2, 1, groups=2), 2), "an ungrouped Conv2d"),
        (lambda: two_headed(nn.Conv1d(2, 2, 1), 2), "last layer '' is Conv1d"),
        (
            lambda: two_headed(nn.Conv2d(1, 2, 3), 2)(torch.zeros(2, 1, 8, 8)),
            r"makes \(2, 4, 6, 6\) of a batch",
        ),
        (lambda: TwoHeaded(nn.Flatten(), 4, 0, 2), "target_classes is 0"),
        (
            lambda: TwoHeaded(nn.Flatten(), 4, 2, 2)(torch.zeros(1, 9)),
            "makes 9 features .* pass features=9",
        ),
        (lambda: lwf_objective(attention=1.0), "name pairs of layers"),
        (lambda: lwf_objective(attention_jacobian=1.0), "name pairs of layers"),
        (lambda: lwf_objective(jacobian=-1.0), "weight is -1.0"),
        (lambda: lwf_objective(jacobian=1.0, output="all"), "all"),
        (lambda: lwf_objective(jacobian=1.0, output="label"), "labels are target classes"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(UsageError, match=words):
        call()


def seen_of(student, teacher, needs):
    x = IMAGES.clone().requires_grad_()
    mine = run(student, x, sorted(needs.student_features))
    theirs = run(teacher.requires_grad_(False).eval(), x, sorted(needs.teacher_features, key=str))
    return Seen(
        x,
        LABELS,
        student_logits=mine.logits,
        student_features=mine.features,
        teacher_logits=theirs.logits,
        teacher_features=theirs.features,
        teacher_at=lambda T: theirs.logits,
        student=student,
    )


WEIGHTS = ("activations", "jacobian", "attention", "attention_jacobian")
NAMES = ("logitregression", "jacobianmatching", "attentiontransfer", "attentionjacobian")


@pytest.mark.parametrize("chosen", list(itertools.product((0.0, 0.5), repeat=4)))
def test_every_combination_of_terms(chosen):
    objective = lwf_objective(**dict(zip(WEIGHTS, chosen, strict=True)), layers=LAYERS)
    student = seeded(lambda: two_headed(Convolutions(3), 6)).double()
    teacher = seeded(lambda: Convolutions(6), 1).double()
    present = [name for name, weight in zip(NAMES, chosen, strict=True) if weight]
    assert list(objective.named_terms) == ["ce", *present]
    seen = seen_of(student, teacher, objective.needs)
    objective.prepare(seen)
    parts = objective(seen)
    expected = F.cross_entropy(student(IMAGES), LABELS) + sum(0.5 * parts[name] for name in present)
    assert torch.allclose(parts["loss"], expected, rtol=1e-12)
    if chosen[0]:
        source = seen.student_features["source"]
        v = teacher(IMAGES)
        share = (source - v).square().sum() / (v - v.mean(1, keepdim=True)).square().sum()
        assert torch.allclose(parts["logitregression"], share, rtol=1e-12)
    parts["loss"].backward()
    head = student.trunk.fc
    assert float(head.target.weight.grad.abs().max()) > 0
    of_source = head.source.weight.grad
    assert (of_source is not None and bool(of_source.any())) == bool(chosen[0] or chosen[1])
    assert all(p.grad is None for p in teacher.parameters())


def test_terms_begin_at_the_size_of_the_label_loss():
    """Whatever the scale of the teacher's logits and the number of its classes."""
    weights = dict.fromkeys(WEIGHTS, 1.0)
    for classes, scale in ((6, 1.0), (200, 100.0)):
        student = seeded(lambda k=classes: two_headed(Convolutions(3), k)).double()
        teacher = seeded(lambda k=classes: Convolutions(k), 1).double()
        for p in teacher.fc.parameters():
            p.data.mul_(scale)
        found = {}
        for balanced in (True, False):
            objective = lwf_objective(**weights, layers=LAYERS, balanced=balanced)
            found[balanced] = objective(seen_of(student, teacher, objective.needs))
        for name in NAMES:
            assert 0.01 < found[True][name] < 4.0, name
    assert found[False]["logitregression"] > 1000 * found[True]["logitregression"]


def test_the_source_jacobian_is_that_of_the_second_head():
    student = seeded(lambda: two_headed(Convolutions(3), 6)).double()
    teacher = seeded(lambda: Convolutions(6), 1).double()
    objective = lwf_objective(activations=0.0, jacobian=1.0, output="full", balanced=False)
    found = objective(seen_of(student, teacher, objective.needs))["jacobianmatching"]
    expected = [
        torch.func.jacrev(lambda x: run(student, x, ["source"]).features["source"] - teacher(x))(
            image[None]
        )
        for image in IMAGES
    ]
    assert torch.allclose(found, torch.stack(expected).square().sum() / len(IMAGES), rtol=1e-10)


def test_weights_may_be_schedules():
    objective = lwf_objective(activations=Linear(4.0, 0.0, epochs=3))
    assert list(objective.named_terms) == ["ce", "logitregression"]
