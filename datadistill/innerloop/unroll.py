"""The differentiable training loop.

    theta_{t+1}, s_{t+1} = update.step(theta_t, grad_theta loss(net(theta_t, x_t), y_t), s_t, eta_t)
    t = 0 .. T-1;  s_0 = update.init(theta_0)

theta_T is a differentiable function of theta_0, the images x_t, soft labels y_t and step sizes
eta_t. Distillation, adaptation, attack, evaluation and fine-tuning all call this one loop; they
differ in where theta_0 comes from and in what is asked of theta_T. How the gradient comes back is
an object passed in, the adjoint (adjoints.py).

Reference: Wang et al., Dataset Distillation, 2018, Algorithm 1 and section 3.4,
https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.innerloop.adjoints import Adjoint, FullUnroll, Result
from datadistill.innerloop.attributes import keep_attributes
from datadistill.innerloop.problem import InnerProblem, Loss, mark_foreign_draws, to_ordinary
from datadistill.innerloop.steps import Pair, Steps, as_steps
from datadistill.innerloop.update_rules import Sgd, State, Theta, UpdateRule
from datadistill.nets.logits import cross_entropy
from datadistill.streams import get_other_generators, is_same_state, set_other_generators


def unroll(
    net: nn.Module,
    theta_0: Theta,
    steps: Steps | Sequence[Pair],
    step_sizes: Float[Tensor, " T *P"],
    update: UpdateRule = Sgd(),  # noqa: B008  (frozen, so one instance is safe)
    adjoint: Adjoint = FullUnroll(),  # noqa: B008
    loss: Loss = cross_entropy,
    *,
    buffers: Mapping[str, Tensor] | None = None,
    norm: str = "batch",
    stream: int | None = None,
    state: State = None,
    return_state: bool = False,
) -> Any:
    """Train `net` for T steps from `theta_0`, differentiably.

    The net is never changed; buffers that its forward pass writes are carried from step to step.
    Under `torch.no_grad()` no graph is kept and theta_T has none.

    Args:
        net: any module, one input to logits (B, K). Its dropout is on while `net.training`.
        theta_0: name -> tensor for the parameters that train, names as in `net.named_parameters()`;
            the net's other parameters are frozen. Several nets at once: give every tensor a leading
            axis of nets.
        steps: T pairs `(images (B, C, H, W), labels (B,) int or (B, K) probabilities)`, or `Steps`.
        step_sizes: (T,), or (T, P) with one column for each entry of `theta_0`, in its order. Any
            sign: a distilled set's are positive, the loop itself does not ask.
        update: the rule of one step: `sgd()`, `momentum(beta)`, `adam()`, or any object of that
            shape.
        adjoint: how the gradient comes back; theta_T is the same for each.
        loss: `loss(logits, labels)`, a mean over the batch.
        buffers: name -> tensor to use instead of the net's own buffers.
        norm: what BatchNorm uses: "batch" statistics, "frozen" buffers, or "track": batch
            statistics, with the buffers carried through the steps on copies.
        stream: seed of the dropout masks of step t, so that a replay draws the same (and of what
            the net draws from numpy's or Python's global generator). Without one, a net with active
            `nn.Dropout` layers takes a seed from torch's global generator; a net that draws random
            numbers in any other way needs one. Stacked nets share masks. A call that goes on from
            `state` counts its steps from 0 again: give it a stream of its own.
        state: what `update` remembers, to go on from an earlier call; default
            `update.init(theta_0)`.
        return_state: also return the rule's state, and with norm="track" the buffers.

    Returns:
        theta_T, name -> tensor; or `(theta_T, state)`; or `(theta_T, state, buffers)` with
        norm="track".

    Raises:
        UsageError: names, shapes or numbers of steps that do not fit, a request the adjoint cannot
            serve, or a layer without second derivatives (`second_derivatives.py` has what is
            computed otherwise).

    Example:
        >>> import torch
        >>> net = torch.nn.Linear(4, 3)
        >>> theta_0 = {name: p.detach() for name, p in net.named_parameters()}
        >>> images = torch.ones(3, 4, requires_grad=True)
        >>> theta_T = unroll(
        ...     net, theta_0, [(images, torch.arange(3))] * 2, torch.tensor([0.1, 0.2])
        ... )
        >>> theta_T["weight"].sum().backward()
        >>> images.grad.shape
        torch.Size([3, 4])
    """
    theta_T, state_T, buffers_T = _run(
        net, theta_0, steps, step_sizes, update, adjoint, loss, buffers, norm, stream, state
    )
    if not return_state:
        return theta_T
    return (theta_T, state_T, buffers_T) if norm == "track" else (theta_T, state_T)


def unroll_with_buffers(
    net: nn.Module,
    theta_0: Theta,
    steps: Steps | Sequence[Pair],
    step_sizes: Float[Tensor, " T *P"],
    update: UpdateRule = Sgd(),  # noqa: B008
    adjoint: Adjoint = FullUnroll(),  # noqa: B008
    *,
    loss: Loss = cross_entropy,
    norm: str = "batch",
    stream: int | None = None,
) -> Theta:
    """theta_T of `unroll`, and the buffers that the net has after the T steps: all that it takes to
    use it.

    Returns:
        name -> tensor; several nets have a leading axis in every entry. With norm="batch" the
        statistics of BatchNorm are not among them.

    Example:
        >>> import torch
        >>> net = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(4, 3))
        >>> theta_0 = {name: p.detach() for name, p in net.named_parameters()}
        >>> pair = (torch.ones(3, 4), torch.arange(3))
        >>> sorted(
        ...     set(unroll_with_buffers(net, theta_0, [pair], torch.tensor([0.1]))) - set(theta_0)
        ... )
        ['parametrizations.weight.0._u', 'parametrizations.weight.0._v']
    """
    theta_T, _, buffers_T = _run(
        net, theta_0, steps, step_sizes, update, adjoint, loss, None, norm, stream, None
    )
    return {**theta_T, **buffers_T}


def _run(
    net: nn.Module,
    theta_0: Theta,
    steps: Steps | Sequence[Pair],
    step_sizes: Tensor,
    update: UpdateRule,
    adjoint: Adjoint,
    loss: Loss,
    buffers: Mapping[str, Tensor] | None,
    norm: str,
    stream: int | None,
    state: State,
) -> Result:
    # as under no_grad, with tensors that a step can be taken from
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False), torch.no_grad():
            return _run(
                net, theta_0, steps, step_sizes, update, adjoint, loss, buffers, norm, stream, state
            )
    program = as_steps(steps)
    if not isinstance(step_sizes, Tensor):
        raise UsageError(
            f"step_sizes is {step_sizes!r}, wanted a tensor ({program.T},), such as torch.full(...)"
        )
    if step_sizes.dim() not in (1, 2) or len(step_sizes) != program.T:
        raise UsageError(
            f"step_sizes has shape {tuple(step_sizes.shape)} for {program.T} steps; "
            f"wanted ({program.T},) or ({program.T}, {len(theta_0)})"
        )
    if step_sizes.dim() == 2 and step_sizes.shape[1] != len(theta_0):
        raise UsageError(
            f"step_sizes has {step_sizes.shape[1]} columns and theta_0 has {len(theta_0)} tensors; "
            "give one column for each, in the order of theta_0"
        )
    theta_0, program = to_ordinary(theta_0), replace(program, tensors=to_ordinary(program.tensors))
    problem = InnerProblem(net, theta_0, program, update, loss, buffers, norm, stream)
    problem.unchecked = _takes_second_derivatives(theta_0, program, step_sizes)
    state_0 = update.init(theta_0) if state is None else state
    eta, before = to_ordinary(step_sizes), get_other_generators()
    with keep_attributes(net):
        theta_T, state_T, buffers_T = adjoint.run(problem, theta_0, state_0, eta)
    if stream is not None and not is_same_state(before, get_other_generators()):
        set_other_generators(before)  # the net draws from them too: once more, from the stream
        mark_foreign_draws(net)
        return _run(
            net, theta_0, program, step_sizes, update, adjoint, loss, buffers, norm, stream, state
        )
    return theta_T, state_T, problem.repeat_for_nets(buffers_T)


def _takes_second_derivatives(theta_0: Theta, steps: Steps, step_sizes: Tensor) -> bool:
    """Whether theta_T will be differentiated through a gradient; not so for the step size of a
    single step."""
    if not torch.is_grad_enabled():
        return False
    learned = [*theta_0.values(), *steps.tensors.values()]
    return any(x.requires_grad for x in learned) or (step_sizes.requires_grad and steps.T > 1)
