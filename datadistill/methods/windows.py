"""Windows: the steps of a training that the gradient of an outer iteration goes through.

Notation: T inner steps, W steps of the window, N steps before it, i the outer iteration.

    L = loss(theta_{N+W}),  theta_{N+W} after steps 0 .. N - 1 without a graph and N .. N + W - 1
                            with one; the rule's state (momentum, Adam's moments) is carried over

    whole      N + W = T      all of the training, or with a truncated adjoint its last W steps
    random     N + W = E,     E uniform in W .. T (RaT-BPTT)
    growing    N + W = E,     E uniform in W .. H_i, where H_i rises linearly from W to T over a
                              share of the iterations

The horizon of all N + W steps is the beginning of the whole training: minibatches, augmentation and
dropout of step t are those of the whole.

Reference: Feng, Vedantam and Kempe, Embarrassingly Simple Dataset Distillation, 2024,
https://arxiv.org/abs/2311.07025
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from datadistill.errors import UsageError, suggest
from datadistill.innerloop import Adjoint, Truncated
from datadistill.streams import generator

__all__ = ["HORIZONS", "Windows"]

HORIZONS = ("whole", "random", "growing")
GROWTH = 0.5


@dataclass(frozen=True)
class Windows:
    """The place of the window in each outer iteration.

    Args:
        size: W, the steps of the window; None for all of the training.
        horizon: whole, random or growing.
        every: iterations that a drawn place is kept.
        earliest: the smallest N that is drawn.
        growth: share of the iterations over which a growing horizon rises, above 0.
        iterations: outer iterations in all.
        seed: of the stream "window".

    Example:
        >>> windows = Windows(5, "growing", growth=0.5, iterations=100)
        >>> [windows.longest(20, i) for i in (0, 25, 50, 99)]
        [5, 12, 20, 20]
        >>> 5 <= windows.end(20, 25) <= 12
        True
    """

    size: int | None = None
    horizon: str = "whole"
    every: int = 1
    earliest: int = 0
    growth: float = GROWTH
    iterations: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.horizon not in HORIZONS:
            raise UsageError(f"horizon is {self.horizon!r}; {suggest(self.horizon, HORIZONS)}")
        if self.horizon != "whole" and self.size is None:
            raise UsageError(
                f"horizon is {self.horizon}, which places a window; give it a size (--window)"
            )
        if self.every < 1 or self.earliest < 0 or not 0 < self.growth <= 1:
            raise UsageError(
                f"window_every is {self.every}, window_from {self.earliest} and growth "
                f"{self.growth}; wanted 1 or more, 0 or more, and above 0 up to 1"
            )
        drawn = {"window_every": (self.every, 1), "window_from": (self.earliest, 0)}
        for name, (value, default) in drawn.items():
            if value != default and not self.is_drawn:
                raise UsageError(
                    f"{name} is {value}, which goes with a drawn window; choose --horizon random "
                    f"or growing, or leave {name} out"
                )
        if self.growth != GROWTH and self.horizon != "growing":
            raise UsageError(
                f"growth is {self.growth} and horizon is {self.horizon}; choose --horizon growing, "
                "or leave growth out"
            )

    @property
    def is_drawn(self) -> bool:
        """Whether the window lies elsewhere in other iterations."""
        return self.horizon != "whole"

    def truncate(self, adjoint: Adjoint) -> Adjoint:
        """The adjoint of a horizon, of which `adjoint` differentiates the window."""
        return Truncated(self.size, adjoint) if self.is_drawn and self.size else adjoint

    def check_steps(self, T: int) -> None:
        """UsageError where the window does not fit into T steps."""
        if self.earliest + (self.size or 0) > T:
            after = f" from step {self.earliest} on" if self.earliest else ""
            raise UsageError(
                f"the window of {self.size} steps{after} is longer than the training, which has "
                f"{T}; choose a smaller --window, or more epochs"
            )

    def longest(self, T: int, iteration: int) -> int:
        """H_i, the last step at which the window of an iteration may end."""
        least = self.earliest + (self.size or 0)
        if self.horizon != "growing":
            return T
        risen = min(1.0, iteration / (self.growth * self.iterations))
        return least + int(risen * (T - least))

    def end(self, T: int, iteration: int) -> int:
        """N + W, the steps of the horizon of an iteration."""
        if not self.is_drawn:
            return T
        draw, least = iteration // self.every, self.earliest + (self.size or 0)
        longest = self.longest(T, draw * self.every)
        drawn = torch.randint(
            least, longest + 1, (), generator=generator(self.seed, "window", draw)
        )
        return int(drawn)
