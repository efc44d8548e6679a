"""The inner problem: one training step of a net on distilled images, as a pure map.

    Phi_t : (theta, state, buffers; images_t, labels_t, eta_t) -> (theta, state, buffers)

    g          = grad_theta loss(net(theta, images_t), labels_t)
    theta', s' = update.step(theta, g, state, eta_t)

The net is used statelessly (`nets.functional.call_with`): tensors it holds are never written.
Several nets of one architecture train at once when every entry of theta carries one leading axis of
nets: the forward pass is vmapped over it, or where vmap cannot run the net taken one after another,
and the losses are summed, so that one `autograd.grad` gives each net its own gradient.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.modules.dropout import _DropoutNd

from datadistill.errors import UsageError, is_out_of_memory, suggest
from datadistill.innerloop.attributes import (
    Attributes,
    keep_attributes,
    put_attributes,
    take_attributes,
)
from datadistill.innerloop.net_mode import NetMode
from datadistill.innerloop.recomputation import refuse_recomputation
from datadistill.innerloop.required_derivative import has_passed, require_derivative
from datadistill.innerloop.second_derivatives import TwiceDifferentiable
from datadistill.innerloop.steps import Steps
from datadistill.innerloop.update_rules import Eta, State, Theta, UpdateRule
from datadistill.nets.fits import refuse_foreign
from datadistill.nets.functional import call_with
from datadistill.nets.logits import cross_entropy, explain_failure
from datadistill.streams import global_stream

Loss = Callable[[Tensor, Tensor], Tensor]
T = TypeVar("T")


def stacked_nets(net: nn.Module, theta: Theta, buffers: bool = False) -> int | None:
    """The number of nets that theta stacks along a leading axis; None when it is one net's own
    shapes. With `buffers` it may hold buffers too (`unroll_with_buffers`)."""
    own = {name: p.shape for name, p in net.named_parameters()}
    if buffers:
        own.update({name: b.shape for name, b in net.named_buffers()})
    counts: set[int | None] = set()
    for name, p in theta.items():
        if name not in own:
            raise UsageError(f"theta_0 has {name!r}, which the net does not; {suggest(name, own)}")
        if p.shape == own[name]:
            counts.add(None)
        elif p.shape[1:] == own[name] and p.dim() == len(own[name]) + 1:
            counts.add(p.shape[0])
        else:
            raise UsageError(
                f"theta_0[{name!r}] has shape {tuple(p.shape)}; the net wants {tuple(own[name])}, "
                f"or (nets, {', '.join(map(str, own[name]))}) for several nets at once"
            )
    if len(counts) != 1:
        raise UsageError(
            f"theta_0 mixes entries for {sorted(map(str, counts))} nets; stack all or none"
            if counts
            else "theta_0 is empty; pass name -> tensor for the parameters to train"
        )
    return counts.pop()


class InnerProblem:
    """Everything a step needs except what changes from step to step. Adjoints call `step`.

    The buffers of the net are carried from step to step, whatever the net writes there: BatchNorm's
    statistics with norm="track", spectral_norm's vectors, counters. They are not differentiated, as
    torch does not.
    """

    def __init__(
        self,
        net: nn.Module,
        theta_0: Theta,
        steps: Steps,
        update: UpdateRule,
        loss: Loss,
        buffers: Mapping[str, Tensor] | None,
        norm: str,
        stream: int | None,
    ) -> None:
        refuse_foreign(net)
        self.nets = stacked_nets(net, theta_0)
        self.net, self.mode = net, NetMode(net, norm)
        self.steps, self.update, self.norm = steps, update, norm
        self.loss = cross_entropy if loss is F.cross_entropy else loss
        self.frozen = to_ordinary(
            {k: p.detach() for k, p in net.named_parameters() if k not in theta_0}
        )
        if stream is None and any(
            isinstance(m, _DropoutNd) and m.training and m.p for m in net.modules()
        ):
            # one draw of the global generator, as dropout itself does
            stream = int(torch.randint(2**31, ()))
        self.stream = stream
        self.twice = TwiceDifferentiable(net)
        self.unchecked = False  # whether the next gradient must be found to have a derivative
        self.every_generator = net in _DRAW_ELSEWHERE  # from numpy's or Python's global generator
        self.given_buffers = bool(buffers)
        everything = dict(net.named_buffers())
        for k in buffers or {}:
            if k not in everything:
                raise UsageError(
                    f"buffers has {k!r}, which the net does not; {suggest(k, everything)}"
                )
        with self.mode:  # the buffers that the net has in this mode
            own = dict(net.named_buffers())
        given = {k: b for k, b in (buffers or {}).items() if k in own}
        self.buffers_0 = to_ordinary({k: b.detach() for k, b in {**own, **given}.items()})
        self._dims = {k: b.dim() for k, b in own.items()}
        self.stacked = norm == "track"  # whether each of several nets has buffers of its own
        self.vectorized = True  # until a pass shows that vmap cannot run the nets
        self.attributes: list[Attributes] = []  # of each net, where they run one after another
        self.loss_of_step = torch.zeros(())  # of the last call of `step`
        if self.stacked:
            self.buffers_0 = {k: b.clone() for k, b in self.repeat_for_nets(self.buffers_0).items()}

    def repeat_for_nets(self, buffers: Theta) -> Theta:
        """Buffers with a leading axis of nets, where nets are stacked."""
        if self.nets is None:
            return buffers
        return {
            k: b.expand(self.nets, *b.shape) if b.dim() == self._dims[k] else b
            for k, b in buffers.items()
        }

    def losses(
        self, theta: Theta, buffers: Theta, t: int, pair: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Theta]:
        """Loss of step t's batch, one entry a net where nets are stacked, and the buffers after the
        pass."""
        if self.net in _LEAVE_PARAMETERS:
            return self._losses(theta, self.frozen, buffers, t, pair)
        own, frozen = _clones(theta), _clones(self.frozen)
        found = self._losses(own, frozen, buffers, t, pair)
        for name, p in {**own, **frozen}.items():
            if not is_equal(p.detach(), {**theta, **self.frozen}[name].detach()):
                raise UsageError(
                    f"the net's forward pass writes its parameter {name}, which no gradient knows "
                    "of; do that outside of the pass, or compute the weight in use from the "
                    "parameter (parametrizations)"
                )
        _LEAVE_PARAMETERS.add(self.net)
        return found

    def _losses(
        self, theta: Theta, frozen: Theta, buffers: Theta, t: int, pair: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Theta]:
        if self.nets is None:
            return self.run_seeded(
                t, lambda: self._pass({**theta, **frozen}, _clones(buffers), pair)
            )
        if self.vectorized:
            before = take_attributes(self.net)
            try:
                found = self.run_seeded(t, lambda: self._run_vmapped(theta, frozen, buffers, pair))
            except Exception as error:
                # whatever it is, one net alone says it plainly or does not have it
                if is_out_of_memory(error):
                    raise
                found = None
            if found is not None:
                return found
            self.vectorized = False
            put_attributes(before)
        return self._run_one_by_one(theta, frozen, buffers, t, pair)

    def _run_vmapped(
        self, theta: Theta, frozen: Theta, buffers: Theta, pair: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Theta] | None:
        """All nets in one pass; None where they share a buffer that the pass writes."""
        replaced: list[str] = []

        def one(theta: Theta, buffers: Theta) -> tuple[Tensor, Theta]:
            loss, new = self._pass({**theta, **frozen}, buffers, pair)
            replaced.extend(k for k in buffers if new[k] is not buffers[k])
            return loss, new if self.stacked else {}

        axis, own = 0 if self.stacked else None, _clones(buffers)
        # the same masks for every net, as each would draw alone
        losses, new = vmap(one, (0, axis), randomness="same")(theta, own)
        if self.stacked:
            return losses, new
        written = replaced or not all(is_equal(own[k], b) for k, b in buffers.items())
        return None if written else (losses, buffers)

    def _run_one_by_one(
        self, theta: Theta, frozen: Theta, buffers: Theta, t: int, pair: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Theta]:
        """For nets that vmap cannot run: recurrent ones, branches on values, buffers written in
        place. Each has attributes of its own in the one module."""
        self.stacked, each = True, self.repeat_for_nets(buffers)
        if not self.attributes:
            self.attributes = [take_attributes(self.net) for _ in range(self.nets or 0)]
        losses, new = [], []
        for n, attributes in enumerate(self.attributes):
            put_attributes(attributes)
            own = {**{k: p[n] for k, p in theta.items()}, **frozen}
            own_buffers = {k: b[n].clone() for k, b in each.items()}
            loss, after = self.run_seeded(t, partial(self._pass, own, own_buffers, pair))
            losses.append(loss)
            new.append(after)
            self.attributes[n] = take_attributes(self.net)
        return torch.stack(losses), {k: torch.stack([after[k] for after in new]) for k in each}

    def _pass(
        self, parameters: Theta, buffers: Theta, pair: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Theta]:
        """Loss of one net on a batch, and its buffers afterwards; those passed in may be
        written."""
        tensors = {**parameters, **buffers}
        with self.twice:
            with self.mode, explain_failure(self.net, pair[0]):
                # a clone, for a first layer may work in place; what the net replaces is put into
                # tensors
                logits = call_with(self.net, tensors, (pair[0].clone(),))
            return self.loss(logits, pair[1]), {k: tensors[k] for k in buffers}

    @torch.no_grad()
    def writes_buffers(self, theta: Theta) -> bool:
        """Whether a pass of the net on the first step's images changes a buffer."""
        if not self.buffers_0:
            return False
        with keep_attributes(self.net), global_stream(0, "probe", everything=True):
            _, new = self._pass(
                _clones({**theta, **self.frozen}), _clones(self.buffers_0), self.steps(0)
            )
        return not all(is_equal(new[k], b) for k, b in self.buffers_0.items())

    def run_seeded(self, t: int, forward: Callable[[], T]) -> T:
        """Run step t's forward pass with the random numbers of its stream."""
        if self.stream is None:
            return forward()
        with global_stream(self.stream, "dropout", t, everything=self.every_generator):
            return forward()

    def gradient(
        self, theta: Theta, buffers: Theta, t: int, pair: tuple[Tensor, Tensor], keep: bool
    ) -> tuple[Theta, Theta]:
        """grad_theta of step t's loss, with `keep` itself differentiable; and the buffers after the
        pass."""
        check = self.unchecked and not has_passed(self)
        losses, new_buffers = self.losses(theta, buffers, t, pair)
        self.loss_of_step = losses.detach()
        gradient_of = partial(
            torch.autograd.grad, losses.sum(), list(theta.values()), materialize_grads=True
        )
        with refuse_recomputation(self.net):
            found = gradient_of(create_graph=keep or check)
            # rounded as in a later step: a resumed run checks in another iteration than one
            # without a stop
            grads = found if keep or not check else gradient_of(retain_graph=True)
        self.unchecked = False
        if check:
            require_derivative(self, found, theta, buffers, pair, keep)
        return dict(zip(theta, grads, strict=True)), new_buffers

    def step(
        self,
        t: int,
        theta: Theta,
        state: State,
        buffers: Theta,
        pair: tuple[Tensor, Tensor],
        eta: Tensor,
    ) -> tuple[Theta, State, Theta]:
        """Phi_t: differentiable in theta, state, pair and eta when gradients are on, else without a
        graph.

        Args:
            eta: (), or (P,) with one entry for each tensor of theta in order.
        """
        rates: Eta = dict(zip(theta, eta.unbind(), strict=True)) if eta.dim() else eta
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            if not keep:
                theta, pair = (
                    {k: p.detach() for k, p in theta.items()},
                    (pair[0].detach(), pair[1].detach()),
                )
            theta = {
                k: p if p.requires_grad else p.detach().requires_grad_() for k, p in theta.items()
            }
            grads, buffers = self.gradient(theta, buffers, t, pair, keep)
        new, state = self.update.step(theta, grads, state, rates)
        theta = {k: new[k] for k in theta}  # a rule may return any order; step sizes go by this one
        return theta, state, {k: b.detach() for k, b in buffers.items()}


def to_ordinary(tensors: Any) -> Any:
    """A tensor, or tensors by name, with clones of those made under `torch.inference_mode()`, which
    no graph can hold."""
    if isinstance(tensors, Tensor):
        return tensors.clone() if tensors.is_inference() else tensors
    return {k: to_ordinary(x) for k, x in tensors.items()}


def mark_foreign_draws(net: nn.Module) -> None:
    """Remember that a net draws from numpy's or Python's global generator."""
    _DRAW_ELSEWHERE.add(net)


# what a pass of these nets was found to do
_DRAW_ELSEWHERE: weakref.WeakSet[nn.Module] = weakref.WeakSet()
_LEAVE_PARAMETERS: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def _clones(buffers: Theta) -> Theta:
    return {k: b.clone() for k, b in buffers.items()}


def is_equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal, NaN to NaN."""
    return (
        a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())
    )
