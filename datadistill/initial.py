"""Where theta_0 comes from.

Distillation draws the initial parameters of its nets from a distribution (Wang et al. 2018, section 3.5):

    Fixed       one theta_0, kept; the set is learned for it and carries it
    Random      a fresh draw for net n of every outer iteration i, from the stream (seed, name, i, n)
    Pretrained  one net of a stack of trained nets for net n of every outer iteration i, drawn from the same
                stream; or, for testing, net n of the stack

All have `draw(iteration, nets, first) -> theta_0` of nets first .. first + nets - 1, stacked along a leading
axis where nets is more than 1.
Draws of another stream name are held out by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets import draw
from datadistill.streams import generator

Theta = dict[str, Tensor]


class InitialDistribution(Protocol):
    """A distribution of initial parameters."""

    def draw(self, iteration: int, nets: int = 1, first: int = 0) -> Theta: ...


def stack(thetas: Sequence[Theta]) -> Theta:
    """Several nets' parameters along a leading axis; a single net stays as it is.

    Example:
        >>> stack([{"w": torch.zeros(3)}, {"w": torch.ones(3)}])["w"].shape
        torch.Size([2, 3])
    """
    if len(thetas) == 1:
        return thetas[0]
    return {name: torch.stack([theta[name] for theta in thetas]) for name in thetas[0]}


def unstack(theta: Theta, nets: int) -> list[Theta]:
    """The inverse of `stack`."""
    return [theta] if nets == 1 else [{name: p[n] for name, p in theta.items()} for n in range(nets)]


def trainable(net: nn.Module) -> tuple[str, ...]:
    """Names of the parameters that require a gradient, in the net's order."""
    return tuple(name for name, p in net.named_parameters() if p.requires_grad)


def beside_theta(net: nn.Module) -> Theta:
    """What a net is besides its trainable parameters, by name: buffers, and parameters that are frozen.

    Example:
        >>> list(beside_theta(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))))
        ['1.running_mean', '1.running_var', '1.num_batches_tracked']
    """
    frozen = {name: p.detach() for name, p in net.named_parameters() if not p.requires_grad}
    return {**frozen, **{name: b.detach() for name, b in net.named_buffers()}}


@torch.no_grad()
def put(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Write values of parameters and buffers into a net, by name.

    Raises:
        UsageError: the net has no such tensor, or one of another shape.
    """
    own: Theta = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    for name, value in tensors.items():
        if name not in own or own[name].shape != value.shape:
            found = f"{tuple(own[name].shape)}" if name in own else "missing"
            raise UsageError(
                f"the net's tensor {name!r} is {found}, wanted {tuple(value.shape)}; pass a net of the same "
                "architecture"
            )
    for name, value in tensors.items():
        own[name].copy_(value)


@dataclass(frozen=True)
class Fixed:
    """The same theta_0 at every iteration."""

    theta_0: Theta

    def draw(self, iteration: int, nets: int = 1, first: int = 0) -> Theta:
        return stack([self.theta_0] * nets)


@dataclass(frozen=True)
class Random:
    """Fresh draws by an initialization scheme.

    Args:
        net: gives names and shapes; its own values are not used.
        init: a scheme of `datadistill.nets.INITIALIZATIONS`.
        seed, name: the stream. Training draws from "theta_0", validation from "validation_theta_0",
            evaluation from "held_out_theta_0".
    """

    net: nn.Module
    init: str
    seed: int
    name: str = "theta_0"

    def draw(self, iteration: int, nets: int = 1, first: int = 0) -> Theta:
        return stack([self.one(iteration, n) for n in range(first, first + nets)])

    def one(self, iteration: int, n: int) -> Theta:
        """Net n of an iteration: the same for any number of nets, so that nets can be shared out. Parameters
        that do not require a gradient are left out: they stay as the net has them."""
        drawn = draw(self.net, self.init, generator(self.seed, self.name, iteration, n))
        return {name: drawn[name] for name in trainable(self.net)}


@dataclass(frozen=True)
class Pretrained:
    """Trained nets, drawn from a stack (`datadistill.pool.Pool.part`).

    Args:
        stacked: name -> (nets, ...), the same number of nets for every name.
        seed, name: the stream that chooses; with seed None, net n is net n of the stack, whatever the
            iteration, and begins again at its end.

    Example:
        >>> three = Pretrained({"w": torch.tensor([[1.0], [2.0], [3.0]])})
        >>> three.draw(0, nets=2, first=1)["w"]
        tensor([[2.],
                [3.]])
    """

    stacked: Theta
    seed: int | None = None
    name: str = "theta_0"

    def __len__(self) -> int:
        return len(next(iter(self.stacked.values())))

    def draw(self, iteration: int, nets: int = 1, first: int = 0) -> Theta:
        return stack([self.one(iteration, n) for n in range(first, first + nets)])

    def one(self, iteration: int, n: int) -> Theta:
        """Net n of an iteration."""
        index = n % len(self)
        if self.seed is not None:
            index = int(torch.randint(len(self), (), generator=generator(self.seed, self.name, iteration, n)))
        return {name: p[index] for name, p in self.stacked.items()}


def nets_of(start: InitialDistribution, wanted: int) -> int:
    """How many different nets there are to test: one of a fixed start, of a stack at most all.

    Example:
        >>> nets_of(Fixed({}), 200), nets_of(Pretrained({"w": torch.zeros(12, 1)}), 200)
        (1, 12)
    """
    if isinstance(start, Fixed):
        return 1
    return min(wanted, len(start)) if isinstance(start, Pretrained) else wanted
