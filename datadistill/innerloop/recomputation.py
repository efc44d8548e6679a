"""A net that runs modules of its own in the backward pass is refused in its first step.

theta_t stands in the module's place for the forward pass alone. What a function of the user's own
computes again on the way back would read the module's own values: the gradient would be that of
another net, without a word. torch's own checkpointing does not do so here
(`net_mode.disable_checkpointing`).
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from contextvars import ContextVar

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from datadistill.errors import UsageError

__all__ = ["allow_recomputation", "refuse_recomputation"]

_ALLOWED: ContextVar[bool] = ContextVar("allow_recomputation", default=False)
_RECOMPUTE_NOTHING: weakref.WeakSet[nn.Module] = weakref.WeakSet()


@contextlib.contextmanager
def refuse_recomputation(net: nn.Module) -> Iterator[None]:
    """Around a net's first backward pass: UsageError where a module of the net ran in it."""
    if net in _RECOMPUTE_NOTHING or _ALLOWED.get():
        yield
        return
    names = {module: name for name, module in net.named_modules()}
    ran: list[str] = []

    def remember(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if module in names:
            ran.append(names[module] or type(net).__name__)

    hook = register_module_forward_pre_hook(remember)
    try:
        yield
    finally:
        hook.remove()
    if ran:
        raise UsageError(
            f"the net runs {ran[0]} again in its backward pass, where a step's parameters are no "
            "longer in their place: its gradient would be that of the module's own values; use "
            "torch.utils.checkpoint, which is run plainly here, or leave the recomputation out"
        )
    _RECOMPUTE_NOTHING.add(net)


@contextlib.contextmanager
def allow_recomputation() -> Iterator[None]:
    """Allow it inside the block, for diagnoses of a net's gradients."""
    token = _ALLOWED.set(True)
    try:
        yield
    finally:
        _ALLOWED.reset(token)
