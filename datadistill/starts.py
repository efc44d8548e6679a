"""Distributions of theta_0.

Distillation draws the initial parameters of its nets from a distribution (Wang et al. 2018, section
3.5):

    Fixed       one theta_0, kept; the set is learned for it and carries it
    Random      a fresh draw for net n of every outer iteration i, from the stream (seed, name, i,
                n)
    Built       the same, where a function of the user's own builds each net
    Pretrained  one net of a stack of trained nets for net n of every outer iteration i, drawn from
                the same stream; or, for testing, net n of the stack. Its buffers and what does not
                train stand beside theta_0

All have `draw(iteration, nets, first) -> theta_0` of nets first .. first + nets - 1, stacked along
a leading axis where nets is more than 1. Draws of another stream name are held out by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from datadistill.errors import UsageError, list_some
from datadistill.nets.computed import computed_weights
from datadistill.nets.factory import NetFactory, make_net
from datadistill.nets.initialization import draw_whole, find_undrawn
from datadistill.nets.spec import CUSTOM, FACTORY, NetSpec
from datadistill.runs.content import (
    Check,
    check_choice,
    check_fields,
    check_text,
    check_truth,
    optional,
)
from datadistill.streams import generator
from datadistill.theta import Theta, frozen_tensors, net_with, stack, trainable

STARTS = ("draws", "factory", "pool", "weights", "given")
"""Kinds of a `Start`."""


@dataclass(frozen=True)
class Start:
    """The start of the nets that a set was learned for.

    Args:
        kind: "draws" of an initialization scheme, a "factory" of the user's own, a "pool" of
            pretrained nets, "weights" with a fresh last layer, or the "given" values of one net.
        one: whether they all start from one theta_0, which the finished set carries.
        source: data set that the nets of a pool were trained on.
        fingerprint: of the pool, the values that the weights or the net gave, or the factory's
            first net; None where unknown.
        weights: name of the file of weights, or torchvision's name of them.
    """

    kind: str = "draws"
    one: bool = False
    source: str | None = None
    fingerprint: str | None = None
    weights: str | None = None

    def describe(self) -> dict[str, Any]:
        named = {} if self.weights is None else {"weights": self.weights}
        return {
            "name": self.kind,
            "one": self.one,
            "source": self.source,
            "fingerprint": self.fingerprint,
            **named,
        }

    def in_words(self, net: str, init: str) -> str:
        """What nets a set is for; `net` and `init` are names of the architecture and the scheme.

        >>> Start("pool", source="usps").in_words("lenet", "xavier")
        'any lenet pretrained on usps'
        >>> Start("weights", weights="net.pt").in_words("lenet", "small")
        'lenet from net.pt with a fresh last layer (small)'
        """
        if self.source is not None:
            return f"{'one' if self.one else 'any'} {net} pretrained on {self.source}"
        if self.kind in ("given", "weights"):
            head = f" with a fresh last layer ({init})" if self.kind == "weights" else ""
            return f"{net} from {self.weights or 'its given values'}{head}"
        kind = "one fixed initialization" if self.one else "random initializations"
        return f"{kind} ({init}) of {net}"

    @classmethod
    def from_description(cls, description: Any) -> Start:
        """The start that `describe` described."""
        found = check_fields("start", description, _DESCRIBED, optional=("weights",))
        return cls(found.pop("name"), **found)


_DESCRIBED: dict[str, Check] = {
    "name": partial(check_choice, choices=STARTS),
    "one": check_truth,
    "source": optional(check_text),
    "fingerprint": optional(check_text),
    "weights": check_text,
}


def default_start(net: NetSpec, one: bool) -> Start:
    """The start of a set that does not say more than its net: draws of the net's initialization."""
    return Start("factory" if net.init == FACTORY else "draws", one)


class InitialDistribution(Protocol):
    """A distribution of initial parameters."""

    def draw(self, iteration: int, nets: int = 1, first: int = 0) -> Theta: ...


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
        """Net n of an iteration: the same for any number of nets, so that nets can be shared out.
        Parameters that do not require a gradient are left out: they stay as the net has them."""
        return self.whole(iteration, n)[0]

    def whole(self, iteration: int, n: int) -> tuple[Theta, Theta]:
        """Net n, and the buffers that are drawn with it (an orthogonal base, the vectors of
        spectral norm)."""
        drawn, buffers = draw_whole(
            self.net, self.init, generator(self.seed, self.name, iteration, n)
        )
        return {name: drawn[name] for name in trainable(self.net)}, buffers


