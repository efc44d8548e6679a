"""Learning through unrolled training.

Iteration i (Wang et al. 2018, Algorithm 1):

    theta_0^(n) ~ p(theta_0), n = 1 .. nets                       starts.py
    theta_T^(n) = unroll(theta_0^(n), steps, step sizes)          innerloop/
    L           = mean_n loss(real batch_i; theta_T^(n))          objectives.py

or the same at theta_{N+W}, through a window of W steps at a place that is drawn (windows.py).

Reference: Wang et al., Dataset Distillation, 2018, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.data import Split, augment
from datadistill.innerloop import Adjoint, FullUnroll, unroll, unroll_with_buffers
from datadistill.innerloop.problem import Loss
from datadistill.innerloop.steps import Steps
from datadistill.innerloop.update_rules import UpdateRule, sgd
from datadistill.methods.base import OuterMethod
from datadistill.methods.windows import GROWTH, Windows
from datadistill.nets.logits import cross_entropy
from datadistill.objectives import Classification, Objective
from datadistill.starts import InitialDistribution, nets_at_once
from datadistill.streams import derive, generator, global_stream
from datadistill.synthetic import Synthetic
from datadistill.theta import Theta

__all__ = ["Unrolled"]


@dataclass(eq=False)
class Unrolled(OuterMethod):
    """The gradient of the loss after training, through all of the training.

    Args:
        net: the architecture, with its buffers and frozen parameters; its other values are not
            used.
        start: where theta_0 comes from.
        split: real images to learn from, on the net's device.
        batch: of these, an iteration.
        augment: of these; see `data.augment`.
        nets: drawn an iteration.
        own: numbers of the nets that this process takes; None: all.
        update: the update rule of the inner loop.
        adjoint: how the gradient comes back, from the whole training or through the window.
        window: steps of the window; with horizon "whole" that of a truncated adjoint.
        horizon: where the window lies: "whole", "random" or "growing".
        iterations: outer iterations in all, for a growing horizon.
        norm: what BatchNorm layers use in the inner loop.
        inner_loss: of a step of the inner loop.
        objective: what theta_T is asked for.
        seed: of real batches, augmentation, windows and the net's own noise.
        window_every: iterations that a drawn window is kept.
        window_from: the first step at which a window may begin.
        growth: share of the iterations over which a growing horizon rises.

    Raises:
        UsageError: windows that cannot be.
    """

    net: nn.Module
    start: InitialDistribution
    split: Split
    batch: int = 256
    augment: Sequence[str] = ()
    nets: int = 1
    own: range | None = None
    update: UpdateRule = sgd()  # noqa: RUF009  (frozen)
    adjoint: Adjoint = FullUnroll()  # noqa: RUF009  (frozen)
    window: int | None = None
    horizon: str = "whole"
    iterations: int = 1
    norm: str = "batch"
    inner_loss: Loss = cross_entropy
    objective: Objective = Classification()  # noqa: RUF009  (frozen)
    seed: int = 0
    window_every: int = 1
    window_from: int = 0
    growth: float = GROWTH

    def __post_init__(self) -> None:
        self.windows = Windows(
            self.window,
            self.horizon,
            self.window_every,
            self.window_from,
            self.growth,
            self.iterations,
            self.seed,
        )

    takes_second_derivatives = True

    def differentiated_steps(self, synthetic: Synthetic) -> int:
        return self.window or synthetic.schedule.steps

    def check(self, synthetic: Synthetic) -> None:
        self.windows.check_steps(synthetic.schedule.steps)

    def loss(self, synthetic: Synthetic, iteration: int) -> Float[Tensor, ""]:
        seed, i = self.seed, iteration
        images, labels = self.split.batch(generator(seed, "real_batch", i), self.batch)
        images = augment(images, generator(seed, "augment", i), self.augment)
        losses = []
        steps, step_sizes = self._steps(synthetic, i)
        for net, theta_0, _ in self._nets(i):
            theta_T = unroll_with_buffers(
                net,
                theta_0,
                steps,
                step_sizes,
                self.update,
                self.windows.truncate(self.adjoint),
                loss=self.inner_loss,
                norm=self.norm,
                stream=derive(seed, "dropout", i),
            )
            # a net may be noisy here too
            with global_stream(seed, "outer_noise", i, everything=True):
                losses.append(self.objective(net, theta_T, images, labels, self.norm))
        # each is of one net, or all
        mean = losses[0] if len(losses) == 1 else torch.stack(losses).mean()
        return mean if self.own is None else mean * (len(self.own) / self.nets)

    def _steps(self, synthetic: Synthetic, i: int) -> tuple[Steps, Float[Tensor, " T *P"]]:
        """The steps of an iteration, and their sizes: all, or those up to the end of its window."""
        steps = synthetic.steps(stream=derive(self.seed, "schedule", i))
        end = self.windows.end(steps.T, i)
        return steps.part(0, end), synthetic.step_sizes()[:end]

    def _nets(self, i: int) -> list[tuple[nn.Module, Theta, int]]:
        own = range(self.nets) if self.own is None else self.own
        return nets_at_once(self.start, self.net, i, len(own), own.start)

    def diagnose(self, synthetic: Synthetic, iteration: int) -> str:
        t, eta, largest = self._first_bad_step(synthetic, iteration)
        how = f"reach {largest:.1e}" if math.isfinite(largest) else "stop being finite"
        return f"the parameters {how} at inner step {t}, step size {eta:.4g}"

    @torch.no_grad()
    def _first_bad_step(self, synthetic: Synthetic, i: int) -> tuple[int, float, float]:
        """The first inner step after which theta is not finite, else the one after which it is
        largest; the largest step size there; the largest |theta|."""
        nets, (steps, sizes) = self._nets(i), self._steps(synthetic, i)
        found: list[tuple[float, int]] = []
        # from the start each time: the same masks as in the iteration that failed
        for t in range(steps.T):
            for net, theta_0, _ in nets:
                theta = unroll(
                    net,
                    theta_0,
                    steps.part(0, t + 1),
                    sizes[: t + 1],
                    self.update,
                    loss=self.inner_loss,
                    norm=self.norm,
                    stream=derive(self.seed, "dropout", i),
                )
                if not all(bool(torch.isfinite(p).all()) for p in theta.values()):
                    return t, float(sizes[t].max()), math.inf
                found.append((max(float(p.abs().max()) for p in theta.values()), t))
        largest, t = max(found)
        return t, float(sizes[t].max()), largest
