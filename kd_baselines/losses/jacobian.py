"""Jacobian matching: the student's input gradients follow the teacher's.

Notation: T, S logits of teacher and student, p = softmax(T), q = softmax(S), K outputs, gradients
with respect to one image x of D numbers, xi = sigma * n with n ~ N(0, I_D).

Proposition 1, with the term its proof drops, f_i = T_i - S_i:

    E sum_i f_i(x + xi)^2 = sum_i f_i^2 + sigma^2 sum_i ||grad f_i||^2
                            + sigma^2 sum_i f_i Lap f_i + O(sigma^4)

The last sum is 0 for piecewise linear nets while x + xi stays in one piece (then the rest is
exact), and where T = S. The middle sum is this loss in its squared form.

Proposition 1 for cross-entropy, as printed, subtracts sigma^2 sum_i grad p_i . grad q_i / q_i,
which has no lower bound: it rewards aligned gradients however large. It keeps log q to first order.
The second order adds (sigma^2/2) sum_i p_i ||grad q_i||^2 / q_i^2, and the square is complete:

    sigma^2 * (1/2) sum_i p_i ||grad log q_i - grad log p_i||^2 + constant of T

which is the exact second order of E KL(p || q) where S = T.

Reference: Srinivas and Fleuret, Knowledge Transfer with Jacobian Matching, ICML 2018,
https://arxiv.org/abs/1803.00443
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from datadistill.errors import UsageError
from datadistill.nets.layers import check_choice
from kd_baselines.losses.checks import check_draws, check_logits, check_softmax
from kd_baselines.losses.input_gradients import (
    Net,
    Output,
    cotangents,
    input_jacobian,
    make_leaf,
    per_sample,
    refuse_mixing,
    refuse_once_differentiable,
    student_pass,
)
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["JacobianMatching", "jacobian_matching_loss"]

Form = Literal["squared", "cross-entropy"]


def jacobian_matching_loss(
    student: Net,
    teacher: Net,
    x: Float[Tensor, "b ..."],
    labels: Int[Tensor, " b"] | None = None,
    output: Output = "full",
    *,
    form: Form = "squared",
    normalize: bool = False,
    generator: torch.Generator | None = None,
    projections: int = 1,
) -> Float[Tensor, ""]:
    """Squared distance of the input Jacobians, summed over outputs and inputs, mean over the batch.

        squared          sum_i ||grad S_i - grad T_i||^2
        cross-entropy    (1/2) sum_i p_i ||grad log q_i - grad log p_i||^2

    By Srinivas and Fleuret 2018, proposition 1, either stands for noise of deviation sigma on the
    images with the weight sigma^2: the first beside the *full* squared distance of logits (beside
    half of it, as `logit_regression_loss` is, the weight is sigma^2 / 2), the second beside KL or
    cross-entropy at T = 1.

    The result is differentiable in the student's weights: biases before ReLU and max-pooling get no
    gradient (the Jacobian does not depend on them but by jumps), nor does the last layer's bias in
    the squared form.

    Args:
        student: images -> (B,K). A module with BatchNorm in training mode is run with its running
            statistics, which are not written: with the batch's a sample's Jacobian would depend on
            the other images.
        teacher: images -> (B,K), called with gradients on; a module is run in evaluation mode. Its
            weights get no gradient.
        x: images, any shape behind the batch. They are not changed and get no gradient.
        labels: (B,), for "label".
        output: which i: "full": all, K backward passes each; "top": the teacher's largest, for
            both, one pass; "label": the image's class, one pass (section 4.1); "projected": all, by
            an unbiased estimate (Hutchinson) from `projections` passes with the same random signs
            for both.
        form: "squared" or "cross-entropy".
        normalize: of the squared form, compare J_S / ||J_S|| with J_T / ||J_T|| (Frobenius norm of
            what `output` names, a sample at a time): 2 - 2 cos, from 0 to 4. The norm is
            sqrt(||J||^2 + eps) with eps = 1e-6 times the batch mean of the teacher's ||J||^2, so
            that the factor 1/norm stays finite as a gradient vanishes; a student's gradient less
            than about 1e-3 of the teacher's is not stretched to length 1. With "projected" the
            projection is brought to length 1, which is no unbiased estimate of "full".
        generator: of the signs, on the images' device; None: torch's own.
        projections: how many draws of signs, at least 1.

    Example:
        >>> from torch import nn
        >>> student, teacher = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
        >>> for net, w in ((student, [[1.0, 0.0]]), (teacher, [[3.0, 1.0]])):
        ...     _ = net.weight.data.copy_(torch.tensor(w))
        >>> loss = jacobian_matching_loss(student, teacher, torch.zeros(4, 2))  # ||W_S - W_T||^2
        >>> loss.backward()
        >>> loss.item(), student.weight.grad, teacher.weight.grad  # 5, -2 (W_T - W_S), nothing
        (5.0, tensor([[-4., -2.]]), None)
    """
    _check(output, form, normalize, projections)
    create_graph, x = torch.is_grad_enabled(), make_leaf(x)
    with torch.enable_grad():
        with per_sample(student):
            ours = student(x)
        with per_sample(teacher, "teacher", evaluation=True):
            theirs = teacher(x)
        rows = (output, labels, generator, projections)
        loss = _distance(ours, x, theirs, x, rows, form, normalize, create_graph=create_graph)
        refuse_once_differentiable(loss, student, x, labels)
    return loss


class JacobianMatching(Term):
    """`jacobian_matching_loss` on the step's own passes; only a student with BatchNorm in training
    mode is run once more. `logits` names a layer of the student whose output (B,K) stands for its
    logits."""

    def __init__(
        self,
        output: Output = "full",
        form: Form = "squared",
        weight: Weight = 1.0,
        normalize: bool = False,
        projections: int = 1,
        logits: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, name)
        _check(output, form, normalize, projections)
        self.output, self.form, self.normalize, self.projections = (
            output,
            form,
            normalize,
            projections,
        )
        self.logits = logits
        self.needs = Needs.both_logits(logits) | Needs(
            student_input_gradients=True, teacher_input_gradients=True, student=True, teacher=True
        )

    def prepare(self, seen: Seen) -> None:
        refuse_mixing(seen.teacher, "teacher")

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        ours, x = student_pass(seen, self.logits)
        generator = seen.generator("jacobian_projection") if self.output == "projected" else None
        rows = (self.output, seen.labels, generator, self.projections)
        theirs = seen.require("teacher_logits")
        return _distance(
            ours, x, theirs, seen.images, rows, self.form, self.normalize, create_graph=True
        )


def _distance(
    ours: Tensor,
    x_ours: Tensor,
    theirs: Tensor,
    x_theirs: Tensor,
    of: tuple[Output, Tensor | None, torch.Generator | None, int],
    form: Form,
    normalize: bool,
    *,
    create_graph: bool,
) -> Tensor:
    """The loss from logits and the images they hang on; the teacher's graph is kept and never
    extended."""
    (check_softmax if form == "cross-entropy" else check_logits)(ours, theirs)
    rows, scale = cotangents(of[0], theirs, *of[1:]), None
    if form == "cross-entropy":
        scale = (F.log_softmax(theirs.detach(), 1) / 2).exp() * 0.5**0.5  # squared: p / 2
        ours, theirs = F.log_softmax(ours, 1), F.log_softmax(theirs, 1)
    # K products through each net cost less than K through their difference: of the teacher's only
    # the first order is needed
    j_s = input_jacobian(ours, x_ours, rows, create_graph=create_graph, scale=scale)
    j_t = input_jacobian(theirs, x_theirs, rows, create_graph=False, scale=scale, whose="teacher")
    if normalize:
        eps = 1e-6 * j_t.square().sum((1, 2)).mean() + torch.finfo(j_t.dtype).tiny
        j_s, j_t = _unit(j_s, eps), _unit(j_t, eps)
    return (j_s - j_t).square().sum((1, 2)).mean()


def _unit(j: Tensor, eps: Tensor) -> Tensor:
    return j / (j.square().sum((1, 2), keepdim=True) + eps).sqrt()


def _check(output: Output, form: Form, normalize: bool, projections: int) -> None:
    check_choice("output", output, get_args(Output))
    check_choice("form", form, get_args(Form))
    check_draws("projections", projections)
    if normalize and form != "squared":
        raise UsageError(
            f'normalize=True with form="{form}", whose gradients weigh by their length; '
            'use form="squared"'
        )
