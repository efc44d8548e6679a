"""Learning through unrolled training.

Iteration i (Wang et al. 2018, Algorithm 1):

    theta_0^(n) ~ p(theta_0), n = 1 .. nets                       starts.py
    theta_T^(n) = unroll(theta_0^(n), steps, step sizes)          innerloop/
    L           = mean_n loss(real batch_i; theta_T^(n))          objectives.py

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
from datadistill.innerloop.update_rules import UpdateRule, sgd
from datadistill.methods.base import OuterMethod
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
        update: the update rule of the inner loop.
        adjoint: how the gradient comes back.
        norm: what BatchNorm layers use in the inner loop.
        inner_loss: of a step of the inner loop.
        objective: what theta_T is asked for.
        seed: of real batches, augmentation and the net's own noise.
    """

    net: nn.Module
    start: InitialDistribution
    split: Split
    batch: int = 256
    augment: Sequence[str] = ()
    nets: int = 1
    update: UpdateRule = sgd()  # noqa: RUF009  (frozen)
    adjoint: Adjoint = FullUnroll()  # noqa: RUF009  (frozen)
    norm: str = "batch"
    inner_loss: Loss = cross_entropy
    objective: Objective = Classification()  # noqa: RUF009  (frozen)
    seed: int = 0

    def loss(self, synthetic: Synthetic, iteration: int) -> Float[Tensor, ""]:
        seed, i = self.seed, iteration
        images, labels = self.split.batch(generator(seed, "real_batch", i), self.batch)
        images = augment(images, generator(seed, "augment", i), self.augment)
        losses = []
        steps = synthetic.steps(stream=derive(seed, "schedule", i))
        for net, theta_0, _ in self._nets(i):
            theta_T = unroll_with_buffers(
                net,
                theta_0,
                steps,
                synthetic.step_sizes(),
                self.update,
                self.adjoint,
                loss=self.inner_loss,
                norm=self.norm,
                stream=derive(seed, "dropout", i),
            )
            # a net may be noisy here too
            with global_stream(seed, "outer_noise", i, everything=True):
                losses.append(self.objective(net, theta_T, images, labels, self.norm))
        # each is of one net, or all
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def _nets(self, i: int) -> list[tuple[nn.Module, Theta, int]]:
        return nets_at_once(self.start, self.net, i, self.nets)

    def diagnose(self, synthetic: Synthetic, iteration: int) -> str:
        t, eta, largest = self._first_bad_step(synthetic, iteration)
        how = f"reach {largest:.1e}" if math.isfinite(largest) else "stop being finite"
        return f"the parameters {how} at inner step {t}, step size {eta:.4g}"

    @torch.no_grad()
    def _first_bad_step(self, synthetic: Synthetic, i: int) -> tuple[int, float, float]:
        """The first inner step after which theta is not finite, else the one after which it is
        largest; the largest step size there; the largest |theta|."""
        nets, sizes = self._nets(i), synthetic.step_sizes()
        steps = synthetic.steps(stream=derive(self.seed, "schedule", i))
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
