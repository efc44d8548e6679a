"""Gradient-based attention transfer: the student's loss is sensitive to the pixels that the
teacher's is.

Notation: l(z, y) the cross-entropy of one image x with its label y; J_S and J_T its gradients in x
through the student and through the teacher, of all pixels and channels.

Reference: Zagoruyko and Komodakis, Paying more attention to attention, 2017,
https://arxiv.org/abs/1612.03928, section 3.2
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from kd_baselines.losses.checks import check_softmax, class_labels
from kd_baselines.losses.input_gradients import (
    Net,
    input_jacobian,
    make_leaf,
    per_sample,
    refuse_mixing,
    refuse_once_differentiable,
    student_pass,
)
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["GradientAttention", "gradient_attention_loss"]

EPS = 1e-12  # under the root of the norm: equal gradients give 1e-6, and a gradient of 0


def gradient_attention_loss(
    student: Net, teacher: Net, x: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]
) -> Float[Tensor, ""]:
    """|| J_S - J_T ||_2, mean over the batch (Zagoruyko and Komodakis 2017, section 3.2, without
    its factor beta / 2).

    The student learns through J_S, so the gradient of the loss goes through a second derivative of
    the student. The norm is sqrt(||.||^2 + 1e-12), so that the gradient is finite where both
    gradients are equal.

    Args:
        student: images to logits (B,K), each image for itself; see `jacobian_matching_loss`.
        teacher: likewise. Its weights get no gradient.
        x: (B,C,H,W); it gets no gradient.
        labels: y, (B,), 0 to K-1.

    Example:
        >>> net, x, y = torch.nn.Linear(3, 2), torch.ones(4, 3), torch.tensor([0, 1, 0, 1])
        >>> gradient_attention_loss(net, net, x, y).item() < 2e-6
        True
    """
    create_graph, x = torch.is_grad_enabled(), make_leaf(x)
    with torch.enable_grad():
        with per_sample(student):
            ours = student(x)
        with per_sample(teacher, "teacher", evaluation=True):
            theirs = teacher(x)
        loss = _distance(ours, x, theirs, x, labels, create_graph=create_graph)
        refuse_once_differentiable(loss, student, x, labels)
    return loss


class GradientAttention(Term):
    """`gradient_attention_loss` on the step's own passes; only a student with BatchNorm in training
    mode is run once more. The weight is the paper's beta / 2."""

    needs = Needs.both_logits() | Needs(
        student_input_gradients=True, teacher_input_gradients=True, student=True, teacher=True
    )

    def prepare(self, seen: Seen) -> None:
        refuse_mixing(seen.teacher, "teacher")

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        ours, x = student_pass(seen)
        theirs = seen.require("teacher_logits")
        return _distance(ours, x, theirs, seen.images, seen.labels, create_graph=True)


def _distance(
    ours: Tensor,
    x_ours: Tensor,
    theirs: Tensor,
    x_theirs: Tensor,
    labels: Tensor,
    *,
    create_graph: bool,
) -> Float[Tensor, ""]:
    """The loss from logits and the images they hang on; the teacher's graph is kept and never
    extended."""
    check_softmax(ours, theirs)
    y = class_labels(labels, ours)
    gradients = []
    for whose, z, x in (("student", ours, x_ours), ("teacher", theirs, x_theirs)):
        each = F.cross_entropy(z, y, reduction="none").unsqueeze(1)
        rows = each.new_ones(1, *each.shape)
        own = create_graph and whose == "student"
        gradients.append(input_jacobian(each, x, rows, create_graph=own, whose=whose))
    difference = gradients[0] - gradients[1]
    return (difference.square().sum((1, 2)) + EPS).sqrt().mean()
