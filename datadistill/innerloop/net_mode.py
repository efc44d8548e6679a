"""The modes of a net during a pass of the inner loop, and what a pass may not leave in it.

The inner loop puts theta_t in a module's place for one forward pass (`nets.functional.call_with`).
The graph of that pass is walked later, when the module holds its own values again. So during a pass
nothing may put off a computation that reads the module (activation checkpointing, compiled code).
What a pass leaves in a module: attributes.py.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
import torch.utils.checkpoint
from torch import nn

from datadistill.errors import UsageError, suggest
from datadistill.nets.batchnorm import has_running_statistics, norms_of

NORMS = ("batch", "frozen", "track")
_STATISTICS = ("track_running_stats", "running_mean", "running_var", "num_batches_tracked")


class NetMode:
    """The modes of a net's layers during a forward pass, put in place for that pass alone.

    `with mode: ...` sets every layer's training flag to what it was when the mode was made (all off
    with `training=False`) and BatchNorm as `norm` says, and puts everything back. Activation
    checkpointing is off and compiled code runs eagerly meanwhile. The module objects stay the
    caller's own, so its forward hooks run; its parameters and buffers are never written.

    Args:
        net: any module.
        norm: "batch": BatchNorm uses statistics of the batch, and has no buffers meanwhile;
            "frozen": its buffers; "track": statistics of the batch, and buffers are updated where
            they are passed in. InstanceNorm with running statistics likewise, with those of each
            image. A layer that stands in evaluation mode inside a net in training mode was frozen
            on purpose, and stays so.
        training: False puts all other layers in evaluation mode (dropout off).
    """

    def __init__(self, net: nn.Module, norm: str, training: bool = True) -> None:
        if norm not in NORMS:
            raise UsageError(f"norm is {norm!r}; {suggest(norm, NORMS)}")
        norms = norms_of(net)
        own = {id(m): norm != "frozen" or not has_running_statistics(m) for m in norms}
        self.flags = [(m, own.get(id(m), m.training and training)) for m in net.modules()]
        self.without_buffers = [m for m in norms if norm == "batch" and m.track_running_stats]
        self._back: list[tuple[nn.Module, dict[str, Any]]] = []
        self._eager = contextlib.ExitStack()

    def __enter__(self) -> None:
        self._back = [(m, {"training": m.training}) for m, flag in self.flags if m.training != flag]
        self._back += [(m, {k: getattr(m, k) for k in _STATISTICS}) for m in self.without_buffers]
        for m, flag in self.flags:
            m.training = flag
        for m in self.without_buffers:
            m.track_running_stats = False
            m.running_mean = m.running_var = m.num_batches_tracked = None
        self._eager.enter_context(disable_checkpointing())
        if "torch._dynamo" in sys.modules:  # nobody has compiled anything before it is imported
            self._eager.enter_context(torch.compiler.set_stance("force_eager"))

    def __exit__(self, *_: object) -> None:
        self._eager.close()
        for m, attributes in self._back:
            for name, value in attributes.items():
                setattr(m, name, value)


class _PlainFunction:
    """Stands for torch's `CheckpointFunction`: the function is run, and nothing is computed
    again."""

    @staticmethod
    def apply(function: Any, preserve: bool, *args: Any) -> Any:
        return function(*args)


def _plain_generator(*_: Any, **__: Any) -> Iterator[None]:
    """Stands for the contexts that torch puts around a checkpointed function: none."""
    yield


# what torch.utils.checkpoint.checkpoint looks up when it is called; the second name is that of
# newer versions
_STANDING_FOR = {
    "CheckpointFunction": _PlainFunction,
    "_checkpoint_without_reentrant_generator": _plain_generator,
    "_checkpoint_without_reentrant_generator_impl": _plain_generator,
}


@contextlib.contextmanager
def disable_checkpointing() -> Iterator[None]:
    """`torch.utils.checkpoint.checkpoint`, however it was imported, runs its function as if it were
    not there.

    Its recomputation on the way back would read the module's own values instead of theta_t. The
    values are the same, and memory is that of a net without it (`StepReplay` is this library's way
    to need less).
    """
    module = torch.utils.checkpoint
    own = {name: getattr(module, name) for name in _STANDING_FOR if hasattr(module, name)}
    try:
        for name in own:
            setattr(module, name, _STANDING_FOR[name])
        yield
    finally:
        for name, value in own.items():
            setattr(module, name, value)
