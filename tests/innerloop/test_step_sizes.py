"""softplus and its inverse undo each other over the whole range, at both precisions."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from datadistill.errors import UsageError
from datadistill.innerloop.step_sizes import FORMS, expand, init, softplus_inverse

# rho is near log(eta), so that its rounding, eps |log(eta)|, is a relative error of eta: below 20
# eps here
RANGES = {torch.float64: (1e-8, 1e4, 5e-15), torch.float32: (1e-6, 100.0, 2.5e-6)}


@pytest.mark.parametrize("dtype", RANGES, ids=str)
@settings(max_examples=200, deadline=None, derandomize=True)
@given(position=st.floats(0, 1))
def test_softplus_of_its_inverse(dtype, position):
    low, high, rtol = RANGES[dtype]
    eta = torch.tensor(low * (high / low) ** position, dtype=dtype)
    if eta > 20:  # torch's softplus is the identity from there on, which leaves out exp(-20)
        rtol = max(rtol, math.exp(-20) / 20)
    torch.testing.assert_close(F.softplus(softplus_inverse(eta)), eta, rtol=rtol, atol=0)


def test_inverse_of_softplus():
    rho = torch.linspace(-18, 50, 137, dtype=torch.float64)
    torch.testing.assert_close(softplus_inverse(F.softplus(rho)), rho, rtol=1e-7, atol=1e-7)


def test_the_inverse_keeps_order_and_shape():
    eta = torch.logspace(-8, 4, 60, dtype=torch.float64).view(12, 5)
    rho = softplus_inverse(eta)
    assert rho.shape == eta.shape
    assert (rho.flatten().diff() > 0).all()


@pytest.mark.parametrize("bad", [0.0, -0.02, math.nan, math.inf, -math.inf])
def test_what_is_not_positive_and_finite_is_refused(bad):
    with pytest.raises(UsageError, match="must be positive and finite"):
        softplus_inverse(torch.tensor([0.02, bad]))
    with pytest.raises(UsageError, match="must be positive"):
        init("per-step", bad, steps=3, tensors=2)


@pytest.mark.parametrize(
    "form, shape", [("per-step", (3,)), ("shared", (3,)), ("per-tensor", (3, 4))]
)
def test_every_form_starts_at_eta_and_learns(form, shape):
    rho = init(form, 0.02, steps=3, tensors=4).requires_grad_()
    eta = expand(rho, 3)
    assert eta.shape == shape
    torch.testing.assert_close(eta, torch.full(shape, 0.02))
    eta.sum().backward()
    # d softplus / d rho = sigmoid(rho) = 1 - exp(-eta); a shared one collects all three steps
    slope = (1 - math.exp(-0.02)) * (3 if form == "shared" else 1)
    torch.testing.assert_close(rho.grad, torch.full(rho.shape, slope))


def test_an_unknown_form_is_named():
    assert FORMS == ("per-step", "shared", "per-tensor")
    with pytest.raises(UsageError, match="'per-stop' is unknown; did you mean per-step"):
        init("per-stop", 0.02, steps=1, tensors=1)
