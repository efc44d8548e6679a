"""Every loss: gradients, samples that do not mix, a teacher that learns nothing."""

import copy
import itertools
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from loss_cases import (
    MATCHING,
    NORMS,
    At,
    Maps,
    close,
    logits,
    norm_conv,
    normal,
    relu_conv,
    same_state,
    seeded,
    smooth_conv,
    states,
)
from torch import nn

from datadistill.streams import generator
from kd_baselines import losses
from kd_baselines.losses.hints import hint_loss

K, Y = 5, torch.tensor([2, 0, 1, 1])
TEMPERATURES = (0.5, 1.0, 3.0, 20.0)


class OfTensors(NamedTuple):
    """A loss of the student's tensor, the teacher's and the labels, and shapes behind the batch."""

    loss: object
    student: tuple = (K,)
    teacher: tuple = (K,)
    mean: bool = True  # of a batch, it is the mean of the samples' own

    def tensors(self, b=4):
        return 3 * normal(b, *self.student, seed=1), 3 * normal(b, *self.teacher, seed=2)


def statistics(z, v, y):
    mean, std = torch.arange(K), torch.arange(1, K + 1)
    return losses.logit_regression_loss(z, v, True, mean=mean, std=std)


def dkpp(z, v, y):
    targets = losses.dkpp_targets(v, keys=v[:, 1:])
    return F.cross_entropy(z.to(targets.dtype), targets)


TENSORS = {
    **{
        f"{name} {T}": OfTensors(lambda z, v, y, of=of, T=T: of(z, v, y, T))
        for T in TEMPERATURES
        for name, of in {
            "soft": lambda z, v, y, T: losses.soft_target_loss(z, v, T),
            "fitnets": lambda z, v, y, T: losses.fitnets_kd_loss(z, v, y, T, 2.0),
            "fitnets, student at 1": lambda z, v, y, T: losses.fitnets_kd_loss(
                z, v, y, T, 2.0, student_temperature=1.0
            ),
        }.items()
    },
    "logits": OfTensors(lambda z, v, y: losses.logit_regression_loss(z, v)),
    "standardized": OfTensors(lambda z, v, y: losses.logit_regression_loss(z, v, True), mean=False),
    "standardized by statistics": OfTensors(statistics),
    "noisy": OfTensors(
        lambda z, v, y: losses.noisy_logit_loss(z, v, 0.5, 1.0, generator(0, "n"), shared=True),
        mean=False,
    ),
    "born-again": OfTensors(lambda z, v, y: losses.born_again_loss(z, v)),
    "born-again and labels": OfTensors(lambda z, v, y: losses.born_again_loss(z, v, y, 0.3)),
    "cwtm": OfTensors(lambda z, v, y: losses.cwtm_loss(z, v, y), mean=False),
    "dkpp": OfTensors(dkpp),
    **{
        f"dkd {T}": OfTensors(lambda z, v, y, T=T: losses.dkd_loss(z, v, y, 0.5, 3.0, T))
        for T in (1.0, 20.0)
    },
    "dist over classes": OfTensors(lambda z, v, y: losses.dist_loss(z, v, 2.0, 0.0, 4.0)),
    "dist": OfTensors(lambda z, v, y: losses.dist_loss(z, v, 1.0, 2.0, 4.0), mean=False),
    "z-scores": OfTensors(
        lambda z, v, y: losses.soft_target_loss(
            losses.standardize_logits(z), losses.standardize_logits(v), 2.0
        )
    ),
    **{
        name: OfTensors(lambda z, v, y, of=of: of(z, v), (2, 2, 3), (7,), mean=False)
        for name, of in {
            "rkd distance": losses.rkd_distance_loss,
            "rkd angle": losses.rkd_angle_loss,
            "similarity": losses.similarity_loss,
        }.items()
    },
    "crd": OfTensors(
        lambda z, v, y: losses.crd_loss((z * v.detach()).sum(1), z @ v.detach().T, 0.5, 4.0),
        (4,),
        (4,),
        mean=False,
    ),
    "hierarchical context": OfTensors(
        lambda z, v, y: losses.hierarchical_context_loss(z, v), (2, 5, 3), (2, 5, 3)
    ),
    "hint": OfTensors(lambda z, v, y: hint_loss(z, v), (3, 4, 2), (3, 4, 2)),
    "hint of vectors": OfTensors(lambda z, v, y: hint_loss(z, v), (7,), (7,)),
    **{
        f"attention {form}, p {p}": OfTensors(
            lambda z, v, y, form=form, p=p: losses.attention_transfer_loss(z, v, form, p=p),
            (2, 2, 3),
            (3, 2, 3),
        )
        for form in ("at_paper", "at_code", "jm")
        for p in (1, 2, 3)
    },
}
LOGITS = {name: case for name, case in TENSORS.items() if case.student == case.teacher == (K,)}


