"""Plain training on real data: the one loop for pools, full fine-tuning, teachers and students.

Step s of an epoch of S = ceil(n / batch) steps takes the s-th part of that epoch's shuffled order;
the parts are as even as n allows. With net number k, epoch e and step s from the start,

    order      the stream (seed, "fit_order", k, e)
    augment    the stream (seed, "fit_augment", k, s)
    dropout    the stream (seed, "fit_dropout", s)

so a fit can stop and resume at any step, and net k trains alike alone and beside others, up to
rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import vmap

from datadistill.data import Split, augment
from datadistill.errors import DataError, NumericalError, UsageError
from datadistill.nets.fits import refuse_script
from datadistill.nets.functional import call_with
from datadistill.nets.logits import cross_entropy, explain_failure
from datadistill.precision import passes_in, whole
from datadistill.runs.signals import poll
from datadistill.streams import generator, get_other_generators, global_stream, is_same_state
from datadistill.training.fit_plan import OPTIMIZERS, FitPlan

__all__ = ["Batch", "Fit", "lay_out", "of_module", "of_stack", "train_mode"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits, labels) -> mean over the batch."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Real images (B,C,H,W) of one step, augmented, their labels (B,), and their places in the
    split (B,), for what is cached by image. With N nets side by side every tensor has a leading
    axis of N."""

    images: Float[Tensor, "*n b c h w"]
    labels: Int[Tensor, "*n b"]
    index: Int[Tensor, "*n b"]


