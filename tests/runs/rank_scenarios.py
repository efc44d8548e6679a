"""Runs of several ranks, for `test_ranks.py`: `rank_scenarios.py FOLDER`, once for each rank."""

import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

import datadistill as dd
import kd_baselines as kd
from datadistill.errors import DatadistillError, Interrupted, NumericalError
from datadistill.recipes import recipe
from datadistill.runs.ranks import join
from datadistill.training.outer import OuterLoop

METHODS = {
    "unrolled": {},
    "distribution-matching": {},
    "gradient-matching": {"method_args": {"outer": 4, "inner": 2}},
    "kernel-regression": {"method_args": {"pool_size": 3, "max_age": 10}, "labels": "soft"},
}
STOP = 6  # the iteration, from 0, of a signal; within a round of gradient matching
TESTED = 9  # one that is followed by a test


def config(method):
    return recipe("digits-random").with_changes(
        method=method,
        theta_0="random",
        init="xavier",
        nets=2,
        iterations=20,
        ipc=2,
        batch=24,
        validate_every=10,
        validate_nets=12,  # two chunks
        optimizer="sgd",  # without the signs of small gradients, which rounding may change
        momentum=0.0,
        lr_images=0.02,
        **METHODS[method],
    )


def parts():
    """Data and a net without kinks."""
    images = torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(120) % 3
    data = dd.RealData.from_tensors(
        images, labels, test_images=images[:30], test_labels=labels[:30]
    )
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()
    return {"data": data, "net": nn.Sequential(*layers, nn.Linear(64, 3))}


def learn(method, out, **given):
    return dd.distill(None if given else config(method), out=out, **parts(), **given)


def stop_at(iteration, act):
    """Let `act` happen before the loop takes this iteration."""
    advance = OuterLoop.advance

    def wrapped(self):
        if self.iteration == iteration:
            act(self)
        return advance(self)

    OuterLoop.advance = wrapped
    return lambda: setattr(OuterLoop, "advance", advance)


def interrupt(method, out, at=STOP):
    """A run that a signal to this process stops after the iteration `at`, from 0."""
    undo = stop_at(at, lambda loop: signal.raise_signal(signal.SIGTERM))
    try:
        learn(method, out)
    except Interrupted as stopped:
        return str(stopped)
    finally:
        undo()


def compare(out):
    changes = {"epochs": 1, "teacher_epochs": 1}
    kd.compare("methods-mnist5k", arms=["own", "attention"], seeds=2, changes=changes, out=out)


def fail(loop):
    def loss(*given):
        raise NumericalError("the loss became nan")

    loop.method.loss = loss


def main(folder):
    with join() as ranks:
        last = ranks.rank == ranks.size - 1
        for method in METHODS:
            learn(method, folder / method)
            learn(method, folder / f"{method}-again")
            for at in (STOP, TESTED):
                out = folder / f"{method}-stopped-{at}"
                if last:  # the signal comes to one alone
                    interrupt(method, out, at)
                    continue
                try:
                    learn(method, out)
                except Interrupted as stopped:
                    out.with_suffix(".txt").write_text(str(stopped))
            learn(method, folder / f"{method}-alone", resume=True)  # which one process began
        compare(folder / "compared")
        undo = stop_at(2, fail if last else lambda loop: None)
        try:
            learn("unrolled", folder / "failed")
        except DatadistillError as error:
            (folder / f"failed-{ranks.rank}.txt").write_text(f"{type(error).__name__}: {error}")
        undo()
        stop_at(2, (lambda loop: os._exit(9)) if last else lambda loop: None)
        try:
            learn("unrolled", folder / "lost")
        except DatadistillError as error:
            (folder / f"lost-{ranks.rank}.txt").write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
