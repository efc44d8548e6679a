"""Time of an epoch of `kd.fit` as a ratio to a loop written by hand in plain torch.

The loop by hand: images and labels are tensors that each step indexes by a part of the epoch's
order, cross-entropy, SGD with momentum. Beside it `kd_baselines.fit` with labels alone, and with
soft targets of a cached teacher; and the loop by hand with the same soft targets, looked up and
written out, for what the loss alone costs. All train the same net on the same images with the same
number of steps. Repeats take the four in turn, in one process on one thread; a ratio is the median
over repeats of the ratio of processor times within a repeat.

    OMP_NUM_THREADS=1 python benchmarks/kd_epoch.py --repeats 9 [--epochs 2] [--nets lenet]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kd_baselines as kd
from datadistill.data import Split, load
from datadistill.training.fit_plan import FitPlan
from kd_baselines.nets import build

NETS = {  # name -> data set, architecture, its arguments
    "lenet": ("mnist5k", "lenet", {"channels": 1, "size": 28}),
    "convnet": ("mnist5k", "convnet", {"channels": 1, "size": 28, "width": 16}),
    "convnet-digits": ("digits", "convnet", {"channels": 1, "size": 8, "width": 16, "depth": 2}),
}
SGD = {"lr": 0.01, "momentum": 0.9}
T = 4.0
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits, labels, places of the images in the split) -> the loss of a step."""


def train_by_hand(net: nn.Module, split: Split, epochs: int, batch: int, loss: Loss) -> None:
    """The loop that a user would write."""
    net = copy.deepcopy(net).train()
    optimizer = torch.optim.SGD(net.parameters(), **SGD)
    for _ in range(epochs):
        for index in torch.randperm(len(split)).split(batch):
            images, labels = split.images[index], split.labels[index]
            optimizer.zero_grad()
            loss(net(images), labels, index).backward()
            optimizer.step()


def measure(name: str, batch: int, epochs: int, repeats: int) -> None:
    """Print a line a way of training."""
    data, architecture, args = NETS[name]
    split = load(data).train
    torch.manual_seed(0)
    net = build(architecture, classes=10, **args)
    teacher = kd.fit(net, split, kd.Stage("teacher", kd.CE(), FitPlan(epochs=2, batch=32)), seed=1)
    cached = kd.CachedTeacher(kd.Teacher(teacher), split)
    cached.complete()
    kept = cached.outputs(split.images, index=torch.arange(len(split))).logits
    plan = FitPlan(epochs=epochs, batch=batch, optimizer="sgd", **SGD)
    soft = kd.CE(weight=0.1) + kd.KD(T=T, weight=0.9)

    def cross_entropy(logits: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels)

    def soft_targets(logits: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        p, log_q = (kept[index] / T).softmax(1), (logits / T).log_softmax(1)
        divergence = F.kl_div(log_q, p, reduction="batchmean")
        return 0.1 * F.cross_entropy(logits, labels) + 0.9 * T**2 * divergence

    ways: dict[str, Callable[[], object]] = {
        "by hand, labels": lambda: train_by_hand(net, split, epochs, batch, cross_entropy),
        "kd.fit, labels": lambda: kd.fit(net, split, kd.Stage("labels", kd.CE(), plan)),
        "by hand, soft targets": lambda: train_by_hand(net, split, epochs, batch, soft_targets),
        "kd.fit, cached teacher": lambda: kd.fit(net, split, kd.Stage("soft", soft, plan), cached),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(repeats + 1):
        for way, train in ways.items():
            began = time.process_time()
            train()
            if repeat:  # the first warms up
                times[way].append((time.process_time() - began) / epochs)
    first = times["by hand, labels"]
    print(f"{name}, {len(split):,} images of {data}, batch {batch}")
    for way, found in times.items():
        ratio = statistics.median(t / p for t, p in zip(found, first, strict=True))
        print(f"  {way:24}{statistics.median(found):8.4f} s an epoch   {ratio:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=2, help="of each training")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--batches", nargs="+", type=int, default=[128, 32])
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, processor time on one thread")
    for name in args.nets:
        for batch in args.batches:
            measure(name, batch, args.epochs, args.repeats)


if __name__ == "__main__":
    main()
