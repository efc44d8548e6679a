"""Schedules of the outer learning rates, as a factor of the iteration."""

from __future__ import annotations

import math
from collections.abc import Callable

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda x: 1.0,
    "linear": lambda x: 1.0 - x,
    "cosine": lambda x: 0.5 * (1 + math.cos(math.pi * x)),
}


def learning_rate_factor(schedule: str, iteration: int, iterations: int, warmup: int = 0) -> float:
    """Factor of iteration 0 .. iterations - 1: a linear rise over `warmup`, then `schedule`,
    which falls to 0 or stays.

    Example:
        >>> [learning_rate_factor("linear", i, 4) for i in range(4)]
        [1.0, 0.75, 0.5, 0.25]
    """
    rise = min(1.0, (iteration + 1) / warmup) if warmup else 1.0
    return rise * SCHEDULES[schedule](iteration / iterations)
