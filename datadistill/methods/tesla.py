"""TESLA: trajectory matching with a cheaper gradient, in memory that does not grow with the steps.

With plain gradient descent theta_N = theta_0 - sum_t eta_t g_t, where g_t = g(theta_t; x_t) is the
gradient of the loss on step t's batch. The gradient of L(theta_N) is taken as if every theta_t were
a constant (the chain through theta_t is cut):

    lambda    = dL/dtheta_N                                               (1)
    dL/dx_t   = d/dx_t <lambda, -eta_t g(theta_t; x_t)>                   (2)
    dL/deta_t = <lambda, -g_t>                                            (3)

For L of trajectory matching (1) is 2 (theta_N - phi_{t0+M}) / |theta_0 - phi_{t0+M}|^2. This is
another gradient than trajectory matching's, by intention. The steps run twice: once without a
graph, and once more, each with a graph of its own, for (2) and (3).

Reference: Cui et al., Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory, 2023,
https://arxiv.org/abs/2211.10586
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from datadistill.errors import UsageError
from datadistill.innerloop import Auto, FullUnroll
from datadistill.innerloop.adjoints import Result
from datadistill.innerloop.attributes import keep_attributes
from datadistill.innerloop.problem import InnerProblem
from datadistill.innerloop.update_rules import Sgd, State
from datadistill.methods.trajectory_matching import TrajectoryMatching
from datadistill.synthetic import Synthetic
from datadistill.theta import Theta

__all__ = ["CutChain", "Tesla"]


class Tesla(TrajectoryMatching):
    """Trajectory matching with the chain through theta_t cut. Arguments as there; of the adjoints
    it has its own, `CutChain`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.update, Sgd):
            raise UsageError(
                "tesla is defined for plain gradient descent on the set, and update is "
                f"{type(self.update).__name__.lower()}; choose --update sgd, or --method "
                "trajectory-matching"
            )
        if not isinstance(self.adjoint, Auto | FullUnroll):
            raise UsageError(
                "tesla cuts the chain at every step, which is an adjoint of its own, and adjoint "
                f"is {type(self.adjoint).__name__}; leave --adjoint and --window out, or choose "
                "--method trajectory-matching"
            )
        self.adjoint = CutChain()

    def differentiated_steps(self, synthetic: Synthetic) -> int:
        return 0  # one graph at a time


@dataclass(frozen=True)
class CutChain:
    """The adjoint of (2) and (3), for plain gradient descent; theta_0 gets no gradient."""

    def run(self, problem: InnerProblem, theta: Theta, state: State, step_sizes: Tensor) -> Result:
        tensors = problem.steps.tensors.values()
        theta_N = _CutChain.apply(problem, theta, state, step_sizes, *tensors)
        return dict(zip(theta, theta_N, strict=True)), state, problem.buffers_0


class _CutChain(torch.autograd.Function):
    """theta_N of the problem, theta_0, the rule's state, step sizes and the steps' tensors."""

    @staticmethod
    def forward(
        ctx: Any, problem: InnerProblem, theta: Theta, state: State, eta: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.problem, ctx.theta_0, ctx.state = problem, theta, state
        ctx.save_for_backward(eta, *tensors)
        for t in range(problem.steps.T):
            pair = problem.steps(t)
            theta, _, _ = problem.step(t, theta, state, problem.buffers_0, pair, eta[t])
        return tuple(theta.values())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *lam: Tensor) -> tuple[Any, ...]:
        problem: InnerProblem = ctx.problem
        saved = zip(ctx.saved_tensors, ctx.needs_input_grad[3:], strict=True)
        inputs = [x.detach().requires_grad_(needed) for x, needed in saved]
        eta, named = inputs[0], dict(zip(problem.steps.tensors, inputs[1:], strict=True))
        learned = [x for x in inputs if x.requires_grad]
        sums = [torch.zeros_like(x) for x in learned]
        theta = ctx.theta_0
        with keep_attributes(problem.net):
            for t in range(problem.steps.T):
                with torch.enable_grad():
                    pair = problem.steps.fn(named, t)
                    after, _, _ = problem.step(t, theta, ctx.state, problem.buffers_0, pair, eta[t])
                found = torch.autograd.grad(
                    list(after.values()), learned, lam, allow_unused=True, materialize_grads=True
                )
                sums = [s + g for s, g in zip(sums, found, strict=True)]  # (2), (3)
                theta = {k: p.detach() for k, p in after.items()}
        each = iter(sums)
        return (None, None, None, *(next(each) if x.requires_grad else None for x in inputs))