class OfNets(NamedTuple):
    """A loss of two nets, images and labels."""

    loss: object
    mean: bool = True
    random: bool = False  # draws by place


def jacobian(output, form, normalize):
    def loss(student, teacher, x, y):
        draw = generator(0, "u")
        return losses.jacobian_matching_loss(
            student,
            teacher,
            x,
            y,
            output,
            form=form,
            normalize=normalize,
            generator=draw,
            projections=2,
        )

    return OfNets(loss, mean=not normalize, random=output == "projected")


def norm(output, form):
    def loss(student, teacher, x, y):
        return losses.jacobian_norm_penalty(
            student, x, y, output, form=form, generator=generator(0, "u")
        )

    return OfNets(loss, random=output == "projected")


def input_noise(match):
    def loss(student, teacher, x, y):
        return losses.input_noise_loss(
            student, teacher, x, 0.3, match, 2.0, generator=generator(0, "u")
        )

    return OfNets(loss, random=True)


def attention_jacobian(student, teacher, x, y):
    return losses.attention_jacobian_loss(Maps(student), Maps(teacher), x)


NETS = {
    **{f"matching {c[0]}, {c[1]}{', unit' * c[2]}": jacobian(*c) for c in MATCHING},
    **{f"norm {output}, {form}": norm(output, form) for output, form in NORMS},
    "attention jacobian": OfNets(attention_jacobian),
    "gradient attention": OfNets(losses.gradient_attention_loss),
    "input noise, soft": input_noise("kd"),
    "input noise, logits": input_noise("logits"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_gradient_and_its_own_are_central_differences(name):
    loss, (z, v) = TENSORS[name].loss, TENSORS[name].tensors()
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, v, Y), z)
    assert torch.autograd.gradgradcheck(lambda z: loss(z, v, Y), z)
    (found,) = torch.autograd.grad(loss(z, v, Y), z)
    close(found, torch.func.jacrev(lambda z: loss(z, v, Y))(z.detach()))


class Attending(nn.Module):
    def forward(self, x):
        q = x.reshape(-1, 1, 2, 2)
        return F.scaled_dot_product_attention(q, 2 * q, q.square()).flatten(1)


def with_layer(layer):
    """A student with a layer that has no second derivative in torch."""
    return seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 4), layer(), nn.Linear(4, 3)), 0
    )


STUDENTS = {"Hardsigmoid": nn.Hardsigmoid, "attention": Attending}
FORMS = ("matching full, squared", "norm full, fisher", "attention jacobian")


