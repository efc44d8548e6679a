"""Ways of differentiating through an unrolled training loop.

Notation: Phi_t the one-step map (problem.py), z_t = (theta_t, s_t) parameters and the rule's state,
u_t = (x_t, y_t, eta_t) images, soft labels and step size of step t, T steps, L the outer loss of
theta_T.

    z_{t+1} = Phi_t(z_t, u_t)                                                     (1)
    lambda_T = dL/dz_T                                                            (2)
    lambda_t = (dPhi_t/dz_t)' lambda_{t+1}                                        (3)
    dL/du_t  = (dPhi_t/du_t)' lambda_{t+1}                                        (4)

For plain gradient descent Phi_t = theta - eta_t g(theta, x_t), so (3) and (4) are Hessian-vector
products: lambda_t = lambda_{t+1} - eta_t H_t lambda_{t+1}, dL/dx_t = -eta_t (dg/dx_t)'
lambda_{t+1}, dL/deta_t = -<g_t, lambda_{t+1}>. Nothing below uses this special form; any
differentiable rule will do.

What each keeps from the forward pass, for T steps, a graph of size G a step and parameters of size
|z|:

    FullUnroll   T (G + |z|)    the graph of every step; fastest
    StepReplay   T |z| + G      z_t; each graph is built again when its turn comes
    Auto         the first of these for few steps, the second for many
    Truncated    w (G + |z|)    the graphs of the last w steps; a biased gradient, by intention
    Higher       T (G + |z|)    the `higher` library's own engine (higher_engine.py)

References: Domke, Generic methods for optimization-based modeling, 2012 (back-optimization);
Maclaurin, Duvenaud & Adams, Gradient-based hyperparameter optimization through reversible learning,
2015; Wang et al., Dataset Distillation, 2018; Feng et al., Embarrassingly simple dataset
distillation, 2024 (truncation).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils import _pytree as pytree

from datadistill.errors import UsageError
from datadistill.innerloop.attributes import keep_attributes
from datadistill.innerloop.problem import InnerProblem
from datadistill.innerloop.update_rules import State, Theta
from datadistill.streams import get_other_generators, is_same_state

Result = tuple[Theta, State, Theta]


class Adjoint(Protocol):
    """How `unroll` runs the steps of a problem and keeps what the gradient needs."""

    def run(
        self, problem: InnerProblem, theta: Theta, state: State, step_sizes: Tensor
    ) -> Result: ...


def _loop(
    problem: InnerProblem,
    theta: Theta,
    state: State,
    buffers: Theta,
    step_sizes: Tensor,
    start: int,
    stop: int,
) -> Result:
    """Equation (1) for t = start .. stop-1; differentiable where gradients are on."""
    for t in range(start, stop):
        theta, state, buffers = problem.step(
            t, theta, state, buffers, problem.steps(t), step_sizes[t]
        )
    return theta, state, buffers


@dataclass(frozen=True)
class FullUnroll:
    """Keep the graph of all steps and let autograd walk it back.

    Prefer it while memory allows: nothing is computed twice. Differentiable any number of times.
    """

    def run(self, problem: InnerProblem, theta: Theta, state: State, step_sizes: Tensor) -> Result:
        return _loop(problem, theta, state, problem.buffers_0, step_sizes, 0, problem.steps.T)


@dataclass(frozen=True)
class Truncated:
    """Differentiate the last `window` steps only (truncated back-propagation through time).

    Gradients of earlier steps' images, labels and step sizes and of theta_0 are zero. The bias is
    the price for a gradient that does not explode over hundreds of steps. A window elsewhere is
    made by slicing: unroll the steps up to its end.

    Args:
        window: number of steps to differentiate, at least 1; one larger than T is the exact
            gradient.
        adjoint: how to differentiate them: `FullUnroll()` or `StepReplay()`.
    """

    window: int
    adjoint: Any = field(default_factory=FullUnroll)

    def __post_init__(self) -> None:
        if type(self.window) is not int or self.window < 1:
            raise UsageError(
                f"window is {self.window!r}, but it must be a whole number of steps, at least 1"
            )
        if not isinstance(self.adjoint, (FullUnroll, StepReplay, Auto)):
            raise UsageError(
                f"Truncated cannot run over {type(self.adjoint).__name__}; use "
                "FullUnroll() or StepReplay()"
            )

    def run(self, problem: InnerProblem, theta: Theta, state: State, step_sizes: Tensor) -> Result:
        T, cut = problem.steps.T, max(problem.steps.T - self.window, 0)
        if not torch.is_grad_enabled() or cut == 0:
            return self.adjoint.run(problem, theta, state, step_sizes)
        with torch.no_grad():
            theta_cut, state_cut, buffers = _loop(
                problem, theta, state, problem.buffers_0, step_sizes, 0, cut
            )
        # sources: tensors whose gradient must read zero rather than "not in the graph"
        sources = [
            x
            for x in pytree.tree_leaves((theta, state, problem.steps.tensors))
            if _is_differentiable(x)
        ]
        if sources:
            values = _Severed.apply(len(theta_cut), *theta_cut.values(), *sources)
            theta_cut = dict(zip(theta_cut, values, strict=True))
        adjoint = self.adjoint
        if isinstance(adjoint, Auto):
            adjoint = adjoint.choose(T - cut)
        if isinstance(adjoint, StepReplay):
            return _replay(problem, theta_cut, state_cut, buffers, step_sizes, cut, T)
        return _loop(problem, theta_cut, state_cut, buffers, step_sizes, cut, T)


class _Severed(torch.autograd.Function):
    """The first n arguments, passed on unchanged; gradients of the others (their sources) are
    zeros."""

    @staticmethod
    def forward(ctx: Any, n: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.n, ctx.like = n, [(x.shape, x.dtype, x.device) for x in tensors[n:]]
        return tuple(x.view_as(x) for x in tensors[:n])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        zeros = (torch.zeros(s, dtype=d, device=v) for s, d, v in ctx.like)
        return (None, *[None] * ctx.n, *zeros)


@dataclass(frozen=True)
class StepReplay:
    """Keep theta_t and the rule's state per step; rebuild one step's graph at a time on the way
    back.

    Prefer it when the graphs of all steps do not fit: memory is one step's graph plus T copies of
    the parameters, for one more forward and gradient a step. Exact for every update rule, also one
    of your own. Steps are rebuilt, so `Steps.fn` must be pure, and random numbers in the net must
    come from `stream`; a tensor that was changed in place since, and random numbers that cannot be
    repeated, are refused; so are steps that, built again, have another loss (a net with a generator
    of its own, or one that counts its calls). Gradients reach theta_0, the steps' tensors, the step
    sizes and the rule's initial state; a tensor that the loss or the rule closes over gets none.
    The gradient itself is not differentiable (FullUnroll's is).

    Backward, from (2)-(4):

        lambda <- dL/dz_T
        for t = T-1 .. 0:                     invariant: lambda = dL/dz_{t+1}, and the accumulators
                                              hold
            z <- stored z_t                   the sum over k > t of dL/du_k
            z+ <- Phi_t(z, u_t)               the graph of this step alone
            lambda, du <- vjp of z+ in (z, u_t) with lambda           (3), (4)
            add du to the accumulators

    References: Maclaurin et al. 2015; Domke 2012.
    """

    def run(self, problem: InnerProblem, theta: Theta, state: State, step_sizes: Tensor) -> Result:
        return _replay(problem, theta, state, problem.buffers_0, step_sizes, 0, problem.steps.T)


@dataclass(frozen=True)
class Auto:
    """`FullUnroll()` for up to `most` differentiated steps, `StepReplay()` for more.

    Example:
        >>> Auto().choose(200), Auto().choose(201)
        (FullUnroll(), StepReplay())
    """

    most: int = 200

    def choose(self, steps: int) -> FullUnroll | StepReplay:
        """The adjoint of so many differentiated steps."""
        return FullUnroll() if steps <= self.most else StepReplay()

    def run(self, problem: InnerProblem, theta: Theta, state: State, step_sizes: Tensor) -> Result:
        return self.choose(problem.steps.T).run(problem, theta, state, step_sizes)


def _is_differentiable(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _replay(
    problem: InnerProblem,
    theta: Theta,
    state: State,
    buffers: Theta,
    step_sizes: Tensor,
    start: int,
    stop: int,
) -> Result:
    z, spec = pytree.tree_flatten((theta, state))
    base = problem.steps.tensors
    inputs = [*z, *base.values(), step_sizes]
    if not (torch.is_grad_enabled() and any(map(_is_differentiable, inputs))):
        with torch.no_grad():
            return _loop(problem, theta, state, buffers, step_sizes, start, stop)
    device = next(iter(theta.values())).device
    replay = _Replay(problem, spec, buffers, list(base), len(z), start, stop, device)
    replay.remember(theta)
    flat = _ReplayFunction.apply(replay, *inputs)
    theta_T, state_T = pytree.tree_unflatten(flat, replay.final_spec)
    return theta_T, state_T, replay.final_buffers


@dataclass
class _Replay:
    """The state that one run of StepReplay keeps between its forward and its backward pass."""

    problem: InnerProblem
    spec: Any
    buffers: Theta
    names: list[str]
    n_z: int
    start: int
    stop: int
    device: torch.device
    final_spec: Any = None
    losses: list[Tensor] = field(default_factory=list)
    final_buffers: Theta = field(default_factory=dict)
    trajectory: list[tuple[list[Any], Theta]] = field(default_factory=list)  # z_t (flat), buffers_t
    # what a replay reads again
    versions: list[tuple[str, Tensor, int]] = field(default_factory=list)
    autocast: Any = None

    def remember(self, theta: Theta) -> None:
        """Note the state of what lies outside and is read again on the way back."""
        outside = {
            "theta_0": theta,
            "the frozen parameters": self.problem.frozen,
            "the buffers": self.buffers,
        }
        self.versions = [
            (f"{k!r} of {what}", x, x._version) for what, d in outside.items() for k, x in d.items()
        ]
        kind = self.device.type
        self.autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))

    def refuse_changes(self) -> None:
        for name, x, version in self.versions:
            if x._version != version:
                raise UsageError(
                    f"{name} was changed in place between unroll and the backward pass, so the "
                    "steps cannot be replayed; change it after the backward pass, or "
                    "pass unroll a copy"
                )

    def random_state(self) -> tuple[list[Tensor], Any]:
        cuda = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        return [torch.get_rng_state(), *cuda], get_other_generators()

    def refuse_other_losses(self, replayed: list[Tensor]) -> None:
        """Compare the losses of the steps built again, last step first, with those of the way
        there."""
        if not replayed:
            return
        again, wanted = torch.stack(replayed[::-1]), torch.stack(self.losses)
        eps = torch.finfo(wanted.dtype).eps
        # rounding moves a loss by some units in the last place, noise by a part of itself
        if not torch.allclose(again, wanted, rtol=eps**0.5, atol=1000 * eps, equal_nan=True):
            raise UsageError(
                "the steps came out otherwise when they were replayed for the gradient: the net or "
                "Steps.fn draws from a generator of its own, or counts its calls; draw from "
                "torch's global generator, make Steps.fn pure, or use FullUnroll()"
            )

    def step(self, t: int, z: list[Any], base: list[Tensor], eta: Tensor, buffers: Theta) -> Result:
        theta, state = pytree.tree_unflatten(z, self.spec)
        pair = self.problem.steps.fn(dict(zip(self.names, base, strict=True)), t)
        return self.problem.step(t, theta, state, buffers, pair, eta)


class _ReplayFunction(torch.autograd.Function):
    """Arguments: the replay, then flat z_0, the steps' base tensors, the step sizes. Returns flat
    z_T."""

    @staticmethod
    def forward(ctx: Any, replay: _Replay, *inputs: Any) -> tuple[Any, ...]:
        z, base, step_sizes = list(inputs[: replay.n_z]), list(inputs[replay.n_z : -1]), inputs[-1]
        z = [x.detach() if isinstance(x, Tensor) else x for x in z]
        buffers = replay.buffers
        rng = replay.random_state()
        for t in range(replay.start, replay.stop):
            replay.trajectory.append((z, buffers))
            theta, state, buffers = replay.step(t, z, base, step_sizes[t], buffers)
            replay.losses.append(replay.problem.loss_of_step)
            z, spec = pytree.tree_flatten((theta, state))
            if spec != replay.spec:
                raise UsageError(
                    "the update rule's state changes its structure between steps; keep it fixed"
                )
        (of_torch, others), (of_torch_now, others_now) = rng, replay.random_state()
        # those of a stream are put back
        # else unroll minds it
        same = replay.problem.stream is not None or is_same_state(others, others_now)
        if not (all(map(torch.equal, of_torch, of_torch_now)) and same):
            who = "the net or Steps.fn" if replay.problem.stream is None else "Steps.fn"
            raise UsageError(
                f"{who} drew random numbers, which a replay cannot repeat; pass stream=SEED to "
                "unroll for those of the net, make Steps.fn pure, or use FullUnroll()"
            )
        replay.final_spec, replay.final_buffers = replay.spec, buffers
        ctx.replay = replay
        ctx.save_for_backward(*base, step_sizes)
        # a state entry may be the same tensor as before: outputs must be new ones
        return tuple(x.view_as(x) if isinstance(x, Tensor) else x for x in z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        replay: _Replay = ctx.replay
        replay.refuse_changes()
        kind, dtype, enabled = replay.autocast
        with (
            torch.autocast(kind, dtype=dtype, enabled=enabled),
            keep_attributes(replay.problem.net),
        ):
            return _ReplayFunction._backward(ctx, replay, grads)

    @staticmethod
    def _backward(ctx: Any, replay: _Replay, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        *base, step_sizes = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:]
        needs_z0 = any(needs[: replay.n_z])
        base_needs, eta_needs = needs[replay.n_z : -1], needs[-1]
        base_grads: list[Tensor | None] = [None] * len(base)
        eta_grad = torch.zeros_like(step_sizes) if eta_needs else None
        lam = list(grads)
        replayed: list[Tensor] = []
        for t in range(replay.stop - 1, replay.start - 1, -1):
            z, buffers = replay.trajectory[t - replay.start]
            with torch.enable_grad():
                z = [_leaf(x, x.is_floating_point()) if isinstance(x, Tensor) else x for x in z]
                u = [_leaf(b, need) for b, need in zip(base, base_needs, strict=True)]
                eta = _leaf(step_sizes[t], eta_needs)
                theta, state, _ = replay.step(t, z, u, eta, buffers)
            replayed.append(replay.problem.loss_of_step)
            z_next = pytree.tree_leaves((theta, state))
            out = [(x, g) for x, g in zip(z_next, lam, strict=True) if _is_differentiable(x)]
            want_z = t > replay.start or needs_z0
            wanted = [x for x in [*(z if want_z else []), *u, eta] if _is_differentiable(x)]
            found = iter(
                torch.autograd.grad(
                    [x for x, _ in out], wanted, [g for _, g in out], allow_unused=True
                )
            )
            if want_z:  # (3)
                lam = [_or_zeros(next(found), x) if _is_differentiable(x) else None for x in z]
            for i, need in enumerate(base_needs):  # (4)
                if need and (g := next(found)) is not None:
                    base_grads[i] = g if (sum_ := base_grads[i]) is None else sum_ + g
            if eta_grad is not None and (g := next(found)) is not None:
                eta_grad[t] = g
        replay.refuse_other_losses(replayed)
        z_grads = [g if need else None for g, need in zip(lam, needs[: replay.n_z], strict=True)]
        full = [
            _or_zeros(g, b) if need else None
            for g, b, need in zip(base_grads, base, base_needs, strict=True)
        ]
        return (None, *z_grads, *full, eta_grad)


def _leaf(x: Tensor, needs_grad: bool) -> Tensor:
    return x.detach().requires_grad_(needs_grad)


def _or_zeros(g: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if g is None else g