@dataclass(frozen=True)
class Built:
    """Nets as a function of the user's own, `make`, builds them (`datadistill.nets.factory`); `net`
    is the run's module, and the stream is as of `Random`."""

    make: NetFactory
    net: nn.Module
    seed: int
    name: str = "theta_0"

    def draw(self, iteration: int, nets: int = 1, first: int = 0) -> Theta:
        return stack([self.one(iteration, n) for n in range(first, first + nets)])

    def one(self, iteration: int, n: int) -> Theta:
        return self.whole(iteration, n)[0]

    def whole(self, iteration: int, n: int) -> tuple[Theta, Theta]:
        """Its trainable parameters, and those of its other tensors that differ from the run's
        module's."""
        built = make_net(self.make, self.seed, self.name, iteration, n)
        wanted, found = _layout(self.net), _layout(built)
        if wanted != found:
            name = next(k for k in {**wanted, **found} if wanted.get(k) != found.get(k))
            raise UsageError(
                f"the factory built nets of two kinds: {name!r} is {found.get(name, 'missing')} in "
                f"one and {wanted.get(name, 'missing')} in another; its nets must differ in "
                "their values alone"
            )
        device = next(self.net.parameters()).device
        theta = {name: built.get_parameter(name).detach().to(device) for name in trainable(built)}
        own = frozen_tensors(self.net)
        beside = {name: value.to(device) for name, value in frozen_tensors(built).items()}
        return theta, {
            name: value for name, value in beside.items() if not torch.equal(value, own[name])
        }


def random_start(
    net: nn.Module, init: str, seed: int, name: str, spec: NetSpec | None = None
) -> Random | Built:
    """Fresh draws by a scheme, where it reaches every parameter; else, for a net of this library
    (`spec`) and PyTorch's own initialization, the draws of its constructor. Parameters that would
    be the same in every net are refused."""
    kept = find_undrawn(net, init)
    if not kept:
        return Random(net, init, seed, name)
    if spec is not None and spec.name != CUSTOM and init == "default":
        return Built(spec.construct, net, seed, name)
    named = list_some(kept, 5)
    way = (
        "net=lambda: MyNet(...)"
        if spec is None or spec.name == CUSTOM
        else "or choose init default"
    )
    raise UsageError(
        f"{init} does not draw {named}: the net's own values would be the same in every draw, and "
        "the nets not independent; pass a function that builds the net, called anew for "
        f"each draw ({way})"
    )


def nets_at_once(
    start: InitialDistribution, net: nn.Module, iteration: int, nets: int = 1, first: int = 0
) -> list[tuple[nn.Module, Theta, int]]:
    """Nets first .. first + nets - 1 of an iteration as (module, theta_0, how many nets) for each
    call of `unroll`: all of them stacked, or, where draws have buffers or frozen parameters of
    their own, each with a module of its own."""
    if isinstance(start, Random):
        alike = not any(c.buffers for c in computed_weights(start.net))
    elif isinstance(start, Pretrained):
        alike = set(start.trained) == set(start.stacked)
    else:
        alike = not isinstance(start, Built)
    if alike:
        return [(net, start.draw(iteration, nets, first), nets)]
    assert isinstance(start, Random | Built | Pretrained)
    drawn = [start.whole(iteration, n) for n in range(first, first + nets)]
    if not any(beside for _, beside in drawn):
        return [(net, stack([theta for theta, _ in drawn]), nets)]
    return [(net_with(net, beside), theta, 1) for theta, beside in drawn]


def _layout(net: nn.Module) -> dict[str, str]:
    found = {name: f"a buffer {tuple(b.shape)}" for name, b in net.named_buffers()}
    for name, p in net.named_parameters():
        found[name] = f"{'trained' if p.requires_grad else 'frozen'} {tuple(p.shape)}"
    return found


@dataclass(frozen=True)
class Pretrained:
    """Trained nets, drawn from a stack (`datadistill.pool.Pool.part`).

    Args:
        stacked: name -> (nets, ...), the same number of nets for every name.
        seed, name: the stream that chooses; with seed None, net n is net n of the stack, whatever
            the iteration, and begins again at its end.
        trained: names of theta_0, in the net's order; the others (buffers, parameters that stay as
            they are) stand beside it. Default: all.

    Example:
        >>> three = Pretrained({"w": torch.tensor([[1.0], [2.0], [3.0]])})
        >>> three.draw(0, nets=2, first=1)["w"]
        tensor([[2.],
                [3.]])
    """

    stacked: Theta
    seed: int | None = None
    name: str = "theta_0"
    trained: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "trained", tuple(self.trained or self.stacked))

    def __len__(self) -> int:
        return len(next(iter(self.stacked.values())))

    def draw(self, iteration: int, nets: int = 1, first: int = 0) -> Theta:
        return stack([self.one(iteration, n) for n in range(first, first + nets)])

    def one(self, iteration: int, n: int) -> Theta:
        return self.whole(iteration, n)[0]

    def whole(self, iteration: int, n: int) -> tuple[Theta, Theta]:
        """Net n: what is trained, and its tensors beside that."""
        index = n % len(self)
        if self.seed is not None:
            index = int(
                torch.randint(
                    len(self), (), generator=generator(self.seed, self.name, iteration, n)
                )
            )
        beside = {k: x[index] for k, x in self.stacked.items() if k not in self.trained}
        return {name: self.stacked[name][index] for name in self.trained}, beside


def nets_of(start: InitialDistribution, wanted: int) -> int:
    """The number of different nets to test: one of a fixed start, of a stack at most all."""
    if isinstance(start, Fixed):
        return 1
    return min(wanted, len(start)) if isinstance(start, Pretrained) else wanted
