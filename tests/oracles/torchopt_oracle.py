"""The unrolled loop written with TorchOpt's functional optimizers: an independent witness.

The optimizers run with learning rate 1, so that their updates are -d_t (for SGD, momentum and Adam
the learning rate multiplies the direction last), and eta_t multiplies them here: theta <- theta +
eta_t (-d_t).

Reference: Ren et al., TorchOpt: an efficient library for differentiable optimization, 2023,
https://arxiv.org/abs/2211.06934
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
import torchopt
from torch import Tensor, nn
from torch.func import functional_call


def sgd(weight_decay: float = 0.0) -> Any:
    return torchopt.sgd(lr=1.0, weight_decay=weight_decay)


def momentum(beta: float, nesterov: bool = False, weight_decay: float = 0.0) -> Any:
    return torchopt.sgd(
        lr=1.0,
        momentum=beta,
        nesterov=nesterov,
        weight_decay=weight_decay,
        moment_requires_grad=True,
    )


def adam(beta1: float, beta2: float, eps: float, eps_root: float) -> Any:
    return torchopt.adam(
        lr=1.0, betas=(beta1, beta2), eps=eps, eps_root=eps_root, moment_requires_grad=True
    )


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """TorchOpt computes Adam's bias correction in torch's default dtype, whatever that of the
    parameters."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def train(
    net: nn.Module,
    theta_0: dict[str, Tensor],
    pairs: list[tuple[Tensor, Tensor]],
    step_sizes: Tensor,
    optimizer: Any,
) -> dict[str, Tensor]:
    """theta_T of `optimizer` (one of the above) on `pairs`, differentiable."""
    names, theta = list(theta_0), tuple(theta_0.values())
    buffers = {k: b.clone() for k, b in net.named_buffers()}
    state = optimizer.init(theta)
    for (images, labels), eta in zip(pairs, step_sizes, strict=True):
        logits = functional_call(net, (dict(zip(names, theta, strict=True)), buffers), (images,))
        grads = torch.autograd.grad(F.cross_entropy(logits, labels), theta, create_graph=True)
        with _default_dtype(theta[0].dtype):
            updates, state = optimizer.update(grads, state, params=theta, inplace=False)
        rates = list(eta) if eta.dim() else [eta] * len(theta)
        theta = tuple(p + r * d for p, r, d in zip(theta, rates, updates, strict=True))
    return dict(zip(names, theta, strict=True))
