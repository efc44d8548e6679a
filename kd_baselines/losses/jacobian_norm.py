"""Penalties on the input Jacobian: training with noise on the images, without drawing any.

Notation: S logits, q = softmax(S), y the label, gradients with respect to one image, xi = sigma * n
with n ~ N(0, I_D). Proposition 2, squared errors:

    E sum_i (y_i - S_i(x + xi))^2 = sum_i (y_i - S_i)^2 + sigma^2 sum_i ||grad S_i||^2 + O(sigma^4)

and for smooth nets sigma^2 sum_i (S_i - y_i) Lap S_i more, which the article leaves out.
Cross-entropy:

    E -log q_y(x + xi) ~ -log q_y + (sigma^2/2) ||grad q_y||^2 / q_y^2                (label)
    E -log q_y(x + xi) = -log q_y + (sigma^2/2) sum_d Var_{i~q}(dS_i/dx_d) + ...      (fisher)

The first drops the second derivative of q_y; its coefficient is printed as sigma^2, and is
sigma^2/2 by the article's own expansion of log. The second is the exact second order for logits
that are linear about x, for every y: the Hessian of -log q_y in the logits is diag(q) - q q^T. By
Fisher's identity, sum_d Var_{i~q}(dS_i/dx_d) = sum_i q_i ||grad log q_i||^2, it is the mean of the
first over labels drawn from q.

Weight decay is this penalty layer by layer: the Jacobian of z = W x + b is W. For L such layers
with activations whose slope is at most 1, by the chain rule and as norms are submultiplicative,

    ||grad S||_F <= prod_l ||W_l||_F <= ((1/L) sum_l ||W_l||_F^2)^(L/2)

so weight decay lowers a bound on what the penalty measures, at every x and not at the images alone.
The first step has room: `kd_baselines.hausdorff.lipschitz_bound`, with spectral norms, bounds the
largest singular value of grad S.

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
from kd_baselines.losses.checks import check_logits, check_softmax
from kd_baselines.losses.input_gradients import (
    Net,
    Output,
    cotangents,
    input_jacobian,
    make_leaf,
    per_sample,
    refuse_once_differentiable,
    student_pass,
)
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["JacobianNorm", "jacobian_norm_penalty"]

Form = Literal["squared", "cross-entropy", "fisher"]


def jacobian_norm_penalty(
    student: Net,
    x: Float[Tensor, "b ..."],
    labels: Int[Tensor, " b"] | None = None,
    output: Output = "full",
    *,
    form: Form = "squared",
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Squared norm of the input Jacobian, summed over outputs and inputs, mean over the batch.

        squared          sum_i ||grad S_i||^2
        cross-entropy    (1/2) ||grad log q_y||^2 = (1/2) sum_i y_i ||grad q_i||^2 / q_i^2
        fisher           (1/2) sum_d Var_{i~q}(dS_i/dx_d) = (1/2) sum_i q_i ||grad log q_i||^2

    By Srinivas and Fleuret 2018, proposition 2, each stands for noise of deviation sigma on the
    images with the weight sigma^2: the first beside the squared error sum_i (y_i - S_i)^2, the
    others beside cross-entropy.

    Args:
        student: images -> (B,K); BatchNorm as in `jacobian_matching_loss`.
        x: images, any shape behind the batch. They are not changed and get no gradient.
        labels: (B,), for "label" and for the cross-entropy form.
        output: which i: "full": all, K backward passes; "top": the student's own largest; "label":
            the image's class; "projected": all, by an unbiased estimate (Hutchinson) from one pass
            with random signs. The cross-entropy form has one i, y: "full" and "label" are the same
            there, "top" puts the student's largest output in the label's place. The fisher form
            takes "full" or "projected".
        form: "squared", "cross-entropy" or "fisher".
        generator: of the signs, on the images' device; None: torch's own.

    Example:
        >>> student = torch.nn.Linear(2, 1, bias=False)
        >>> _ = student.weight.data.copy_(torch.tensor([[1.0, 2.0]]))
        >>> jacobian_norm_penalty(student, torch.zeros(4, 2)).item()  # ||W||^2
        5.0
    """
    _check(output, form)
    create_graph, x = torch.is_grad_enabled(), make_leaf(x)
    with torch.enable_grad():
        with per_sample(student):
            logits = student(x)
        penalty = _penalty(logits, x, labels, output, form, generator, create_graph=create_graph)
        refuse_once_differentiable(penalty, student, x, labels)
    return penalty


class JacobianNorm(Term):
    """`jacobian_norm_penalty` on the step's own pass; only a student with BatchNorm in training
    mode is run once more."""

    needs = Needs(student_logits=True, student_input_gradients=True, student=True)

    def __init__(
        self,
        output: Output = "full",
        form: Form = "squared",
        weight: Weight = 1.0,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, name)
        _check(output, form)
        self.output, self.form = output, form

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        logits, x = student_pass(seen)
        generator = seen.generator("jacobian_projection") if self.output == "projected" else None
        return _penalty(
            logits, x, seen.labels, self.output, self.form, generator, create_graph=True
        )


def _penalty(
    logits: Tensor,
    x: Tensor,
    labels: Tensor | None,
    output: Output,
    form: Form,
    generator: torch.Generator | None,
    *,
    create_graph: bool,
) -> Tensor:
    (check_logits if form == "squared" else check_softmax)(logits, logits)
    if form == "cross-entropy" and output == "full":
        output = "label"  # the labels' zeros leave one term of the sum
    rows, scale, half = cotangents(output, logits, labels, generator), None, 1.0
    if form != "squared":
        logits, half = F.log_softmax(logits, 1), 0.5
    if form == "fisher":
        scale = (logits / 2).exp()  # squared: q, through which the loss is differentiated too
    return (
        half
        * input_jacobian(logits, x, rows, create_graph=create_graph, scale=scale)
        .square()
        .sum((1, 2))
        .mean()
    )


def _check(output: Output, form: Form) -> None:
    check_choice("output", output, get_args(Output))
    check_choice("form", form, get_args(Form))
    fitting: dict[str, tuple[str, ...]] = {
        "cross-entropy": ("full", "label", "top"),
        "fisher": ("full", "projected"),
    }
    if form in fitting and output not in fitting[form]:
        raise UsageError(
            f'output="{output}" does not go with form="{form}"; give {" or ".join(fitting[form])}'
        )
