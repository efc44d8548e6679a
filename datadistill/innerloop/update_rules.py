"""Update rules of the inner loop as pure functions.

A rule is any object with

    init(theta) -> state                               what the rule remembers: nested dicts of
                                                       tensors
    step(theta, grads, state, eta) -> (theta, state)   one step, differentiable in every tensor

where `theta` and `grads` are dicts name -> tensor and `eta` is the step size: a scalar tensor, or,
when step sizes are learned per tensor, a dict name -> scalar tensor. `rate(eta, name)` reads both.
A rule of your own needs no registration: pass it as `update=` and every adjoint differentiates it.

Notation: theta parameters, g gradient, lambda weight decay, eta step size.

    sgd        theta <- theta - eta (g + lambda theta)
    momentum   v <- beta v + g + lambda theta;  theta <- theta - eta v  (Nesterov: eta (g + beta v))
    adam       m <- b1 m + (1 - b1) g;  n <- b2 n + (1 - b2) g^2
               theta <- theta - eta mhat / (sqrt(nhat + eps_root) + eps)   mhat, nhat bias-corrected

The rules are torch's own (torch.optim.SGD, Adam), except `eps_root`: sqrt has no derivative at
nhat = 0, where a parameter has had no gradient yet (a dead unit), and one such entry makes a whole
meta-gradient NaN. optax and TorchOpt have the same term. Rules act elementwise, so a leading axis
of nets passes through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from datadistill.errors import UsageError, suggest
from datadistill.runs.jsonconfig import build_config

Theta = dict[str, Tensor]
# a nest of dicts, tuples and lists; tensors in it are differentiated, other leaves carried along
State = Any
Eta = Tensor | dict[str, Tensor]


class UpdateRule(Protocol):
    """What `unroll` asks of a rule; see the module docstring."""

    def init(self, theta: Theta) -> State: ...

    def step(self, theta: Theta, grads: Theta, state: State, eta: Eta) -> tuple[Theta, State]: ...


def rate(eta: Eta, name: str) -> Tensor:
    """The step size of one tensor: `eta` itself, or its entry `name` when there is one per
    tensor."""
    return eta[name] if isinstance(eta, dict) else eta


def _decay(theta: Theta, grads: Theta, weight_decay: float) -> Theta:
    return {k: g + weight_decay * theta[k] for k, g in grads.items()} if weight_decay else grads


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise UsageError(f"{name} is {value}, but it must be at least 0 and below 1")


def _check_not_negative(name: str, value: float) -> None:
    if not 0 <= value < float("inf"):
        raise UsageError(f"{name} is {value}, but it must be 0 or more")


@dataclass(frozen=True)
class Sgd:
    """theta <- theta - eta (g + weight_decay theta), as torch.optim.SGD. `sgd` for short.

    Example:
        >>> sgd().step({"w": torch.ones(2)}, {"w": torch.ones(2)}, {}, torch.tensor(0.5))[0]["w"]
        tensor([0.5000, 0.5000])
    """

    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_not_negative("weight_decay", self.weight_decay)

    def init(self, theta: Theta) -> State:
        return {}

    def step(self, theta: Theta, grads: Theta, state: State, eta: Eta) -> tuple[Theta, State]:
        grads = _decay(theta, grads, self.weight_decay)
        return {k: p - rate(eta, k) * grads[k] for k, p in theta.items()}, state


@dataclass(frozen=True)
class Momentum:
    """v <- beta v + g, theta <- theta - eta v, as torch.optim.SGD (dampening 0). `momentum` for
    short.

    Args:
        beta: in [0, 1).
        nesterov: Nesterov's form, theta <- theta - eta (g + beta v).
        weight_decay: 0 or more, added to the gradient.

    Example:
        >>> rule = momentum(0.9)
        >>> theta = {"w": torch.ones(1)}
        >>> rule.step(theta, {"w": torch.ones(1)}, rule.init(theta), torch.tensor(0.5))[0]["w"]
        tensor([0.5000])
    """

    beta: float
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_fraction("beta", self.beta)
        _check_not_negative("weight_decay", self.weight_decay)

    def init(self, theta: Theta) -> State:
        return {"v": {k: torch.zeros_like(p) for k, p in theta.items()}}

    def step(self, theta: Theta, grads: Theta, state: State, eta: Eta) -> tuple[Theta, State]:
        grads = _decay(theta, grads, self.weight_decay)
        v = {k: self.beta * state["v"][k] + g for k, g in grads.items()}
        d = {k: g + self.beta * v[k] for k, g in grads.items()} if self.nesterov else v
        return {k: p - rate(eta, k) * d[k] for k, p in theta.items()}, {"v": v}


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015) with denominator sqrt(nhat + eps_root) + eps. `adam` for short.

    Example:
        >>> rule = adam()
        >>> theta = {"w": torch.ones(1)}
        >>> rule.step(theta, {"w": torch.ones(1)}, rule.init(theta), torch.tensor(0.5))[0]["w"]
        tensor([0.5000])
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    eps_root: float = 1e-12

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            _check_fraction(name, getattr(self, name))
        for name in ("eps", "eps_root"):
            _check_not_negative(name, getattr(self, name))

    def init(self, theta: Theta) -> State:
        def zeros() -> Theta:
            return {k: torch.zeros_like(p) for k, p in theta.items()}

        return {"count": 0, "m": zeros(), "n": zeros()}

    def step(self, theta: Theta, grads: Theta, state: State, eta: Eta) -> tuple[Theta, State]:
        b1, b2, count = self.beta1, self.beta2, state["count"] + 1
        m = {k: b1 * state["m"][k] + (1 - b1) * g for k, g in grads.items()}
        n = {k: b2 * state["n"][k] + (1 - b2) * g * g for k, g in grads.items()}
        c1, c2 = 1 - b1**count, 1 - b2**count
        new = {
            k: p - rate(eta, k) * (m[k] / c1) / (torch.sqrt(n[k] / c2 + self.eps_root) + self.eps)
            for k, p in theta.items()
        }
        return new, {"count": count, "m": m, "n": n}


sgd, momentum, adam = Sgd, Momentum, Adam

UPDATE_RULES: dict[str, type[Any]] = {"sgd": Sgd, "momentum": Momentum, "adam": Adam}


def describe(rule: UpdateRule) -> dict[str, Any]:
    """Name and arguments of a rule for a file; a rule of the user's own is `{"name": "custom"}`.

    Example:
        >>> describe(momentum(0.9))
        {'beta': 0.9, 'name': 'momentum', 'nesterov': False, 'weight_decay': 0.0}
    """
    for name, cls in UPDATE_RULES.items():
        if type(rule) is cls:
            return dict(sorted({"name": name, **vars(rule)}.items()))
    return {"name": "custom"}


def from_description(description: dict[str, Any]) -> UpdateRule:
    """The rule that `describe` described."""
    if not isinstance(description, dict):
        raise UsageError(f"update rule is {repr(description)[:80]}, wanted its name and arguments")
    args = {k: v for k, v in description.items() if k != "name"}
    name = str(description.get("name"))
    if name not in UPDATE_RULES:
        raise UsageError(
            f"update rule {name[:80]!r} is unknown; {suggest(name[:80], UPDATE_RULES)}"
        )
    build_config(UPDATE_RULES[name], args, f"update rule {name}")  # refuses what is of another type
    rule: UpdateRule = UPDATE_RULES[name](**args)
    return rule
