"""Numbers of parameters and of multiplications, as papers print them.

    convolution    pieces * H * W * k^2 * C_in * C_out      H, W of its output, before any pool
    linear layer   pieces * inputs * outputs

Biases, norms, activations, maxima and pools are not counted as multiplications.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from datadistill.errors import UsageError

__all__ = ["multiplications", "parameters"]


def parameters(net: nn.Module, biases: bool = True) -> int:
    """The number of a net's parameters; one that is shared counts once. Without `biases` only
    tensors of two dimensions or more count: no biases, no scales of norms.

    >>> parameters(nn.Linear(3, 2)), parameters(nn.Linear(3, 2), biases=False)
    (8, 6)
    """
    return sum(p.numel() for p in net.parameters() if biases or p.ndim >= 2)


def multiplications(net: nn.Module, shape: Sequence[int], linear: bool = True) -> int:
    """The number of multiplications that one image (C,H,W) takes in the convolutions and, with
    `linear`, in the matrix products. The pass is traced on a copy, on tensors without values, in
    evaluation mode.

    Example:
        >>> net = nn.Sequential(
        ...     nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 4 * 4, 10)
        ... )
        >>> multiplications(net, (3, 4, 4)), multiplications(net, (3, 4, 4), linear=False)
        (4736, 3456)
    """
    trial = copy.deepcopy(net).to("meta").eval()
    dtype = next((p.dtype for p in trial.parameters() if p.is_floating_point()), torch.float32)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            trial(torch.zeros(1, *shape, dtype=dtype, device="meta"))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise UsageError(
            f"the net does not take images {'x'.join(map(str, shape))} ({str(error)[:200]}); pass "
            "the shape (C, H, W) of one image that it takes"
        ) from error
    counts = counter.get_flop_counts()["Global"]
    convolutions = sum(n for op, n in counts.items() if "convolution" in str(op))
    # the counter has two operations, a product and a sum, for each multiplication
    return (sum(counts.values()) if linear else convolutions) // 2