class Fit:
    """The loop, one step at a time: `while not fit.is_done: fit.advance()`.

    Args:
        tensors: name -> tensor, changed in place and kept in `state()`: leaves that require a
            gradient are trained, the others (buffers) are what the loss makes of them.
        loss: of a `Batch`: () for one net, (N,) with one entry a net for several; summed before the
            gradient.
        split: real images, on the device of the tensors.
        plan: how to train.
        groups: parameter groups of the optimizer over these tensors, each with an `lr` of its own
            if it wants; default: one group of all that are trained.
        seed: of every stream.
        nets: the number of the net, or the numbers of the nets that stand along the tensors'
            leading axis.

    Example:
        >>> split = Split(torch.tensor([[[[1.0]]], [[[3.0]]]]), torch.tensor([0, 1]))
        >>> w = torch.zeros((), requires_grad=True)
        >>> plan = FitPlan(epochs=50, optimizer="sgd", lr=0.1, momentum=0.0)
        >>> fit = Fit({"w": w}, lambda batch: (batch.images - w).square().mean(), split, plan)
        >>> while not fit.is_done:
        ...     loss = fit.advance()
        >>> round(w.item(), 3)  # the mean of the images
        2.0
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        loss: Callable[[Batch], Tensor],
        split: Split,
        plan: FitPlan,
        *,
        groups: Sequence[Mapping[str, Any]] | None = None,
        seed: int = 0,
        nets: int | Sequence[int] = 0,
    ) -> None:
        if not len(split):
            raise DataError("there is no image to train on; pass a split that is not empty")
        self.tensors, self.loss, self.split, self.plan, self.seed = (
            dict(tensors),
            loss,
            split,
            plan,
            seed,
        )
        self.nets = nets
        every = [{"params": [p for p in self.tensors.values() if p.requires_grad]}]
        wanted = [dict(group) for group in (groups if groups is not None else every)]
        self.trained: list[Tensor] = [p for group in wanted for p in group["params"]]
        if not self.trained:
            raise UsageError(
                "no tensor requires a gradient, so there is nothing to train; unfreeze some"
            )
        # fused: one pass over memory, on CPU too; other devices may lack it, and torch 2.6 computes
        # a wrong step for tensors of half precision on the CPU
        whole = (torch.float32, torch.float64)
        fused = all(p.dtype in whole and p.device.type in ("cpu", "cuda") for p in self.trained)
        self.optimizer = OPTIMIZERS[plan.optimizer](wanted, plan, fused)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.steps_per_epoch = -(-len(split) // plan.batch)
        self.steps = plan.epochs * self.steps_per_epoch
        self.step = 0  # steps done
        self.every_generator: bool | None = (
            None  # whether the loss draws from numpy's or Python's; a step tells
        )
        self._orders: tuple[int, tuple[Tensor, ...]] | None = None  # the epoch's, in parts

    @property
    def is_done(self) -> bool:
        return self.step >= self.steps

    @property
    def epoch(self) -> int:
        """The epoch of the next step, from 0."""
        return self.step // self.steps_per_epoch

    def advance(self) -> Tensor:
        """One step. Returns the loss before it, () or (N,), detached.

        Raises:
            NumericalError: a loss that is not finite (nothing was updated), or parameters that are
                not after the last step.
        """
        poll()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.plan.factor(self.epoch)
        batch = self.batch(self.step)
        self.optimizer.zero_grad()
        with (
            global_stream(
                self.seed, "fit_dropout", self.step, everything=self.every_generator is not False
            ),
            passes_in(self.plan.precision, batch.images.device),
        ):
            loss = self._first_loss(batch) if self.every_generator is None else self.loss(batch)
        found = loss.detach()
        values = found.tolist()
        if not all(map(math.isfinite, values if found.dim() else (values,))):
            self._refuse(f"the loss became {values}")
        # into .grad and not by autograd.grad: there it takes the memory layout of the parameter,
        # which a fused optimizer relies on
        torch.autograd.backward(loss.sum() if loss.dim() else loss, inputs=self.trained)
        try:
            self.optimizer.step()
        except RuntimeError as error:  # a learning rate that a bias correction takes beyond float32
            if "overflow" not in str(error):
                raise
            self._refuse("the learning rate is beyond float32")
        self.step += 1
        if self.is_done and not all(bool(torch.isfinite(p).all()) for p in self.trained):
            self._refuse("the parameters are not finite")
        return found

    def _first_loss(self, batch: Batch) -> Tensor:
        """The loss, and whether numpy's and Python's generators must be seeded for it (2% of a
        small step)."""
        before = get_other_generators()
        loss = self.loss(batch)
        self.every_generator = not is_same_state(before, get_other_generators())
        return loss

    def batch(self, step: int) -> Batch:
        """The images of a step, from 0: a pure function of the seed and the nets' numbers."""
        epoch, part = divmod(step, self.steps_per_epoch)
        if self._orders is None or self._orders[0] != epoch:
            n, several = len(self.split), not isinstance(self.nets, int)
            orders = [
                torch.randperm(n, generator=generator(self.seed, "fit_order", k, epoch))
                for k in self._numbers
            ]
            index = torch.stack(orders) if several else orders[0]
            parts = index.to(self.split.labels.device).tensor_split(self.steps_per_epoch, dim=-1)
            self._orders = (epoch, parts)
        index = self._orders[1][part]
        images = self.split.images[index]
        if self.plan.augment:
            streams = [generator(self.seed, "fit_augment", k, step) for k in self._numbers]
            if isinstance(self.nets, int):
                images = augment(images, streams[0], self.plan.augment)
            else:
                several_images = zip(images, streams, strict=True)
                images = torch.stack(
                    [augment(x, stream, self.plan.augment) for x, stream in several_images]
                )
        return Batch(images, self.split.labels[index], index)

    @property
    def _numbers(self) -> Sequence[int]:
        return (self.nets,) if isinstance(self.nets, int) else self.nets

    def _refuse(self, what: str) -> None:
        rate = self.optimizer.param_groups[0]["lr"]
        raise NumericalError(
            f"step {self.step} of {self.steps}, learning rate {rate:g}: {what[:200]}; train with a "
            f"smaller learning rate (lr {self.rates[0] / 10:g}), and check that the "
            "images are finite"
        )

    def state(self) -> dict[str, Any]:
        tensors = {name: p.detach() for name, p in self.tensors.items()}
        return {"tensors": tensors, "optimizer": self.optimizer.state_dict(), "step": self.step}

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        for name, p in self.tensors.items():
            p.copy_(state["tensors"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        for p, held in self.optimizer.state.items():
            for name, value in held.items():
                if isinstance(value, Tensor) and name != "step" and value.shape == p.shape:
                    # in the memory layout of the parameter
                    held[name] = torch.empty_like(p, dtype=value.dtype).copy_(value)
        self.step = state["step"]


def of_module(
    net: nn.Module,
    split: Split,
    plan: FitPlan,
    *,
    seed: int = 0,
    number: int = 0,
    loss: Loss = cross_entropy,
) -> Fit:
    """The fit of a module, which is changed in place and put in training mode.

    A layer in evaluation mode inside a net in training mode stays as it is: it was frozen on
    purpose.
    """
    refuse_script(net)
    train_mode(net)
    lay_out(net, split.images.device)
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}

    def of_batch(batch: Batch) -> Tensor:
        with explain_failure(net, batch.images):
            logits = net(batch.images)
        return loss(whole(logits), batch.labels)

    return Fit(tensors, of_batch, split, plan, seed=seed, nets=number)


def of_stack(
    net: nn.Module,
    theta: Mapping[str, Tensor],
    split: Split,
    plan: FitPlan,
    *,
    seed: int = 0,
    numbers: Sequence[int],
    loss: Loss = F.cross_entropy,
) -> Fit:
    """The fit of several nets of one architecture in one vectorized pass. On a CPU the grouped
    convolutions that it makes are slower than net after net; it pays on accelerators and for tiny
    nets.

    Args:
        net: the architecture, without buffers that training writes; its values are not used.
        theta: name -> (N, ...) for every parameter; copied.
        numbers: the N nets' numbers.
        loss: what vmap can map: no look at values.
    """
    net.train()
    leaves = {name: p.detach().clone().requires_grad_() for name, p in theta.items()}

    def one(theta: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return loss(whole(call_with(net, theta, (images,))), labels)

    def losses(batch: Batch) -> Tensor:
        # the same dropout mask for every net, as each would draw alone
        return vmap(one, randomness="same")(leaves, batch.images, batch.labels)

    return Fit(leaves, losses, split, plan, seed=seed, nets=tuple(numbers))


def train_mode(net: nn.Module) -> None:
    """Put a net in training mode, unless it is in it: layers in evaluation mode were then frozen on
    purpose."""
    if not net.training:
        net.train()


def lay_out(net: nn.Module, device: torch.device | None) -> None:
    """Put the weights of convolutions in the memory layout that trains fastest on a device
    (channels last on a CPU, two thirds of the time), or with None back in the usual one; their
    values stay."""
    fast = device is not None and device.type == "cpu"
    layout = torch.channels_last if fast else torch.contiguous_format
    for p in net.parameters():
        if p.dim() == 4:
            p.data = p.data.contiguous(memory_format=layout)
