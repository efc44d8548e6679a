"""Losses of input gradients for students whose layers have no second derivative in torch."""

import pytest
import torch
import torch.nn.functional as F
from loss_cases import affine, normal, seeded
from oracles.finite_differences import check_directions
from torch import nn
from torch.func import functional_call

from datadistill.errors import UsageError
from kd_baselines import CE, Teacher
from kd_baselines.distiller import Distiller
from kd_baselines.losses import attention_jacobian_loss, attention_map
from kd_baselines.losses.attention_jacobian import AttentionJacobian
from kd_baselines.losses.jacobian import JacobianMatching, jacobian_matching_loss
from kd_baselines.losses.jacobian_norm import JacobianNorm, jacobian_norm_penalty


class Attending(nn.Module):
    def forward(self, x):
        q = x.reshape(-1, 1, 2, 2)
        return F.scaled_dot_product_attention(q, 2 * q, q.square()).flatten(1)


def flat(layer):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 4), layer, nn.Linear(4, 3))


STUDENTS = {"Hardsigmoid": lambda: flat(nn.Hardsigmoid()), "attention": lambda: flat(Attending())}
LOSSES = {
    "matching": lambda student, x: jacobian_matching_loss(student, affine(1), x),
    "norm": lambda student, x: jacobian_norm_penalty(student, x, form="fisher"),
    "attention": lambda student, x: attention_jacobian_loss(
        lambda images: attention_map(student(images)[:, :, None, None]),
        lambda images: attention_map(affine(1)(images)[:, :, None, None]),
        x,
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("student", STUDENTS)
def test_gradients_equal_finite_differences(student, loss):
    net, x = seeded(STUDENTS[student], 0), normal(3, 4)
    theta = {name: p.detach().clone() for name, p in net.named_parameters()}

    class At(nn.Module):
        """The student at other weights."""

        def __init__(self, theta):
            super().__init__()
            self.theta = theta

        def forward(self, images):
            return functional_call(net, self.theta, (images,))

    def value(tensors):
        with torch.enable_grad():
            found = LOSSES[loss](At(tensors), x)
        return found if any(p.requires_grad for p in tensors.values()) else found.detach()

    leaves = {name: p.clone().requires_grad_() for name, p in theta.items()}
    found = torch.autograd.grad(value(leaves), list(leaves.values()), materialize_grads=True)
    check_directions(value, theta, dict(zip(theta, found, strict=True)), torch.Generator().manual_seed(0))


TERMS = {
    "JacobianMatching": lambda: JacobianMatching(),
    "JacobianNorm": lambda: JacobianNorm(),
    "AttentionJacobian": lambda: AttentionJacobian({"maps": "maps"}),
}


class Student(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.maps, self.layer, self.head = nn.Conv2d(1, 4, 3), layer, nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.layer(self.maps(self.layer(x)).mean((2, 3))))


@pytest.mark.parametrize("term", TERMS)
def test_terms_learn_with_such_a_layer(term):
    batch = (torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2]))
    student = Student(nn.Hardsigmoid())
    distiller = Distiller(student, CE() + TERMS[term](), Teacher(Student(nn.Softplus())), sample=batch)
    distiller.step(batch)["loss"].backward()
    assert student.maps.weight.grad.abs().max() > 0


class Bag(nn.Module):
    """A layer without a second derivative."""

    def forward(self, x):
        rows = torch.arange(x[..., 0].numel())
        return F.embedding_bag(rows[:, None], x.reshape(-1, x.shape[-1])).reshape(x.shape)


@pytest.mark.parametrize("term", TERMS)
def test_a_layer_without_one_is_named_before_training(term):
    batch = (torch.randn(2, 1, 4, 4), torch.tensor([0, 2]))
    with pytest.raises(UsageError, match=r"layer layer \(Bag\): embedding_bag: no second derivative"):
        Distiller(Student(Bag()), CE() + TERMS[term](), Teacher(Student(nn.Softplus())), sample=batch)


def test_the_functions_name_it_too():
    student, x = Student(Bag()), torch.randn(2, 1, 4, 4)
    with pytest.raises(UsageError, match=r"cannot learn from input gradients: layer layer \(Bag\)"):
        jacobian_norm_penalty(student, x)
    with torch.no_grad():  # nothing is learned
        assert jacobian_norm_penalty(student, x) >= 0
