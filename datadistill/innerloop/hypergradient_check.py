"""A check that a net can be trained through: the hypergradient of two steps against finite
differences.

    theta_2 = unroll(theta_0; x_1, y_1, eta_1, x_2, y_2, eta_2)          in float64
    L       = <r, theta_2 - theta_0>                                     r random

    dL . d     against     (L(z + h d) - L(z - h d)) / 2h        z images, labels, step sizes or
                                                                 theta_0

The steps' gradients are what autograd says they are, also on the side of the differences: what is
compared is their derivative. Where it is off, every layer is looked at alone (layer_faults.py).
Dropout draws the same masks throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datadistill.errors import UsageError, is_out_of_memory
from datadistill.innerloop.attributes import keep_attributes
from datadistill.innerloop.differences import inner, percent, relative_error, shift
from datadistill.innerloop.differences import norm as length
from datadistill.innerloop.layer_faults import LayerFault, find_faults, record_layer_calls
from datadistill.innerloop.problem import Loss, NetMode
from datadistill.innerloop.unroll import unroll
from datadistill.innerloop.update_rules import Theta
from datadistill.nets.factory import refuse_lazy
from datadistill.nets.functional import call_with
from datadistill.nets.logits import cross_entropy, refuse_one_logit
from datadistill.streams import generator, global_stream

BATCH = 4  # images a step
ENOUGH = 1e-4  # a relative error below which a hypergradient is right


@dataclass(frozen=True)
class NetCheck:
    """The result of `check_net`."""

    ok: bool | None
    """True: the hypergradient is right; False: it is not, or there is none; None: it could not be
    told."""
    errors: dict[str, float] = field(default_factory=dict)
    """Relative errors of the hypergradient for images, labels, step sizes and theta_0."""
    faults: tuple[LayerFault, ...] = ()
    """The layers that are the reason."""
    note: str = ""
    """Why it could not be told."""

    def __str__(self) -> str:
        if self.ok is None:
            return f"not checked: {self.note}"
        worst = max(self.errors.values(), default=0.0)
        if self.ok:
            return (
                "the hypergradient of two steps equals finite differences (relative "
                f"error {worst:.0e})"
            )
        shown = "; ".join(map(str, self.faults[:5]))
        more = f"; and {len(self.faults) - 5} more" if len(self.faults) > 5 else ""
        if any(fault.fault == "missing" for fault in self.faults):
            return f"the net cannot be trained through: {shown}{more}"
        return (
            f"the hypergradient of two steps is {percent(worst)} off finite "
            f"differences: {shown}{more}"
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "errors": {group: None if math.isnan(e) else e for group, e in self.errors.items()},
            "faults": [vars(fault) for fault in self.faults],
            "note": self.note,
        }


class HypergradientCheck:
    """The tensors of one check, in float64 on the net's device; a net of the check's own becomes
    float64."""

    def __init__(
        self,
        net: nn.Module,
        images: Tensor,
        labels: Tensor,
        norm: str,
        loss: Loss,
        theta_0: Theta | None,
        *,
        own: bool,
    ) -> None:
        self.net, self.norm, self.loss = net, norm, loss
        if not any(True for _ in net.parameters()):
            raise UsageError(
                f"the net ({type(net).__name__}) has no parameters, so there is nothing to train"
            )
        refuse_lazy(net)
        # whole numbers have no gradient, and stay in the net
        values: Theta = {
            k: p for k, p in net.named_parameters() if p.is_floating_point() or p.is_complex()
        }
        if not values:
            raise UsageError(
                f"the net ({type(net).__name__}) has whole numbers alone as parameters"
            )
        trains = set(values if theta_0 is None else theta_0)
        self.theta = {k: _double(p) for k, p in {**values, **(theta_0 or {})}.items()}
        self.trains = [k in trains for k in self.theta]
        self.buffers = {k: _double(b) for k, b in net.named_buffers()}
        device = next(iter(values.values())).device
        self.noise = generator(0, "check_net")
        index = torch.arange(2 * BATCH) % len(images)
        images = images[index].to(device)
        classes = self._classes(images.to(_precision(values)))
        if own:
            net.double()  # for code that reads the module on the way back
        hard = F.one_hot(labels[index].to(device) % classes, classes).double()
        mixed = self._random((2 * BATCH, classes)).softmax(1).to(device)
        self.images = list(images.double().split(BATCH))
        self.labels = list((0.8 * hard + 0.2 * mixed).split(BATCH))
        self.step_sizes = torch.tensor([1.0, 0.6], dtype=torch.float64, device=device)
        self.r = [self._random(p.shape, p.dtype).to(device) for p in self.theta.values()]

    def _random(self, shape: Any, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(shape, generator=self.noise, dtype=dtype)

    def _classes(self, images: Tensor) -> int:
        """K, by one pass in the net's own precision."""
        kept = {
            k: x.detach().clone()
            for k, x in [*self.net.named_parameters(), *self.net.named_buffers()]
        }
        try:
            with torch.no_grad(), global_stream(0, "check_net"), keep_attributes(self.net):
                logits = call_with(self.net, kept, (images,))
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            raise UsageError(
                f"the net does not run on these images: {_first_line(error)}"
            ) from error
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            what = (
                tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            )
            raise UsageError(f"the net makes {what} of {len(images)} images, wanted logits (B, K)")
        if self.loss in (F.cross_entropy, cross_entropy):
            refuse_one_logit(logits)
        return logits.shape[1]

    def result(self) -> NetCheck:
        try:
            with torch.no_grad():
                self.step_sizes *= self.mild_step()
                a, b = (float(self.outer(self.point())) for _ in range(2))
        except (UsageError, RuntimeError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            words = error.__cause__ or error  # torch's own
            return NetCheck(None, note=f"the net does not run in float64 ({_first_line(words)})")
        if abs(a - b) > 1e-9 * abs(a):
            return NetCheck(None, note="the net computes something else at every call")
        try:
            errors = self.errors(0)
        except UsageError:
            faults = [f for f in self.faults() if f.fault == "missing"]
            if not faults:
                raise
            return NetCheck(False, faults=tuple(faults))
        if any(not e <= ENOUGH for e in errors.values()):  # also where one is NaN
            again = self.errors(1)
            errors = {k: min(e, again[k]) if e == e else again[k] for k, e in errors.items()}
        if all(e <= ENOUGH for e in errors.values()):
            return NetCheck(True, errors)
        if any(math.isnan(e) for e in errors.values()):
            return NetCheck(
                None, note="the net is too steep at these images for finite differences"
            )
        faults = self.faults()
        # a net that computes in float32 inside
        if not faults and max(errors.values()) <= 100 * ENOUGH:
            return NetCheck(True, errors)
        if not faults:
            off = percent(max(errors.values()))
            note = f"finite differences are {off} away, but every layer's own derivatives are right"
            return NetCheck(None, errors, note=note)
        return NetCheck(False, errors, tuple(faults))

    def mild_step(self) -> float:
        """The step size that moves theta by a hundredth of its length: farther away a net may be
        too steep."""
        pairs = [(self.images[0], self.labels[0])]
        theta = unroll(
            self.net,
            self.theta,
            pairs,
            self.step_sizes[:1],
            loss=self.loss,
            buffers=self.buffers,
            norm=self.norm,
            stream=0,
        )
        moved = length([theta[k] - p for k, p in self.theta.items()])
        return 0.01 * length(list(self.theta.values())) / moved if moved else 0.01

    def point(self) -> dict[str, list[Tensor]]:
        """z by group."""
        return {
            "images": self.images,
            "labels": self.labels,
            "step_sizes": [self.step_sizes],
            "theta_0": list(self.theta.values()),
        }

    def outer(self, point: Mapping[str, list[Tensor]]) -> Tensor:
        """L."""
        theta_0 = dict(zip(self.theta, point["theta_0"], strict=True))
        pairs = list(zip(point["images"], point["labels"], strict=True))
        eta = point["step_sizes"][0]
        rates = torch.stack([eta if trains else torch.zeros_like(eta) for trains in self.trains], 1)
        theta = unroll(
            self.net,
            theta_0,
            pairs,
            rates,
            loss=self.loss,
            buffers=self.buffers,
            norm=self.norm,
            stream=0,
        )
        return inner([theta[k] - theta_0[k] for k in theta], self.r)

    def errors(self, number: int) -> dict[str, float]:
        """Relative error by group, at a point near the net's own: biases of 0 stand on ReLU's kink
        where images are black or a channel is dead."""
        point = self.point()
        scales = {group: [_scale(x) for x in z] for group, z in point.items()}
        for group in ("images", "theta_0"):
            d = self.direction(point[group], scales[group])
            point[group] = shift(point[group], d, 1e-2 * (1 + number))
        leaves = {
            group: [x.detach().clone().requires_grad_() for x in z] for group, z in point.items()
        }
        flat = [x for z in leaves.values() for x in z]
        value = self.outer(leaves)
        found = iter(torch.autograd.grad(value, flat, materialize_grads=True))
        errors = {}
        for group, z in point.items():
            gradient = [next(found) for _ in z]
            d = self.direction(z, scales[group])
            size = length([g * s for g, s in zip(gradient, scales[group], strict=True)])
            errors[group] = relative_error(
                float(inner(gradient, d)),
                self.ends(point, group, d),
                max(size, 1e-6 * abs(float(value.detach()))),
            )
        return errors

    def direction(self, z: list[Tensor], scales: list[Tensor]) -> list[Tensor]:
        return [
            s * self._random(x.shape, x.dtype).to(x.device) for x, s in zip(z, scales, strict=True)
        ]

    def ends(
        self, point: Mapping[str, list[Tensor]], group: str, d: list[Tensor]
    ) -> Callable[[float], tuple[Tensor, Tensor]]:
        def at(h: float) -> Tensor:
            with torch.no_grad():
                return self.outer({**point, group: shift(point[group], d, h)})

        return lambda h: (at(h), at(-h))

    def faults(self) -> list[LayerFault]:
        mode = NetMode(self.net, self.norm)
        with mode:
            own = dict(self.net.named_buffers())
        tensors = {**self.theta, **{k: self.buffers[k] for k in own}}
        try:
            calls = record_layer_calls(
                self.net, tensors, self.images[0], self.labels[0], self.loss, mode
            )
        except Exception:  # the net cannot be run with hooks on its layers
            return []
        return find_faults(calls)


def _double(x: Tensor) -> Tensor:
    """A copy in double precision; whole numbers as they are."""
    if x.is_complex():
        return x.detach().to(torch.complex128, copy=True)
    return x.detach().to(torch.float64 if x.is_floating_point() else x.dtype, copy=True)


def _precision(values: Theta) -> torch.dtype:
    """What the net takes images in."""
    floating = [p for p in values.values() if p.is_floating_point()]
    trained = [p for p in floating if p.requires_grad] or floating
    return trained[0].dtype if trained else torch.float32


def _scale(x: Tensor) -> Tensor:
    return x.abs().square().mean().sqrt().clamp_min(1e-3)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
