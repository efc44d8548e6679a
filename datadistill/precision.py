"""Mixed precision: the passes of a net in bfloat16, its weights, losses and steps in float32.

bfloat16 has the range of float32, so that gradients need no scaling.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from datadistill.config.schedule_plan import Precision

__all__ = ["full_precision", "passes_in", "whole"]


def passes_in(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which the passes of a net are computed: `torch.autocast`, or nothing."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """The context in which losses are computed: without autocast."""
    return torch.autocast(device.type, enabled=False) if _is_on(device) else nullcontext()


def whole(output: Any) -> Any:
    """What a net returned, a tensor in float32 where autocast made it shorter; all else as it
    is."""
    if not isinstance(output, Tensor) or output.dtype not in (torch.bfloat16, torch.float16):
        return output
    return output.float() if _is_on(output.device) else output


def _is_on(device: torch.device) -> bool:
    """Whether autocast is on; the device "meta" has none."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
