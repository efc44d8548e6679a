"""Training on a distilled set: where a net starts, the T steps, and the net that comes of them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from datadistill.innerloop.losses import LOSSES
from datadistill.innerloop.unroll import unroll_with_buffers
from datadistill.nets import has_batchnorm, reestimate
from datadistill.nets.copying import bare_net, copy_net
from datadistill.nets.factory import NetFactory, as_module
from datadistill.nets.fits import check_fits
from datadistill.nets.trained_parameters import EVERY, select_trained
from datadistill.pretrained_values import describe, is_given_by, refuse_incomplete
from datadistill.starts import Random
from datadistill.theta import Theta, is_same, net_with, put
from datadistill.torch_defaults import use_library_defaults

if TYPE_CHECKING:
    from datadistill.distilled import DistilledDataset


def train_on(
    d: DistilledDataset, net: nn.Module | NetFactory | None, theta_0: Theta | None, seed: int
) -> nn.Module:
    """See `DistilledDataset.train`."""
    if not d.is_complete and theta_0 is None:
        if not isinstance(net, nn.Module):
            refuse_incomplete(d)
        return d.with_weights(net).train(net, seed=seed)
    own = d.build() if net is None else bare_net(as_module(net, seed, "train_theta_0", 0, 0))
    if net is not None:
        check_fits(own, tuple(d.images.shape[1:]), len(d.classes))
        if d.trained != EVERY:
            own = select_trained(copy_net(own), d.trained)
    if net is not None and theta_0 is None and d.buffers and d.is_for(own):
        own = copy_net(own)
        put(own, d.buffers)
    if net is None and theta_0 is None and d.theta_0 is None and d.start.kind == "pool":
        warnings.warn(
            f"this set was learned for nets pretrained on {d.start.source}, and training "
            "starts from a fresh draw: expect little; pass your pretrained net",
            stacklevel=4,
        )
    start = find_start(d, own, net is None, seed) if theta_0 is None else theta_0
    warn_of_other_start(d, own, start, stacklevel=5)
    return take_steps(d, own, start, seed=seed)


def warn_of_other_start(
    d: DistilledDataset, net: nn.Module, theta_0: Theta, stacklevel: int = 2
) -> None:
    """Warn where a set for one initialization would start from another."""
    if not is_own_start(d, net, theta_0):
        if d.by_reference:
            said = f"this set was learned for {describe(d)}; from other values expect little of it"
        else:
            said = (
                "this set was learned for one fixed initialization, and the net starts from "
                "another: expect about chance accuracy; leave net and theta_0 out to start from "
                "the one it carries"
            )
        warnings.warn(said, stacklevel=stacklevel)


@use_library_defaults()
def take_steps(d: DistilledDataset, net: nn.Module, theta_0: Theta, *, seed: int = 0) -> nn.Module:
    """The T steps of `train` from theta_0, without its checks: a new net."""
    set_ = d.to(next(iter(theta_0.values()), d.images).device)
    with torch.no_grad():
        theta_T = unroll_with_buffers(
            net,
            theta_0,
            set_.steps(seed),
            step_sizes_for(set_, theta_0),
            d.update,
            loss=LOSSES[d.loss],
            norm=d.norm,
            stream=seed,
        )
    return finish(set_, net, theta_T)


def is_own_start(d: DistilledDataset, net: nn.Module, theta_0: Theta) -> bool:
    """Whether these are the values that a set for one initialization was learned for."""
    if not d.is_complete:  # judged by their checksum
        own = {k: x for k, x in d.own_values.items() if k in theta_0}
        return is_same({k: theta_0[k] for k in own}, own) and is_given_by(d, net_with(net, theta_0))
    return d.theta_0 is None or is_same(theta_0, d.theta_0)


def find_start(d: DistilledDataset, net: nn.Module, built: bool, seed: int) -> Theta:
    """The values that a net starts from: those that the set carries, a fresh draw of a net that was
    built for it, or the net's own."""
    values = {k: p.detach() for k, p in net.named_parameters() if p.requires_grad}
    if d.theta_0 is not None and d.is_for(net):
        device = next(iter(values.values())).device
        return {k: p.to(device) for k, p in d.theta_0.items()}
    return Random(net, d.net.init, seed, "train_theta_0").draw(0) if built else values


def finish(d: DistilledDataset, net: nn.Module, theta_T: Theta) -> nn.Module:
    """A copy of `net` with trained parameters, from `unroll_with_buffers`, and buffers that fit
    them."""
    trained = copy_net(net)
    owners = dict(trained.named_modules())
    with torch.no_grad():
        for name, p in trained.named_parameters():
            p.grad = None
            if name in theta_T:
                p.copy_(theta_T[name])
        for name, b in trained.named_buffers():
            if name in theta_T:  # its shape may be another
                owner, _, own = name.rpartition(".")
                owners[owner]._buffers[own] = theta_T[name].to(b.device).clone()
    if has_batchnorm(trained) and d.norm == "batch":
        # one pass over all steps
        reestimate(trained, [d.images[i] for i in d.schedule.batches])
    return trained


def step_sizes_for(d: DistilledDataset, theta: Theta) -> Tensor:
    """Step sizes fit for a net with these tensors: (T, P) columns go by name; where the names
    differ, each step's geometric mean serves all tensors, and this says so."""
    if d.step_sizes.dim() == 1 or d.tensors is None or tuple(theta) == d.tensors:
        return d.step_sizes
    if set(theta) <= set(d.tensors):
        return d.step_sizes[:, [d.tensors.index(k) for k in theta]]
    warnings.warn(
        f"the set has one step size for each tensor of {d.net.name}, and this net has "
        "others: using each step's geometric mean for all of them",
        stacklevel=3,
    )
    return d.step_sizes.log().mean(dim=1).exp()
