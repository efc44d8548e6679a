"""Ordinary fine-tuning, observed as it runs: what the steps of a distilled set are compared with.

Adam on batches of the whole training split, from the values that the set's steps start from. The
same parameters train, and every layer is in the mode that it has in the set's steps: BatchNorm with
its own statistics where the set was learned with norm "frozen", dropout on where it is on there.
BatchNorm otherwise uses the statistics of each batch and keeps torch's running averages.

Copies of the net are kept of four moments:

    same steps      after as many steps as the set has
    same seconds    after the last step that ends within the seconds of the set's steps
    reached         at the first test where it is as good as the adapted net on the validation split
    best            where it is best on the validation split, of equals the last: "in the end"

Time for tests and copies is not counted. The validation split alone decides; whoever reads the test
split does so after the run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import nn

from datadistill.data import RealData, Split
from datadistill.errors import NumericalError, UsageError
from datadistill.evaluation.accuracy import Poll, accuracy
from datadistill.innerloop.net_mode import NetMode
from datadistill.nets.copying import copy_net
from datadistill.progress import iterate
from datadistill.training.fit import fit
from datadistill.training.fit_plan import FitPlan

RATES = (3e-5, 1e-4, 3e-4, 1e-3)
"""Learning rates that "auto" chooses from."""


@dataclass(frozen=True)
class Moment:
    """The net after some steps of a run, and what it took to get there."""

    steps: int
    seconds: float
    """Of training."""
    lr: float
    net: nn.Module = field(repr=False)


@dataclass(frozen=True)
class OrdinaryRun:
    """What became of a run of ordinary fine-tuning, or of the best of several learning rates at
    each moment."""

    same_steps: Moment | None
    """None where the run has fewer steps than the set."""
    same_seconds: Moment
    best: Moment
    reached: Moment | None
    """None where it was not as good."""
    seconds: float
    """Of training, to the last step."""


@dataclass(frozen=True)
class Observed:
    """When a run is looked at, and when it ends."""

    set_steps: int
    """Steps of the set."""
    set_seconds: float
    """That they took."""
    wanted: float
    """Percent of the validation split that the adapted net has right."""
    max_steps: int
    """Steps of the run in all."""
    every: int
    """Steps between tests on the validation split."""


def run_ordinary(
    net: nn.Module,
    data: RealData,
    observed: Observed,
    *,
    norm: str,
    lr: float | str,
    batch: int,
    seed: int,
    poll: Poll | None = None,
) -> OrdinaryRun:
    """Fine-tune a copy of a net on `data.train` in the ordinary way.

    Args:
        net: where it starts, on the device of `data`; never changed.
        data: the target data, with validation images.
        observed: when it is looked at.
        norm: what BatchNorm uses, as in the set's steps.
        lr: of Adam; "auto" makes a run with each of `RATES`, and takes for each moment the run that
            was best then on the validation split.
        batch, seed: images a step; of the batches and of dropout.
        poll: called before every step, for signals.
    """
    if isinstance(lr, str) and lr != "auto":
        raise UsageError(f"lr is {lr!r}, wanted a learning rate or 'auto'")
    start = with_modes_of_steps(net, norm)
    per_epoch = -(-len(data.train) // batch) if batch >= 1 else 1  # FitPlan refuses such a batch
    epochs = -(-observed.max_steps // per_epoch)
    rates = RATES if isinstance(lr, str) else (lr,)
    plans = [FitPlan(epochs=epochs, batch=batch, lr=rate) for rate in rates]
    # a first step pays for imports and for memory, which is not what is compared
    fit(start, data.train, plans[0], seed=seed, on_step=lambda step, net: True)
    runs: list[OrdinaryRun] = []
    for plan in iterate(plans, "learning rates", len(plans)) if plans[1:] else plans:
        watch = Watch(observed, start[0], data.validation, plan.lr)
        try:
            fit(start, data.train, plan, seed=seed, on_step=watch.observe, poll=poll)
        except NumericalError:  # of a rate of several, the others count
            if plan is plans[-1] and not runs:
                raise
            continue
        runs.append(watch.result())
    return runs[0] if len(runs) == 1 else merge_runs(runs, data.validation)


def with_modes_of_steps(net: nn.Module, norm: str) -> nn.Sequential:
    """A copy of a net in the modes that its layers have in the set's steps. It stands inside a
    container in training mode, so that `fit` leaves these modes as they are."""
    twin = copy_net(net)
    for module, training in NetMode(twin, norm).flags:
        module.training = training
    container = nn.Sequential(twin)
    container.training = True
    return container


class Watch:
    """Observes one run: its clock, which starts now, and the moments that are kept."""

    def __init__(self, observed: Observed, start: nn.Module, validation: Split, lr: float) -> None:
        self.observed, self.validation = observed, validation
        untrained = Moment(0, 0.0, lr, start)
        self.best = self.same_seconds = self.last = untrained
        self.best_percent = percent_of(start, validation)
        self.reached = untrained if self.best_percent >= observed.wanted else None
        self.same_steps: Moment | None = None
        self.device = validation.images.device
        self.apart = 0.0  # seconds of tests and copies
        self.began = read_clock(self.device)

    def observe(self, step: int, container: nn.Module) -> bool:
        """After a step: keep what is to be kept, and say whether it was the last."""
        now = read_clock(self.device)
        net = cast(nn.Sequential, container)[0]
        self.last = replace(self.last, steps=step, seconds=now - self.began - self.apart, net=net)
        self.keep(self.last)
        self.apart += read_clock(self.device) - now
        return step == self.observed.max_steps

    def result(self) -> OrdinaryRun:
        return OrdinaryRun(
            self.same_steps, self.same_seconds, self.best, self.reached, self.last.seconds
        )

    def keep(self, now: Moment) -> None:
        """Keep a copy of the net where this is one of the moments."""
        asked = self.observed
        is_tested = now.steps % asked.every == 0 or now.steps == asked.max_steps
        percent = percent_of(now.net, self.validation) if is_tested else -1.0
        is_best = percent >= self.best_percent
        is_reached = self.reached is None and percent >= asked.wanted
        is_in_time = now.seconds <= asked.set_seconds
        if not (is_best or is_reached or is_in_time or now.steps == asked.set_steps):
            return
        now = replace(now, net=copy_net(now.net))
        if is_best:
            self.best, self.best_percent = now, percent
        if is_reached:
            self.reached = now
        if is_in_time:
            self.same_seconds = now
        if now.steps == asked.set_steps:
            self.same_steps = now


def merge_runs(runs: Sequence[OrdinaryRun], validation: Split) -> OrdinaryRun:
    """The best of runs with several learning rates, for each moment by itself."""

    def choose(moments: Sequence[Moment]) -> Moment:
        return max(moments, key=lambda moment: percent_of(moment.net, validation))

    same_steps = [run.same_steps for run in runs if run.same_steps is not None]
    reached = [run.reached for run in runs if run.reached is not None]
    best = choose([run.best for run in runs])
    return OrdinaryRun(
        same_steps=choose(same_steps) if same_steps else None,
        same_seconds=choose([run.same_seconds for run in runs]),
        best=best,
        reached=min(reached, key=lambda moment: moment.steps) if reached else None,
        seconds=max(run.seconds for run in runs if run.best is best),
    )


def percent_of(net: nn.Module, split: Split) -> float:
    """Accuracy in percent of a net at its own values."""
    return accuracy(net, {k: p.detach() for k, p in net.named_parameters()}, split)


def read_clock(device: torch.device) -> float:
    """Seconds, when all work of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
