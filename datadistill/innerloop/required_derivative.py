"""The first gradient of a net that will be differentiated again is refused where it has no
derivative."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.innerloop.layer_faults import find_refusal, name_missing
from datadistill.innerloop.update_rules import Theta

if TYPE_CHECKING:
    from datadistill.innerloop.problem import InnerProblem


def has_passed(problem: InnerProblem) -> bool:
    """Whether a step of this net, loss and mode was differentiated before."""
    return _key(problem) in _PASSED.get(problem.net, ())


def require_derivative(
    problem: InnerProblem,
    grads: Sequence[Tensor],
    theta: Theta,
    buffers: Theta,
    pair: tuple[Tensor, Tensor],
    keep: bool,
) -> None:
    """UsageError, with the layer and the reason, where torch cannot differentiate a step's gradient
    `grads`. `keep`: whether their graph will be used again."""
    reason = find_refusal(grads, list(theta.values()), keep)
    if reason is None:
        _PASSED.setdefault(problem.net, set()).add(_key(problem))
        return
    own = {name: p.dim() for name, p in problem.net.named_parameters()}
    own |= {name: b.dim() for name, b in problem.net.named_buffers()}
    tensors = {**problem.frozen, **theta, **buffers}
    one = {k: x[0] if x.dim() > own.get(k, x.dim()) else x for k, x in tensors.items()}
    named = name_missing(problem.net, one, *pair, problem.loss, problem.mode, reason)
    raise UsageError(
        f"{named}; differentiating through training needs second derivatives: use another layer "
        "there, or train without gradients (torch.no_grad)"
    )


def _key(problem: InnerProblem) -> tuple[str, str, bool]:
    name = getattr(problem.loss, "__qualname__", type(problem.loss).__name__)
    return (name, problem.norm, problem.net.training)


_PASSED: weakref.WeakKeyDictionary[nn.Module, set[tuple[str, str, bool]]] = (
    weakref.WeakKeyDictionary()
)
