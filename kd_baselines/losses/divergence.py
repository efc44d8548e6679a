"""The Kullback-Leibler divergence of softened probabilities, right at every temperature.

Notation: logits z and v of one sample, K of each; p = softmax(v/T), q = softmax(z/T); D = z - v;
C = D - sum_i p_i D_i; l = log q - log p; g(x) = e^x - 1 - x, which is x^2/2 + x^3/6 + ... and never
negative.

    KL(p || q) = sum_i p_i (e^l_i - 1 - l_i) = sum_i p_i g(l_i)   since sum_i (q_i - p_i) = 0    (1)
    T l = C - T k,  k = log sum_i p_i e^(C_i/T)                                                  (2)
                      = log1p(sum_i p_i g(C_i/T))                 since sum_i p_i C_i = 0        (3)
    T^2 p g(l) = p (T l)^2/2 s(l),  s(l) = 2 g(l)/l^2             a power series for |l| <= 1/8  (4)
               = T (T (q - p) - p T l)                            beyond                         (5)
    d/dz = T (q - p) = p T l (1 + l/2 s(l))                       |l| <= 1/8                     (6)

Every summand of (1) is 0 or more, so nothing cancels: an error e of l costs (q - p) e + e^2/2. The
usual sum p log p - sum p log q is a difference of two numbers near log K, whose rounding is
multiplied by T^2. (3) is taken where |C| <= T/8 in all classes; else k is a difference of two
logsumexp. Half precision and float32 are computed in float64, where the device has it; there the
usual sum is taken as long as T is 0.001 to 1,000 and no sample's KL is below 1e-6.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["exp_rest", "scaled_divergence", "to_double"]

SMALL = 0.125  # up to here the series; beyond, e^x - 1 - x cancels at most four bits
_TERMS = 11  # of the series: the next, 2 SMALL^10 / 12!, is below the rounding of float64
# the rounding of the usual sum, about 10 log(K) 2^-53, is below 1e-7 of a divergence above this
SMALLEST_USUAL = 1e-6
# logits of float32 over the first are numbers; the rounding of the gradient T (q - p) is below 1e-7
# of a typical entry up to the second
USUAL = (1e-3, 1e3)
_SMALLEST = 1e-300  # below it 1/T is no number; the divergence is then T times what stands


def to_double(x: Tensor) -> Tensor:
    """The same numbers in float64, where the device has it; else in float32."""
    return x.double() if x.device.type != "mps" else x.float()


def exp_rest(x: Tensor) -> Tensor:
    """e^x - 1 - x for |x| <= 1/8, without cancellation."""
    return x * x / 2 * _series(x)


def scaled_divergence(
    student: Float[Tensor, "b k"], teacher: Float[Tensor, "b k"], temperature: float
) -> Float[Tensor, " b"]:
    """T^2 KL(softmax(v/T) || softmax(z/T)) of each sample, in float64, differentiable any number of
    times.

    Logits of -inf are probability 0, and no gradient flows to the teacher's.

    Example:
        >>> z, v = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, -2.0]])
        >>> scaled_divergence(z, v, 1e6)  # (2^2 + 2^2) / (2 * 2)
        tensor([2.0000], dtype=torch.float64)
    """
    T = max(float(temperature), _SMALLEST)
    z, v = to_double(student), to_double(teacher.detach())
    # what is below branches on values, which no transform of torch.func lets it see
    plain = torch._C._functorch.peek_interpreter_stack() is None
    if plain and student.dtype is not torch.float64 and USUAL[0] <= T <= USUAL[1]:
        log_p, log_q = (v / T).log_softmax(1), (z / T).log_softmax(1)
        usual = (log_p.exp() * (log_p - log_q)).sum(1)  # not a number where a logit is -inf
        if bool((usual.detach() > SMALLEST_USUAL).all()):
            return T * T * usual
    found: Tensor = _Divergence.apply(z, v, T)[0]  # type: ignore[no-untyped-call]
    return found if temperature == T else found * (float(temperature) / T)


class _Divergence(torch.autograd.Function):
    """(z, v, T) to the divergences (B,) and their gradients (B,K), which are computed together."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, v: Tensor, T: float) -> tuple[Tensor, Tensor]:
        log_p, log_q = logs = _log_softmax(torch.stack((v, z)), T)  # times T
        p, q = (logs / T).exp()
        present = p > 0  # else -inf, or too far below the largest: the summand is q alone
        difference = torch.where(present, z - v, 0.0)
        centred = torch.where(present, difference - (p * difference).sum(1, keepdim=True), 0.0)
        near = (centred.abs() <= SMALL * T).all(1, keepdim=True) & present.all(1, keepdim=True)
        k = T * (p * exp_rest(torch.where(near, centred / T, 0.0))).sum(1, keepdim=True).log1p()
        ratio = torch.where(near, centred - k, torch.where(present, log_q - log_p, 0.0))  # T l
        small = present & (ratio.abs() <= SMALL * T)
        x = torch.where(small, ratio, 0.0)
        s = _series(x / T)
        gradient = torch.where(small, p * x * (1 + x / T / 2 * s), T * (q - p))  # (6)
        value = torch.where(small, p * x * x / 2 * s, T * (gradient - p * ratio))  # (4), (5)
        return value.sum(1), gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        z, _, ctx.T = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(z, output[1])
        ctx.save_for_forward(z, output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        z, gradient = ctx.saved_tensors
        if torch.is_grad_enabled() or forward_ad.unpack_dual(z).tangent is not None:
            gradient = _make_differentiable(z, gradient, ctx.T)
        return grads[0].unsqueeze(1) * gradient, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, None]:
        z, gradient = ctx.saved_tensors
        return (tangents[0] * _make_differentiable(z, gradient, ctx.T)).sum(1), None


def _make_differentiable(z: Tensor, gradient: Tensor, T: float) -> Tensor:
    """The gradient T (q - p), with q as a function of z."""
    q = ((z - z.detach().amax(1, keepdim=True)) / T).softmax(1)
    return gradient.detach() + T * (q - q.detach())


def _log_softmax(z: Tensor, T: float) -> Tensor:
    """T log softmax(z/T), of z that may be far beyond T."""
    z = z - z.amax(-1, keepdim=True)
    return z - T * (z / T).exp().sum(-1, keepdim=True).log()  # the largest is 0


def _series(x: Tensor) -> Tensor:
    """2 (e^x - 1 - x) / x^2 = 1 + x/3 (1 + x/4 (1 + ...)), for |x| <= 1/8."""
    one = torch.ones((), dtype=x.dtype, device=x.device)
    found = 1 + x / _TERMS
    for n in range(_TERMS - 1, 2, -1):
        found = torch.addcmul(one, x, found, value=1 / n)
    return found
