"""Fine-tuning with a distilled set: the user's own net, T gradient steps.

Domain adaptation in use (Wang et al. 2018, sections 3.5 and 4.2): a set learned for pretrained nets
takes a net that was trained on the source data to the target data in its own T steps. Beside it
stands ordinary fine-tuning of the same net on the whole target training set, and the number of its
steps until it is as good. Both are compared on the validation split; the test split is read for the
two accuracies alone.

Reference: Wang et al., Dataset Distillation, 2018, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import nn

from datadistill.data import RealData, Split
from datadistill.device import resolve
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, NumericalError, UsageError
from datadistill.evaluation.accuracy import Poll, accuracy
from datadistill.evaluation.attack import get_attack
from datadistill.evaluation.own_data import check_data, load_own_data
from datadistill.nets.copying import copy_net
from datadistill.nets.spec import CUSTOM
from datadistill.nets.trained_parameters import select_trained
from datadistill.pretrained_values import is_given_by
from datadistill.progress import Report, show_progress
from datadistill.runs.artifact import Artifact, Content
from datadistill.theta import put
from datadistill.torch_defaults import use_library_defaults
from datadistill.training.fit import fit
from datadistill.training.fit_plan import FitPlan

ADAPTED = Artifact("net", command="datadistill finetune")


@dataclass(frozen=True)
class FineTuning:
    """A net adapted by a distilled set, and what it took; accuracies in percent of the test
    split."""

    net: nn.Module = field(repr=False)
    """The adapted net."""
    accuracy_before: float
    """Of the net as it was given."""
    accuracy_after: float
    """After the set's steps."""
    steps: int
    """The set's steps, T."""
    seconds: float
    """That they took."""
    steps_ordinary: int | None
    """Steps of ordinary fine-tuning until it was as good on the validation split; None where it was
    not, or where that was not asked for."""
    seconds_ordinary: float | None
    """That these took, or all `max_steps` where it was not as good; measuring apart."""
    max_steps: int | None
    """Most steps that ordinary fine-tuning had; None where it was not asked for."""
    dataset: str
    """The target data."""
    description: str
    """What is in it."""
    meta: dict[str, Any] = field(repr=False)
    """What goes into the net's file beside the tensors."""

    def as_dict(self) -> dict[str, Any]:
        """All fields but the net, as plain values."""
        return {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("net", "meta")
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the adapted net: a safetensors file of its parameters and buffers by name."""
        ADAPTED.save(Content(self.net.state_dict(), self.meta), path)


@use_library_defaults()
@show_progress
def finetune(
    d: DistilledDataset,
    net: nn.Module,
    *,
    data: RealData | None = None,
    data_root: str | None = None,
    device: str = "auto",
    reach: bool = True,
    max_steps: int = 1000,
    every: int = 10,
    lr: float = 1e-3,
    batch: int = 128,
    seed: int = 0,
    poll: Poll | None = None,
    progress: bool | Report = False,
) -> FineTuning:
    """Adapt a net in the set's T steps, and count the steps of ordinary fine-tuning that reach the
    same accuracy.

    The net starts from its own values, also where the set carries an initialization: a set learned
    for one fixed initialization is of use to that net alone, and this says so. Its images must be
    prepared with `d.normalization`.

    Args:
        d: the set.
        net: any module for images of this shape and these classes. It is never changed.
        data: the target data; default: the set's own, found by name.
        data_root: where data sets lie.
        device: auto, cpu or cuda.
        reach: count the steps of ordinary fine-tuning (Adam on the whole training split).
        max_steps, every: it stops after this many steps, and is measured whenever `every` more are
            done.
        lr, batch: its learning rate and images a step.
        seed: of its batches, and of dropout.
        poll: called before its steps, for signals.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it
            goes on.

    Raises:
        UsageError: a net that does not fit.
        DataError: data of other classes or another shape.
        NumericalError: the net's values are not finite after the steps.

    Example:
        >>> from datadistill.recipes import recipe
        >>> from datadistill.training import distill
        >>> d = distill(recipe("digits-random").with_changes(iterations=2))
        >>> finetune(d, d.net.build(), reach=False).steps
        10
    """
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"net is {net!r:.80}, wanted a torch module: fine-tuning starts from its values"
        )
    where = resolve(device)
    real = (data or load_own_data(d, data_root=data_root)).to(where)
    check_data(d, real)
    _warn_of_attack(d)
    start = select_trained(copy_net(net), d.trained).to(where)
    if not d.is_complete and is_given_by(d, start):
        put(start, d.carried)  # a fresh last layer that the set was learned with
    theta_0 = {k: p.detach() for k, p in start.named_parameters() if p.requires_grad}
    if not theta_0:
        raise UsageError(
            "no parameter of the net requires a gradient, so there is nothing to "
            "train; unfreeze some"
        )
    began = _read_clock(where)
    trained = d.train(start, theta_0, seed=seed)
    seconds = _read_clock(where) - began
    if broken := [k for k, p in trained.named_parameters() if not bool(torch.isfinite(p).all())]:
        raise NumericalError(
            f"after the set's {len(d.order)} steps {broken[0]} is not finite: its step sizes, up "
            f"to {float(d.step_sizes.max()):.3g}, are too large for this net; use one like "
            "those it was made for"
        )
    before, after = (_accuracy(one, real.test) for one in (start, trained))
    tuning = FineTuning(
        net=trained,
        accuracy_before=before,
        accuracy_after=after,
        steps=len(d.order),
        seconds=seconds,
        steps_ordinary=None,
        seconds_ordinary=None,
        max_steps=None,
        dataset=real.name,
        description=real.description,
        meta={
            "net": d.net if _is_of(d, trained) else CUSTOM,
            "classes": d.classes,
            "normalization": d.normalization,
            "accuracies": {"before": before, "after": after, "dataset": real.name, "split": "test"},
        },
    )
    if not reach:
        return tuning
    return count_ordinary(
        tuning,
        net,
        real,
        max_steps=max_steps,
        every=every,
        lr=lr,
        batch=batch,
        seed=seed,
        poll=poll,
    )


def count_ordinary(
    tuning: FineTuning,
    net: nn.Module,
    data: RealData,
    *,
    max_steps: int = 1000,
    every: int = 10,
    lr: float = 1e-3,
    batch: int = 128,
    seed: int = 0,
    poll: Poll | None = None,
) -> FineTuning:
    """Count the steps that ordinary fine-tuning of the same net needs; the arguments are those of
    `finetune`, `net` is the net it started from, and `data` is on the device of the adapted net."""
    for name, count in (("max_steps", max_steps), ("every", every)):
        if count < 1:
            raise UsageError(f"{name} is {count}, but at least 1 is needed")
    if not len(data.validation):
        raise DataError(
            f"{data.name} leaves no validation images to compare on; hold some out, or leave the "
            "comparison out (--no-reach)"
        )
    where = data.device
    start = copy_net(net).to(where)
    wanted = _accuracy(tuning.net, data.validation)
    if _accuracy(start, data.validation) >= wanted:
        return replace(tuning, steps_ordinary=0, seconds_ordinary=0.0, max_steps=max_steps)
    reached: list[int] = []
    measuring = 0.0

    def check_step(step: int, current: nn.Module) -> bool:
        nonlocal measuring
        if step % every and step != max_steps:
            return False
        began = _read_clock(where)
        if _accuracy(current, data.validation) >= wanted:
            reached.append(step)
        measuring += _read_clock(where) - began
        return bool(reached) or step == max_steps

    per_epoch = -(-len(data.train) // batch) if batch >= 1 else 1  # FitPlan refuses such a batch
    plan = FitPlan(epochs=-(-max_steps // per_epoch), batch=batch, lr=lr)
    # the first optimizer of a process imports for a second or two: not part of what is compared
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    began = _read_clock(where)
    fit(start, data.train, plan, seed=seed, on_step=check_step, poll=poll)
    seconds = _read_clock(where) - began - measuring
    return replace(
        tuning,
        steps_ordinary=reached[0] if reached else None,
        seconds_ordinary=seconds,
        max_steps=max_steps,
    )


def _accuracy(net: nn.Module, split: Split) -> float:
    return accuracy(net, {k: p.detach() for k, p in net.named_parameters()}, split)


def _is_of(d: DistilledDataset, net: nn.Module) -> bool:
    """Whether the net is of the architecture the set was learned with."""
    if d.net.name == CUSTOM:
        return False
    with torch.device("meta"):
        own = d.net.build().state_dict()
    return {k: x.shape for k, x in own.items()} == {k: x.shape for k, x in net.state_dict().items()}


def _warn_of_attack(d: DistilledDataset) -> None:
    if (pair := get_attack(d)) is not None:
        taken, target = (d.classes[k] for k in pair)
        warnings.warn(
            f"this set was learned to make a net take {taken} for {target} (a study of data "
            "poisoning): the net is meant to become worse on that class",
            stacklevel=4,
        )


def _read_clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
