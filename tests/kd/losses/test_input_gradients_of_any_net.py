"""Losses of input gradients for students whose layers have no second derivative in torch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datadistill.errors import UsageError
from kd_baselines import CE, Teacher
from kd_baselines.distiller import Distiller
from kd_baselines.losses.attention_jacobian import AttentionJacobian
from kd_baselines.losses.gradient_attention import GradientAttention
from kd_baselines.losses.jacobian import JacobianMatching
from kd_baselines.losses.jacobian_norm import JacobianNorm, jacobian_norm_penalty

TERMS = {
    "JacobianMatching": lambda: JacobianMatching(),
    "JacobianNorm": lambda: JacobianNorm(),
    "GradientAttention": lambda: GradientAttention(),
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
    batch = (
        torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 2]),
    )
    student = Student(nn.Hardsigmoid())
    distiller = Distiller(
        student, CE() + TERMS[term](), Teacher(Student(nn.Softplus())), sample=batch
    )
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
    with pytest.raises(
        UsageError, match=r"layer layer \(Bag\): embedding_bag: no second derivative"
    ):
        Distiller(
            Student(Bag()), CE() + TERMS[term](), Teacher(Student(nn.Softplus())), sample=batch
        )


def test_the_functions_name_it_too():
    student, x = Student(Bag()), torch.randn(2, 1, 4, 4)
    with pytest.raises(UsageError, match=r"cannot learn from input gradients: layer layer \(Bag\)"):
        jacobian_norm_penalty(student, x)
    with torch.no_grad():  # nothing is learned
        assert jacobian_norm_penalty(student, x) >= 0
