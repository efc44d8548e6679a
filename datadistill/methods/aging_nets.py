"""A pool of nets that are trained while a synthetic set is learned, and grow old.

An iteration takes one net of the pool at random and trains it afterwards, on the set or on real
images. The nets start at ages that are spread evenly: net n of N is trained n A // N steps before
it is taken for the first time. One that reaches the largest age A is replaced by a fresh draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.innerloop import Steps, unroll
from datadistill.innerloop.problem import Loss
from datadistill.innerloop.steps import Pair
from datadistill.innerloop.update_rules import State, UpdateRule
from datadistill.starts import InitialDistribution, nets_at_once
from datadistill.streams import derive, generator
from datadistill.theta import Theta

__all__ = ["AgedNet", "AgingNets", "check_pool", "make_pool"]


Labels = Float[Tensor, "n k"] | Int[Tensor, " n"]


@dataclass(eq=False)
class AgedNet:
    """Draw `number` of the start, after `age` steps; `state` is the update rule's."""

    number: int
    net: nn.Module
    theta: Theta
    state: State
    age: int = 0


class AgingNets:
    """The pool, empty until `start_all`.

    Args:
        net: the architecture; its values are not used.
        start: draws fresh nets.
        size: N, the number of nets.
        max_age: A, the steps after which a net is replaced.
        rule, lr: the update rule of the steps and their size.
        loss: that the steps lower.
        minibatch: at most so many images in a step, drawn anew for each.
        norm: what BatchNorm uses in the steps.
        seed: of every random choice.
        number: of the pool, where there are several; other numbers, other nets and choices.
    """

    def __init__(
        self,
        net: nn.Module,
        start: InitialDistribution,
        *,
        size: int,
        max_age: int,
        rule: UpdateRule,
        loss: Loss,
        lr: float,
        minibatch: int,
        norm: str = "batch",
        seed: int = 0,
        number: int = 0,
    ) -> None:
        self.net, self.start, self.size, self.max_age = net, start, size, max_age
        self.number = number
        self._beside = (number,) if number else ()  # in the names of streams
        self.rule, self.loss, self.lr = rule, loss, lr
        self.minibatch, self.norm, self.seed = minibatch, norm, seed
        self.nets: list[AgedNet] = []
        self.drawn = 0  # nets so far

    def start_all(self, images: Float[Tensor, "n c h w"], labels: Labels) -> None:
        """Draw the nets and train them to their first ages; nothing where they are there."""
        while len(self.nets) < self.size:
            self.nets.append(self._draw())
            age = (len(self.nets) - 1) * self.max_age // self.size
            self._train(self.nets[-1], images, labels, age)

    def of_iteration(self, iteration: int) -> AgedNet:
        """The net that an iteration takes."""
        draws = generator(self.seed, "net_of_pool", iteration, *self._beside)
        return self.nets[int(torch.randint(self.size, (), generator=draws))]

    def age(
        self, one: AgedNet, images: Float[Tensor, "n c h w"], labels: Labels, steps: int = 1
    ) -> None:
        """Train a net some steps; from the largest age on a fresh draw takes its place."""
        self._train(one, images, labels, steps)
        if one.age >= self.max_age:
            self.nets[self.nets.index(one)] = self._draw()

    def state(self) -> dict[str, Any]:
        nets = [
            {"age": one.age, "number": one.number, "state": one.state, "theta": one.theta}
            for one in self.nets
        ]
        return {"drawn": self.drawn, "nets": nets}

    def load(self, state: Mapping[str, Any]) -> None:
        self.drawn = state["drawn"]
        self.nets = []
        for found in state["nets"]:
            one = self._net_of_draw(found["number"])
            one.age = found["age"]
            one.state = {
                k: _like(dict(x), one.theta) if isinstance(x, Mapping) else x
                for k, x in found["state"].items()
            }
            one.theta = _like(found["theta"], one.theta)
            self.nets.append(one)

    def _draw(self) -> AgedNet:
        self.drawn += 1
        return self._net_of_draw(self.drawn - 1)

    def _net_of_draw(self, number: int) -> AgedNet:
        ((net, theta, _),) = nets_at_once(self.start, self.net, number, first=self.number)
        return AgedNet(number, net, theta, self.rule.init(theta))

    @torch.no_grad()
    def _train(self, one: AgedNet, images: Tensor, labels: Tensor, steps: int) -> None:
        def pair(tensors: Theta, t: int) -> Pair:
            if len(images) <= self.minibatch:
                return tensors["images"], tensors["labels"]
            at = (one.number, one.age + t, *self._beside)
            draws = generator(self.seed, "images_of_age", *at)
            index = torch.randperm(len(images), generator=draws)[: self.minibatch]
            index = index.to(images.device)
            return tensors["images"][index], tensors["labels"][index]

        one.theta, one.state = unroll(
            one.net,
            one.theta,
            Steps({"images": images.detach(), "labels": labels.detach()}, pair, steps),
            torch.full((steps,), self.lr, device=images.device),
            self.rule,
            loss=self.loss,
            norm=self.norm,
            stream=derive(self.seed, "dropout", one.number, one.age, *self._beside),
            state=one.state,
            return_state=True,
        )
        one.age += steps


class TakesPool(Protocol):
    """A method that takes one net of a pool an iteration."""

    net: nn.Module
    start: InitialDistribution
    nets: int
    norm: str
    seed: int
    pool_size: int
    max_age: int
    lr: float
    minibatch: int


def make_pool(method: TakesPool, rule: UpdateRule, loss: Loss, number: int = 0) -> AgingNets:
    """The pool of a method, or one of its pools, whose nets are trained by a rule that lowers a
    loss."""
    return AgingNets(
        method.net,
        method.start,
        size=method.pool_size,
        max_age=method.max_age,
        rule=rule,
        loss=loss,
        lr=method.lr,
        minibatch=method.minibatch,
        norm=method.norm,
        seed=method.seed,
        number=number,
    )


def check_pool(method: TakesPool, *, several: bool = False) -> None:
    """UsageError for settings of a pool that are out of range, or, unless the method takes
    `several`, for several nets an iteration."""
    for name in ("pool_size", "max_age", "minibatch"):
        if getattr(method, name) < 1:
            raise UsageError(f"{name} of the method is {getattr(method, name)}; give 1 or more")
    if not method.lr > 0:
        raise UsageError(f"lr of the method is {method.lr}; give a number above 0")
    if method.nets != 1 and not several:
        raise UsageError(
            f"nets is {method.nets}, and an iteration takes one net of the method's pool; choose "
            "nets 1, and say the pool's size with pool_size of --method-args"
        )


def _like(tensors: Theta, theta: Theta) -> Theta:
    """Tensors of a file where those of a net are, in its order."""
    return {k: tensors[k].to(x.device) for k, x in theta.items()}
