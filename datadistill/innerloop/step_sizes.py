"""Learned step sizes of the inner loop.

Notation: T inner steps, P parameter tensors; eta_t > 0 the step size of step t (or eta_tp of tensor
p at step t); rho the free parameter that the outer optimizer sees, eta = softplus(rho) = log(1 +
exp(rho)).

Positivity is by construction: no clamp, no projection. Three forms share the one parametrization
and differ in the shape of rho only:

    per-step     (T,)    one for each step, untied over epochs (Wang et al. 2018, section 3.4)
    shared       (1,)    one for all steps
    per-tensor   (T, P)  one for each step and parameter tensor

Reference: Wang et al., Dataset Distillation, 2018, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from datadistill.errors import UsageError, suggest

FORMS = ("per-step", "shared", "per-tensor")


def softplus_inverse(eta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The rho with softplus(rho) = eta > 0, stable at both ends.

    rho = log(exp(eta) - 1) overflows in float32 from eta = 89 on. Taking exp(eta) out of the
    logarithm, rho = eta + log(1 - exp(-eta)) = eta + log(-expm1(-eta)), stays finite for every
    eta > 0.

    Example:
        >>> softplus_inverse(torch.tensor([0.02, 100.0]))
        tensor([ -3.9020, 100.0000])
    """
    if not bool((torch.isfinite(eta) & (eta > 0)).all()):
        raise UsageError(f"step sizes are {eta.tolist()}, but each must be positive and finite")
    return eta + torch.log(-torch.expm1(-eta))


def init(form: str, eta: float, steps: int, tensors: int) -> Float[Tensor, "*shape"]:
    """The free parameter rho of `form`, every step size started at `eta`."""
    shapes = {"per-step": (steps,), "shared": (1,), "per-tensor": (steps, tensors)}
    if form not in shapes:
        raise UsageError(f"step-size form {form!r} is unknown; {suggest(form, FORMS)}")
    if not (math.isfinite(eta) and eta > 0):
        raise UsageError(
            f"the initial step size is {eta}, but it must be positive; the paper starts at 0.02"
        )
    return softplus_inverse(torch.full(shapes[form], float(eta)))


def expand(rho: Float[Tensor, "*shape"], steps: int) -> Float[Tensor, "*shape"]:
    """Step sizes (T,) or (T, P) from the free parameter; a shared one is repeated over the
    steps."""
    eta = F.softplus(rho)
    return eta.expand(steps) if eta.shape == (1,) else eta
