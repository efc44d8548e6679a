"""The T steps of a distilled set, taken by a net from its own values, and what they took."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from datadistill.data import RealData
from datadistill.distilled import DistilledDataset
from datadistill.distilled_training import take_steps, warn_of_other_start
from datadistill.errors import NumericalError, UsageError
from datadistill.evaluation.own_data import check_data
from datadistill.innerloop import LOSSES, unroll_with_buffers
from datadistill.nets import has_batchnorm
from datadistill.nets.copying import copy_net
from datadistill.nets.fits import check_fits
from datadistill.nets.spec import CUSTOM
from datadistill.nets.trained_parameters import select_trained
from datadistill.pretrained_values import is_given_by
from datadistill.runs.tensors import is_finite
from datadistill.theta import Theta, put
from datadistill.training.adapted_net import FineTuning
from datadistill.training.ordinary_finetuning import percent_of, read_clock


def tune_net(d: DistilledDataset, net: nn.Module, data: RealData, *, seed: int) -> FineTuning:
    """Take a set's steps with a copy of a net, on the device of the data; see `finetune`."""
    start = select_trained(copy_net(net), d.trained)
    if not any(p.requires_grad for p in start.parameters()):
        raise UsageError(
            "no parameter of the net requires a gradient, so there is nothing to "
            "train; unfreeze some"
        )
    check_fits(net, tuple(d.images.shape[1:]), len(d.classes))
    check_data(d, data)
    d, start = d.to(data.device), start.to(data.device)
    norm = d.norm
    if d.own and is_given_by(d, start):
        put(start, d.own_values)  # a fresh last layer, or statistics, that the set was learned with
        norm = "reestimated" if d.has_reestimated_statistics else norm
    theta_0 = {k: p.detach() for k, p in start.named_parameters() if p.requires_grad}
    warn_of_other_start(d, start, theta_0, stacklevel=6)  # where `finetune` is called
    _warm_up(d, start, theta_0)
    began = read_clock(data.device)
    trained = take_steps(d, start, theta_0, seed=seed)
    seconds = read_clock(data.device) - began
    _refuse_not_finite(d, trained)
    before, after = (percent_of(one, data.test) for one in (start, trained))
    return FineTuning(
        net=trained,
        start=start,
        accuracy_before=before,
        accuracy_after=after,
        steps=d.schedule.steps,
        seconds=seconds,
        norm=norm if has_batchnorm(start) else None,
        dropout=any(isinstance(m, _DropoutNd) and m.training and m.p > 0 for m in start.modules()),
        dataset=data.name,
        description=data.description,
        meta={
            "net": d.net if _is_of(d, trained) else CUSTOM,
            "classes": d.classes,
            "normalization": d.normalization,
            "accuracies": {"before": before, "after": after, "dataset": data.name, "split": "test"},
        },
    )


def _refuse_not_finite(d: DistilledDataset, trained: nn.Module) -> None:
    if broken := [k for k, p in trained.named_parameters() if not is_finite(p)]:
        raise NumericalError(
            f"after the set's {d.schedule.steps} steps {broken[0]} is not finite: its step sizes, "
            f"up to {float(d.step_sizes.max()):.3g}, are too large for this net; use one like "
            "those it was made for"
        )


def _warm_up(d: DistilledDataset, net: nn.Module, theta_0: Theta) -> None:
    """One step that counts for nothing: the first of a process pays for imports and memory."""
    with torch.no_grad():
        unroll_with_buffers(
            net,
            theta_0,
            d.steps().part(0, 1),
            torch.zeros(1, device=d.images.device),
            d.update,
            loss=LOSSES[d.loss],
            norm=d.norm,
            stream=0,
        )


def _is_of(d: DistilledDataset, net: nn.Module) -> bool:
    """Whether the net is of the architecture the set was learned with."""
    if d.net.name == CUSTOM:
        return False
    with torch.device("meta"):
        own = d.net.build().state_dict()
    return {k: x.shape for k, x in own.items()} == {k: x.shape for k, x in net.state_dict().items()}
