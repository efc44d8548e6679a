"""Trajectory matching (MTT): training on the set leads where training on real data led an expert.

Notation: phi_e the parameters of an expert after e epochs on real data; N steps on the set answer M
epochs of the expert. Iteration i:

    an expert at random, t0 ~ U{0 .. max_start - 1}
    theta_0 = phi_t0
    theta_N = unroll(theta_0, N steps on the set)
    L       = |theta_N - phi_{t0+M}|^2 / |theta_0 - phi_{t0+M}|^2

The gradient goes to the images, the labels where they are learned, and the step size, which stays
positive, through all N steps.

Reference: Cazenavette et al., Dataset Distillation by Matching Training Trajectories, 2022,
https://arxiv.org/abs/2203.11932
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.innerloop import Adjoint, FullUnroll, unroll
from datadistill.innerloop.problem import Loss
from datadistill.innerloop.update_rules import UpdateRule, sgd
from datadistill.methods.base import OuterMethod
from datadistill.nets.logits import cross_entropy
from datadistill.streams import derive, generator
from datadistill.synthetic import Synthetic
from datadistill.theta import Theta

__all__ = ["TrajectoryMatching"]


@dataclass(eq=False)
class TrajectoryMatching(OuterMethod):
    """The distance to a later epoch of an expert, after training on the set from an earlier one.

    Args:
        net: the architecture.
        experts: name -> (experts, epochs + 1, ...): the parameters of each at its start and after
            every epoch.
        steps: N, on the set.
        expert_epochs: M, of the expert.
        max_start: t0 is below this.
        nets: experts an iteration; their losses are averaged.
        own: numbers of those that this process takes; None: all.
        update: the update rule of the steps on the set.
        adjoint: how the gradient comes back.
        norm: what norm layers use in the steps on the set.
        inner_loss: of a step on the set.
        seed: of the experts, their epochs, the minibatches of the set and the net's own noise.
    """

    net: nn.Module
    experts: Theta = field(repr=False)
    steps: int = 30
    expert_epochs: int = 2
    max_start: int = 20
    nets: int = 1
    own: range | None = None
    update: UpdateRule = sgd()  # noqa: RUF009  (frozen)
    adjoint: Adjoint = FullUnroll()  # noqa: RUF009  (frozen)
    norm: str = "batch"
    inner_loss: Loss = cross_entropy
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "expert_epochs", "max_start"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, but it must be at least 1")
        last, kept = self.max_start - 1 + self.expert_epochs, self.epochs
        if last > kept:
            raise UsageError(
                f"max_start {self.max_start} and expert_epochs {self.expert_epochs} reach epoch "
                f"{last}, but the experts have {kept}; lower max_start or expert_epochs "
                "(--method-args), or train experts for more --epochs"
            )

    @property
    def epochs(self) -> int:
        """The epochs that experts were trained for."""
        return int(next(iter(self.experts.values())).shape[1]) - 1

    takes_second_derivatives = True

    def differentiated_steps(self, synthetic: Synthetic) -> int:
        return min(self.steps, getattr(self.adjoint, "window", self.steps))

    def check(self, synthetic: Synthetic) -> None:
        """Refuse step sizes of which some would never be learned."""
        scheduled, several = synthetic.schedule.steps, len(synthetic.rho) > 1
        if several and scheduled != self.steps:
            raise UsageError(
                f"{self.steps} steps are matched of the set's {scheduled}, which have step sizes "
                "of their own; choose --step-sizes shared"
            )

    def loss(self, synthetic: Synthetic, iteration: int) -> Float[Tensor, ""]:
        own = range(self.nets) if self.own is None else self.own
        losses = [self.distance(synthetic, iteration, n) for n in own]
        return torch.stack(losses).sum() / self.nets

    def distance(self, synthetic: Synthetic, i: int, n: int) -> Float[Tensor, ""]:
        """L for expert n of an iteration."""
        theta_0, target = self.draw(i, n)
        theta_N = unroll(
            self.net,
            theta_0,
            synthetic.steps(self.steps, stream=derive(self.seed, "matched_steps", i, n)),
            synthetic.step_sizes(self.steps),
            self.update,
            self.adjoint,
            self.inner_loss,
            norm=self.norm,
            stream=derive(self.seed, "dropout", i, n),
        )
        return squared_distance(theta_N, target) / squared_distance(theta_0, target)

    def draw(self, i: int, n: int) -> tuple[Theta, Theta]:
        """The parameters of expert n of an iteration at t0 and at t0 + M."""
        stream = generator(self.seed, "expert", i, n)
        experts = len(next(iter(self.experts.values())))
        expert = int(torch.randint(experts, (), generator=stream))
        t0 = int(torch.randint(self.max_start, (), generator=stream))
        device = next(self.net.parameters()).device

        def at(epoch: int) -> Theta:
            return {k: p[expert, epoch].to(device) for k, p in self.experts.items()}

        return at(t0), at(t0 + self.expert_epochs)


def squared_distance(a: Theta, b: Theta) -> Float[Tensor, ""]:
    """sum over all parameters of |a - b|^2.

    >>> squared_distance({"w": torch.ones(2)}, {"w": torch.zeros(2)})
    tensor(2.)
    """
    return torch.stack([(a[k] - b[k]).square().sum() for k in b]).sum()
