"""TESLA: trajectory matching with a cheaper gradient, in memory that does not grow with the steps.

With plain gradient descent theta_N = theta_0 - sum_i eta_i g_i(theta_i; x_i), g_i the gradient of
the loss on step i's batch x_i. The gradient of

    L = |theta_N - phi|^2 / D,    phi = phi_{t0+M},  D = |theta_0 - phi|^2

is taken as if every theta_i were a constant (the chain through theta_i is cut):

    lambda   =  2 (theta_N - phi) / D                                     (1)
    dL/dx_i  =  d/dx_i of  <lambda, -eta_i g_i(theta_i; x_i)>             (2)
    dL/deta_i = <lambda, -g_i(theta_i; x_i)>                              (3)

This is another gradient than that of trajectory matching, by intention. The steps run twice: once
without a graph for lambda, once more, each with a graph of its own, for (2) and (3).

Reference: Cui et al., Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory, 2023,
https://arxiv.org/abs/2211.10586
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from datadistill.errors import UsageError
from datadistill.innerloop import Truncated, unroll
from datadistill.innerloop.steps import Steps
from datadistill.innerloop.update_rules import Sgd
from datadistill.methods.trajectory_matching import TrajectoryMatching, squared_distance
from datadistill.streams import derive
from datadistill.synthetic import Synthetic
from datadistill.theta import Theta

__all__ = ["Tesla"]


class Tesla(TrajectoryMatching):
    """Trajectory matching with the chain through theta_i cut. Arguments as there; `adjoint` is not
    used."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.update, Sgd):
            raise UsageError(
                "tesla is defined for plain gradient descent on the set, and update is "
                f"{type(self.update).__name__.lower()}; choose --update sgd, or --method "
                "trajectory-matching"
            )
        if isinstance(self.adjoint, Truncated):
            raise UsageError(
                "tesla cuts the chain at every step, so no window of them is differentiated; leave "
                "--adjoint and --window out, or choose --method trajectory-matching"
            )

    def distance(self, synthetic: Synthetic, i: int, n: int) -> Float[Tensor, ""]:
        theta_0, phi = self.draw(i, n)
        stream = derive(self.seed, "matched_steps", i, n)
        steps = synthetic.steps(self.steps, stream=stream)
        eta = synthetic.step_sizes(self.steps)
        noise = derive(self.seed, "dropout", i, n)
        run = _Run(self, theta_0, phi, steps, noise)
        found: Tensor = _CutChain.apply(run, eta, *steps.tensors.values())
        return found


@dataclass
class _Run:
    """The N steps from one expert's epoch."""

    method: Tesla
    theta_0: Theta
    phi: Theta
    steps: Steps
    noise: int

    def step(self, t: int, theta: Theta, eta: Tensor, tensors: dict[str, Tensor]) -> Theta:
        """theta_{t+1}: differentiable in step t's tensors and eta, not in theta."""
        method, one = self.method, replace(self.steps, tensors=tensors).part(t, t + 1)
        stepped: Theta = unroll(
            method.net,
            theta,
            one,
            eta[t : t + 1],
            method.update,
            loss=method.inner_loss,
            norm=method.norm,
            stream=derive(self.noise, "step", t),
        )
        return stepped


class _CutChain(torch.autograd.Function):
    """L, with the gradient of (1) to (3), of the run, the step sizes and the steps' tensors."""

    @staticmethod
    def forward(ctx: Any, run: _Run, eta: Tensor, *tensors: Tensor) -> Tensor:
        ctx.run = run
        ctx.save_for_backward(eta, *tensors)
        named = dict(zip(run.steps.tensors, tensors, strict=True))
        theta = run.theta_0
        for t in range(run.steps.T):
            theta = run.step(t, theta, eta, named)
        D = squared_distance(run.theta_0, run.phi)
        ctx.lam = {k: 2 * (p - run.phi[k]) / D for k, p in theta.items()}  # (1)
        return squared_distance(theta, run.phi) / D

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        run: _Run = ctx.run
        saved = zip(ctx.saved_tensors, ctx.needs_input_grad[1:], strict=True)
        inputs = [x.detach().requires_grad_(needed) for x, needed in saved]
        wanted = [x for x in inputs if x.requires_grad]
        named = dict(zip(run.steps.tensors, inputs[1:], strict=True))
        sums = [torch.zeros_like(x) for x in wanted]
        theta = run.theta_0
        for t in range(run.steps.T):
            with torch.enable_grad():
                stepped = run.step(t, theta, inputs[0], named)
                along = torch.stack([(ctx.lam[k] * p).sum() for k, p in stepped.items()]).sum()
            found = torch.autograd.grad(along, wanted, allow_unused=True, materialize_grads=True)
            sums = [s + g for s, g in zip(sums, found, strict=True)]  # (2), (3)
            theta = {k: p.detach() for k, p in stepped.items()}
        each = iter(grad * s for s in sums)
        return (None, *(next(each) if x.requires_grad else None for x in inputs))
