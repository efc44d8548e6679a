"""The inner problem: one training step of a net on distilled images, as a pure map.

    Phi_t : (theta, state, buffers; images_t, labels_t, eta_t) -> (theta, state, buffers)

    g          = grad_theta loss(net(theta, images_t), labels_t)
    theta', s' = update.step(theta, g, state, eta_t)

The net is used statelessly (torch.func.functional_call): tensors it holds are never written. Several nets of
one architecture train at once when every entry of theta carries one leading axis of nets: the forward pass
is vmapped over it and the losses are summed, so that one `autograd.grad` gives each net its own gradient.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from datadistill.errors import UsageError, nearest
from datadistill.innerloop.layer_faults import name_missing, refusal
from datadistill.innerloop.second_derivatives import TwiceDifferentiable
from datadistill.innerloop.steps import Steps
from datadistill.innerloop.update_rules import Eta, State, Theta, UpdateRule
from datadistill.streams import global_stream

Loss = Callable[[Tensor, Tensor], Tensor]


class NetMode:
    """The modes of a net's layers during a forward pass, put in place for that pass alone.

    `with mode: ...` sets every layer's training flag to what it was when the mode was made (all off with
    `training=False`) and BatchNorm as `norm` says, and puts everything back. The module objects stay the
    caller's own, so its forward hooks run; its parameters and buffers are never written.

    Args:
        net: any module.
        norm: "batch": BatchNorm uses statistics of the batch, and has no buffers meanwhile; "frozen": its
            buffers; "track": statistics of the batch, and buffers are updated where they are passed in.
        training: False puts all other layers in evaluation mode (dropout off).
    """

    def __init__(self, net: nn.Module, norm: str, training: bool = True) -> None:
        if norm not in ("batch", "frozen", "track"):
            raise UsageError(f"norm is {norm!r}; {nearest(norm, ('batch', 'frozen', 'track'))}")
        norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
        own = {id(m): norm != "frozen" or m.running_mean is None for m in norms}
        self.flags = [(m, own.get(id(m), m.training and training)) for m in net.modules()]
        self.without_buffers = [m for m in norms if norm == "batch" and m.track_running_stats]
        self._back: list[tuple[nn.Module, dict[str, Any]]] = []

    def __enter__(self) -> None:
        self._back = [(m, {"training": m.training}) for m, flag in self.flags if m.training != flag]
        self._back += [(m, {k: getattr(m, k) for k in _BATCHNORM}) for m in self.without_buffers]
        for m, flag in self.flags:
            m.training = flag
        for m in self.without_buffers:
            m.track_running_stats = False
            m.running_mean = m.running_var = m.num_batches_tracked = None

    def __exit__(self, *_: object) -> None:
        for m, attributes in self._back:
            for name, value in attributes.items():
                setattr(m, name, value)


def has_passed(problem: InnerProblem) -> bool:
    """Whether a step of this net, loss and mode was differentiated before."""
    return _key(problem) in _PASSED.get(problem.net, ())


def require_derivative(
    problem: InnerProblem,
    grads: Sequence[Tensor],
    theta: Theta,
    buffers: Theta,
    pair: tuple[Tensor, Tensor],
    keep: bool,
) -> None:
    """UsageError, with the layer and the reason, where torch cannot differentiate a step's gradient.

    Args:
        problem: whose step it is.
        grads: grad_theta of the loss, with their graph.
        theta, buffers, pair: what they were computed from.
        keep: whether their graph will be used again.
    """
    reason = refusal(grads, list(theta.values()), keep)
    if reason is None:
        _PASSED.setdefault(problem.net, set()).add(_key(problem))
        return
    own = {name: p.dim() for name, p in problem.net.named_parameters()}
    own |= {name: b.dim() for name, b in problem.net.named_buffers()}
    tensors = {**problem.frozen, **theta, **buffers}
    one = {k: x[0] if x.dim() > own.get(k, x.dim()) else x for k, x in tensors.items()}
    named = name_missing(problem.net, one, *pair, problem.loss, problem.mode, reason)
    raise UsageError(
        f"{named}; differentiating through training needs second derivatives: use another layer there, or "
        "train without gradients (torch.no_grad)"
    )


def _key(problem: InnerProblem) -> tuple[str, str, bool]:
    name = getattr(problem.loss, "__qualname__", type(problem.loss).__name__)
    return (name, problem.norm, problem.net.training)


_PASSED: weakref.WeakKeyDictionary[nn.Module, set[tuple[str, str, bool]]] = weakref.WeakKeyDictionary()

_BATCHNORM = ("track_running_stats", "running_mean", "running_var", "num_batches_tracked")


def stacked_nets(net: nn.Module, theta: Theta) -> int | None:
    """How many nets theta stacks along a leading axis; None when it is one net's own shapes."""
    own = {name: p.shape for name, p in net.named_parameters()}
    counts: set[int | None] = set()
    for name, p in theta.items():
        if name not in own:
            raise UsageError(f"theta_0 has {name!r}, which the net does not; {nearest(name, own)}")
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
    """Everything a step needs except what changes from step to step. Adjoints call `step`."""

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
        self.nets = stacked_nets(net, theta_0)
        self.net, self.mode = net, NetMode(net, norm)
        self.steps, self.update, self.loss, self.norm = steps, update, loss, norm
        self.frozen = {k: p.detach() for k, p in net.named_parameters() if k not in theta_0}
        if stream is None and any(isinstance(m, _DropoutNd) and m.training and m.p for m in net.modules()):
            stream = int(torch.randint(2**31, ()))  # one draw of the global generator, as dropout itself does
        self.stream = stream
        self.twice = TwiceDifferentiable(net)
        self.unchecked = False  # whether the next gradient must be found to have a derivative
        self.given_buffers = bool(buffers)
        everything = dict(net.named_buffers())
        for k in buffers or {}:
            if k not in everything:
                raise UsageError(f"buffers has {k!r}, which the net does not; {nearest(k, everything)}")
        with self.mode:  # the buffers that the net has in this mode
            own = dict(net.named_buffers())
        given = {k: b for k, b in (buffers or {}).items() if k in own}
        self.buffers_0 = {k: b.detach() for k, b in {**own, **given}.items()}
        if norm == "track":
            nets = () if self.nets is None else (self.nets,)
            self.buffers_0 = {
                k: b.expand((*nets, *own[k].shape)).clone() if b.dim() == own[k].dim() else b.clone()
                for k, b in self.buffers_0.items()
            }

    def losses(self, theta: Theta, buffers: Theta, images: Tensor, labels: Tensor) -> Tensor:
        """Loss of the batch, one entry a net where nets are stacked. `buffers` may be written."""

        def one(theta: Theta, buffers: Theta) -> Tensor:
            with self.twice:
                with self.mode:
                    logits = functional_call(self.net, (theta, self.frozen, buffers), (images,))
                return self.loss(logits, labels)

        if self.nets is None:
            return one(theta, buffers)
        axis = 0 if self.norm == "track" else None
        # the same masks for every net, as each would draw alone
        return vmap(one, in_dims=(0, axis), randomness="same")(theta, buffers)

    def seeded(self, t: int, forward: Callable[[], Tensor]) -> Tensor:
        """Run step t's forward pass with the dropout masks of its stream."""
        if self.stream is None:
            return forward()
        with global_stream(self.stream, "dropout", t):
            return forward()

    def gradient(self, theta: Theta, buffers: Theta, t: int, pair: tuple[Tensor, Tensor], keep: bool) -> Theta:
        """grad_theta of step t's loss; with `keep`, itself differentiable.

        Raises:
            UsageError: the gradient has no derivative, and will need one.
        """
        check = self.unchecked and not has_passed(self)
        before = {k: b.clone() for k, b in buffers.items()} if check else {}
        loss = self.seeded(t, lambda: self.losses(theta, buffers, *pair))
        grads = torch.autograd.grad(
            loss.sum(), list(theta.values()), create_graph=keep or check, materialize_grads=True
        )
        self.unchecked = False
        if check:
            require_derivative(self, grads, theta, before, pair, keep)
            grads = grads if keep else tuple(g.detach() for g in grads)
        return dict(zip(theta, grads, strict=True))

    def step(
        self, t: int, theta: Theta, state: State, buffers: Theta, pair: tuple[Tensor, Tensor], eta: Tensor
    ) -> tuple[Theta, State, Theta]:
        """Phi_t: differentiable in theta, state, pair and eta when gradients are on, else without a graph.

        Args:
            eta: (), or (P,) with one entry for each tensor of theta in order.
        """
        rates: Eta = dict(zip(theta, eta.unbind(), strict=True)) if eta.dim() else eta
        keep = torch.is_grad_enabled()
        new_buffers = {k: b.clone() for k, b in buffers.items()}  # modules may write to these
        with torch.enable_grad():
            if not keep:
                theta, pair = {k: p.detach() for k, p in theta.items()}, (pair[0].detach(), pair[1].detach())
            theta = {k: p if p.requires_grad else p.detach().requires_grad_() for k, p in theta.items()}
            grads = self.gradient(theta, new_buffers, t, pair, keep)
        new, state = self.update.step(theta, grads, state, rates)
        theta = {k: new[k] for k in theta}  # a rule may return any order; step sizes go by this one
        if self.norm == "track":
            buffers = {k: b.detach() for k, b in new_buffers.items()}
        return theta, state, buffers
