"""The step size to begin with, tried before learning.

A pretrained net wants another step size than a fresh one, a net whose features are large another
than one whose features are small, Adam another than gradient descent. Learned step sizes move by
factors an iteration, so a run that begins far off spends its iterations on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from datadistill.errors import NumericalError
from datadistill.methods import OuterMethod
from datadistill.synthetic import Synthetic

TRIED = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
"""Step sizes that are tried."""
BATCHES = 2
"""Real batches of the training split that each is tried on."""


@torch.no_grad()
def find_first_step_size(make: Callable[[float], Synthetic], method: OuterMethod) -> float:
    """The step size of `TRIED` with the smallest outer loss of the set at its start, which `make`
    makes; NumericalError where none gives a finite loss.

    Losses are those of the first iterations, with the same real images and the same nets for every
    step size.
    """
    losses: dict[float, float] = {}
    for eta in TRIED:
        synthetic = make(eta)
        found = [float(method.loss(synthetic, i)) for i in range(BATCHES)]
        if all(math.isfinite(loss) for loss in found):
            losses[eta] = sum(found)
    if not losses:
        raise NumericalError(
            f"no step size from {TRIED[0]:g} to {TRIED[-1]:g} gives a finite loss; pass a smaller "
            "one (--step-size), or fewer steps"
        )
    return min(losses, key=lambda eta: losses[eta])
