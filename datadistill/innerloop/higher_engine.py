"""The `higher` library behind the same call.

`higher` (Grefenstette et al. 2019, https://arxiv.org/abs/1910.01727) patches a module so that its
parameters are passed in, and has differentiable copies of torch's optimizers. As an adjoint it is
exact and keeps the graph of all steps, like FullUnroll; it is here for people who trust or compare
with it, and is a witness in the tests. It serves SGD and momentum on one net; what it cannot do it
says in one sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datadistill.errors import UsageError
from datadistill.innerloop.net_mode import disable_checkpointing
from datadistill.innerloop.problem import InnerProblem
from datadistill.innerloop.update_rules import Momentum, Sgd, State, Theta


def _refuse_what_higher_cannot(problem: InnerProblem, theta: Theta, state: State) -> None:
    reason = None
    if type(problem.update) not in (Sgd, Momentum):
        reason = f"runs sgd and momentum only, not {type(problem.update).__name__}"
    elif problem.nets is not None:
        reason = "runs one net at a time, not stacked nets"
    elif problem.norm == "track":
        reason = "does not carry BatchNorm buffers (norm='track')"
    elif problem.given_buffers:
        reason = "does not take buffers="
    elif any(m._forward_hooks or m._forward_pre_hooks for m in problem.net.modules()):
        reason = "does not run forward hooks"
    elif any(
        float(v.detach().abs().max()) for v in (state or {}).get("v", {}).values() if v.numel()
    ):
        reason = "does not start from a given momentum"
    elif problem.steps.T and problem.writes_buffers(theta):
        reason = "does not carry the buffers that the net writes"
    if reason:
        raise UsageError(f"the higher engine {reason}; use FullUnroll() or StepReplay()")


@dataclass(frozen=True)
class Higher:
    """Differentiate with the `higher` library's engine; same gradients as FullUnroll, sgd and
    momentum only."""

    def run(self, problem: InnerProblem, theta: Theta, state: State, step_sizes: Tensor) -> Any:
        _refuse_what_higher_cannot(problem, theta, state)
        if problem.steps.T == 0:
            return theta, state, problem.buffers_0
        import higher

        net, rule, keep = problem.net, problem.update, torch.is_grad_enabled()
        names = [name for name, _ in net.named_parameters()]
        beta = rule.beta if isinstance(rule, Momentum) else 0.0
        # one group a tensor, so that each can have its own step size
        own = dict(net.named_parameters())
        placeholder = torch.optim.SGD(
            [{"params": [own[k]]} for k in theta],
            lr=1.0,
            momentum=beta,
            nesterov=isinstance(rule, Momentum) and rule.nesterov,
            weight_decay=rule.weight_decay,  # type: ignore[attr-defined]
        )
        with torch.enable_grad():
            leaves = {
                k: p if p.requires_grad else p.detach().requires_grad_() for k, p in theta.items()
            }
            with problem.mode:  # the patched copy keeps the modes it is made in
                fnet = higher.monkeypatch(net, copy_initial_weights=False, track_higher_grads=keep)
            fnet.update_params([leaves.get(k, problem.frozen.get(k)) for k in names])
            optimizer = higher.get_diff_optim(
                placeholder, list(own.values()), fmodel=fnet, track_higher_grads=keep
            )

            def with_zeros(grads: list[Tensor | None]) -> list[Tensor]:
                """A parameter that the loss does not use has gradient zero, and so still decays."""
                return [
                    torch.zeros_like(p) if g is None else g
                    for g, p in zip(grads, fnet.fast_params, strict=True)
                ]

            for t in range(problem.steps.T):
                images, labels = problem.steps(t)
                eta = step_sizes[t]
                rates = list(eta.unbind()) if eta.dim() else [eta] * len(theta)

                def forward(x: Tensor = images, y: Tensor = labels) -> Tensor:
                    with problem.twice, disable_checkpointing():
                        return problem.loss(fnet(x), y)

                loss = problem.run_seeded(t, forward)
                optimizer.step(loss, override={"lr": rates}, grad_callback=with_zeros)
            final = dict(zip(names, fnet.parameters(), strict=True))
        theta_T = {k: final[k] if keep else final[k].detach() for k in theta}
        return theta_T, _momentum_of(optimizer, theta) if beta else state, problem.buffers_0


def _momentum_of(optimizer: Any, theta: Theta) -> State:
    """The velocity `higher` keeps, in the form of our momentum rule (one group a tensor, one entry
    a group)."""
    return {
        "v": {
            k: group[0]["momentum_buffer"] for k, group in zip(theta, optimizer.state, strict=True)
        }
    }