@pytest.mark.parametrize(
    ("name", "student"), [*((n, None) for n in NETS), *itertools.product(FORMS, STUDENTS)], ids=str
)
def test_weight_gradient_is_the_central_difference(name, student):
    """Through the double backward, in every weight of the student."""
    net, x = with_layer(STUDENTS[student]) if student else smooth_conv(0), normal(3, 1, 4, 4)
    theta = {key: p.detach().clone().requires_grad_() for key, p in net.named_parameters()}

    def loss(*weights):
        at = At(net, dict(zip(theta, weights, strict=True)))
        return NETS[name].loss(at, smooth_conv(1), x, Y[:3])

    assert torch.autograd.gradcheck(loss, tuple(theta.values()), eps=1e-6, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", [*TENSORS, *(n for n in NETS if not NETS[n].random)])
def test_samples_do_not_mix(name):
    """Their order does not matter, and a batch is the mean of its samples taken one by one."""
    if name in TENSORS:
        case, (student, teacher) = TENSORS[name], TENSORS[name].tensors()

        def loss(at):
            return case.loss(student[at], teacher[at], Y[at])
    else:
        case, student, teacher, x = NETS[name], smooth_conv(0), smooth_conv(1), normal(4, 1, 4, 4)

        def loss(at):
            return case.loss(student, teacher, x[at], Y[at])

    whole = loss(torch.arange(4))
    close(loss(torch.tensor([2, 0, 3, 1])), whole)
    if case.mean:
        alone = torch.stack([loss(torch.tensor([b])) for b in range(4)])
        assert alone.std() > 1e-4
        close(whole, alone.mean())


@pytest.mark.parametrize("name", TENSORS)
def test_the_teachers_tensor_gets_no_gradient(name):
    z, v = (x.requires_grad_() for x in TENSORS[name].tensors())
    before = z.detach().clone(), v.detach().clone()
    TENSORS[name].loss(z, v, Y).backward()
    assert v.grad is None and z.grad.abs().max() > 0
    assert torch.equal(z, before[0]) and torch.equal(v, before[1])


@pytest.mark.parametrize("name", NETS)
def test_every_convolution_learns_and_nothing_else_changes(name):
    """The double backward reaches every weight; in ReLU nets squared distances of Jacobians reach
    no bias."""
    student, teacher, x = relu_conv(0), relu_conv(1), normal(16, 1, 6, 6).requires_grad_()
    assert all((student[: k + 1](x) > 0).any((0, 2, 3)).all() for k in (0, 3)), (
        "a filter is never active"
    )
    before, images = (states(student), states(teacher)), x.detach().clone()
    loss = NETS[name].loss(student, teacher, x, torch.arange(16) % 3)
    assert same_state(before[0], states(student))
    loss.backward()
    for module in (student[0], student[3]):
        assert (module.weight.grad != 0).all()
        if "squared" in name:
            assert module.bias.grad is None or not module.bias.grad.any()
    assert same_state(before[1], states(teacher))
    assert torch.equal(x, images) and x.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOGITS)
def test_half_precision_has_the_value_of_its_numbers(name, dtype):
    z, v = logits(scale=1e3, b=3, dtype=dtype)  # squares beyond what half precision holds
    found, wanted = (LOGITS[name].loss(z.to(t), v.to(t), Y[:3]) for t in (dtype, torch.float64))
    close(found.double(), wanted, 1e-5, 1e-5)


INPUT_GRADIENTS = [name for name in NETS if "noise" not in name]


@pytest.mark.parametrize("name", INPUT_GRADIENTS)
def test_batchnorm_and_dropout_are_taken_as_in_evaluation(name):
    """The batch's statistics would mix the samples; running statistics are not written, and modes
    stay."""
    student, x = norm_conv(0), normal(4, 1, 4, 4)
    teacher = nn.Sequential(nn.Sequential(nn.Dropout(0.5), smooth_conv(1)[0]), *smooth_conv(1)[1:])
    wanted = NETS[name].loss(copy.deepcopy(student).eval(), smooth_conv(1), x, Y)
    before = states(student), states(teacher)
    found = NETS[name].loss(student, teacher, x, Y)
    assert same_state(before[0], states(student)) and same_state(before[1], states(teacher))
    close(found, wanted)
    found.backward()
    assert student[0][1].weight.grad.abs().min() > 0


@pytest.mark.parametrize(
    "name",
    ["matching {}, squared", "matching {}, cross-entropy", "norm {}, squared", "norm {}, fisher"],
)
def test_projections_are_unbiased(name, monkeypatch):
    """The mean over all 2^K sign vectors is the full loss, exactly; several draws are a mean over
    draws."""
    student, teacher, x = smooth_conv(0), smooth_conv(1), normal(4, 1, 4, 4)
    signs = torch.tensor(list(itertools.product((0, 1), repeat=3)))

    def value(output, coins):
        monkeypatch.setattr(torch, "randint", lambda *_, **__: coins[:, None].expand(-1, 4, -1))
        return NETS[name.format(output)].loss(student, teacher, x, Y)

    each = torch.stack(
        [value("projected", one.expand(2 if "matching" in name else 1, -1)) for one in signs]
    )
    assert each.std() > 1e-3
    close(each.mean(), value("full", signs))
    if "matching" in name:
        pairs = torch.stack([value("projected", signs[i : i + 2]) for i in range(0, 8, 2)])
        close(pairs.mean(), each.mean())
