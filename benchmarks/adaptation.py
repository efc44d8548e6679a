"""Adaptation of pretrained nets by a distilled set, against real images in as many steps.

A set is learned for the values of one pretrained net (`theta_0="given"`), or for a pool of nets,
and takes it to the target in T gradient steps. Beside it, with as many images of each class in as
many steps: random real images, and k-means centres. They train with the set's own learned step
sizes and rule, or with gradient descent and a step size of the grid, whichever is best on the
validation split; a second row has the grid alone. Seeds are whole repeats: another pretrained net,
another set, other draws. Learning is timed by the processor's clock. What was measured is in
docs/adaptation.md.

    python benchmarks/adaptation.py usps-to-mnist --out adaptation
    python benchmarks/adaptation.py cifar-halves --ipc 1 --out adaptation
    python benchmarks/adaptation.py cifar-pool --seeds 1 --out adaptation
    python benchmarks/adaptation.py squeezenet-to-cub --weights squeezenet1_0.pt --out adaptation
"""

from __future__ import annotations

import argparse
import functools
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import datadistill as dd
from datadistill.config import DistillConfig
from datadistill.data import Split
from datadistill.evaluation.baselines import (
    STEP_SIZES,
    Combination,
    give_training,
    real_set,
)
from datadistill.evaluation.choosing import Trial
from datadistill.evaluation.coresets import (
    BASELINES,
)
from datadistill.evaluation.tested_nets import find_any_start, start_of
from datadistill.nets import build, draw
from datadistill.nets.resnet import BasicBlock
from datadistill.runs.jsonconfig import dump_config
from datadistill.starts import nets_of
from datadistill.stats import mean, mean_interval, paired_difference
from datadistill.streams import generator, global_stream

GRID = (0.0001, 0.0003, *STEP_SIZES)
SELECTION_SETS = 2
CHOOSING_NETS, HELD_OUT = 3, 5
SELECTION_IMAGES = 150
"""Where the validation split has fewer, baselines are chosen on training images as well."""


@dataclass(frozen=True)
class Pretraining:
    """A fresh net of a seed, and the training that it goes through before it is adapted."""

    make: Callable[[int], nn.Module]
    source: Callable[[], dd.RealData]
    plan: dd.FitPlan


@dataclass(frozen=True)
class Experiment:
    """What is measured.

    Args:
        title: for the table's heading.
        target: loads the target's real data.
        pretraining: of the net of a seed; None where the config names one and its weights.
        configs: images a class -> the config of its set.
        pool: how many pretrained nets, in place of one a seed: each seed is another set for all of
            them. The last five are held out.
    """

    title: str
    target: Callable[[], dd.RealData]
    pretraining: Pretraining | None
    configs: dict[int, DistillConfig]
    pool: int | None = None


class SmallResNet(nn.Module):
    """Three blocks with BatchNorm of 16, 32 and 64 channels, each at half the side."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(
            BasicBlock(width, width, 2, "batch"),
            BasicBlock(width, 2 * width, 2, "batch"),
            BasicBlock(2 * width, 4 * width, 2, "batch"),
        )
        self.head = nn.Linear(4 * width, 5)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.blocks(self.norm(self.stem(images)).relu())
        return self.head(maps.mean((2, 3)))


def make_lenet(seed: int) -> nn.Module:
    net = build("lenet", channels=1, size=28, classes=10)
    net.load_state_dict(draw(net, "xavier", generator(seed, "pretrained")))
    return net


def make_resnet(seed: int) -> nn.Module:
    with global_stream(seed, "pretrained"):
        return SmallResNet()


@functools.cache
def load_half(first: int) -> dd.RealData:
    """The five classes of CIFAR-10 from this one on, with the normalization of all ten. They are
    called 0 to 4, as the outputs of one net stand for both halves in turn."""
    whole = dd.load("cifar10", validation=0)
    parts = []
    for split in (whole.train, whole.test):
        chosen = (split.labels >= first) & (split.labels < first + 5)
        pixels = whole.normalization.inverse(split.images[chosen]).mul(255).round().byte()
        parts.append((pixels, split.labels[chosen] - first))
    return dd.RealData.from_tensors(
        *parts[0],
        test_images=parts[1][0],
        test_labels=parts[1][1],
        name=f"cifar10-classes-{first}-to-{first + 4}",
        normalization=whole.normalization,
    )


def of_recipe(title: str, name: str) -> Experiment:
    """A recipe for a net pretrained on ImageNet, with the weights of `--weights`."""
    config = dd.recipe(name)
    return Experiment(
        title, lambda: dd.load(config.dataset, size=config.size), None, {config.ipc: config}
    )


def of_both(config: DistillConfig, one: int, ten: int) -> dict[int, DistillConfig]:
    """One image a class, and ten, with so many iterations each."""
    return {
        1: config.with_changes(ipc=1, steps=1, epochs=10, iterations=one),
        10: config.with_changes(ipc=10, steps=10, epochs=3, iterations=ten),
    }


DIGITS = dd.recipe("usps-to-mnist").with_changes(
    recipe="custom", dataset="mnist5k", source=None, theta_0="given", nets=1, keep="best"
)
PHOTOS = DIGITS.with_changes(images_from="real", batch=128)
POOLED = PHOTOS.with_changes(theta_0="random", norm="frozen")
RESNET = Pretraining(
    make_resnet,
    lambda: load_half(0),
    dd.FitPlan(epochs=3, batch=128, lr=4e-3, decay_epochs=1, decay_factor=0.4, augment=("flip",)),
)

EXPERIMENTS = {
    "usps-to-mnist": Experiment(
        "a LeNet pretrained on USPS, to MNIST",
        lambda: dd.load("mnist"),
        Pretraining(
            make_lenet,
            lambda: dd.load("usps", size=28),
            dd.FitPlan(epochs=12, batch=64, lr=1e-3, decay_epochs=8, decay_factor=0.2),
        ),
        of_both(DIGITS, 400, 300),
    ),
    "cifar-halves": Experiment(
        "a small ResNet with BatchNorm pretrained on classes 0 to 4 of CIFAR-10, to classes 5 to 9",
        lambda: load_half(5),
        RESNET,
        of_both(PHOTOS, 100, 60),
    ),
    "cifar-pool": Experiment(
        "any small ResNet with BatchNorm pretrained on classes 0 to 4 of CIFAR-10, to 5 to 9",
        lambda: load_half(5),
        RESNET,
        of_both(POOLED, 100, 60),
        pool=10,
    ),
    "squeezenet-to-cub": of_recipe(
        "a SqueezeNet of ImageNet, to 20 species of CUB-200 at 64 pixels", "squeezenet-to-cub-20"
    ),
    "squeezenet-to-voc": of_recipe(
        "a SqueezeNet of ImageNet, to 5 animals of VOC at 112 pixels", "squeezenet-to-voc-animals"
    ),
}


# --- measuring


def measure_baselines(
    d: dd.DistilledDataset, chooser: Trial, tester: Trial, data: dd.RealData, seed: int, sets: int
) -> dict[str, Any]:
    """Accuracy of each baseline on the test split, a value for each net, and how it was trained."""
    grid = [Combination(size, d.passes) for size in GRID]
    every = [Combination(None, d.passes), *grid]
    found: dict[str, Any] = {}
    for name in ("random-real", "k-means"):
        # the one centre of a class is its mean, whatever the draw
        draws = 1 if name == "k-means" and len(d.images) == len(d.classes) else sets
        drawn = [real_set(d, BASELINES[name], data.train, seed, n) for n in range(draws)]
        some = drawn[:SELECTION_SETS]
        merits = {how: mean(chooser([give_training(s, d, how) for s in some])) for how in every}
        for row, allowed in ((name, every), (f"{name}, grid", grid)):
            how = max(allowed, key=merits.__getitem__)
            if found.get(f"how {name}") == str(how):
                found[row] = found[name]
            else:
                values = tester([give_training(s, d, how) for s in drawn])  # set by set
                found[row] = [mean(values[n :: tester.nets]) for n in range(tester.nets)]
            found[f"how {row}"] = str(how)
    return found


def selection_images(data: dd.RealData) -> Split:
    """The images that baselines are chosen on."""
    if len(data.validation) >= SELECTION_IMAGES:
        return data.validation
    lacking = SELECTION_IMAGES - len(data.validation)
    some = data.train.batch(generator(0, "selection_images"), lacking)
    both = zip((data.validation.images, data.validation.labels), some, strict=True)
    return Split(*(torch.cat(pair) for pair in both))


def load_or_pretrain(p: Pretraining, seed: int, out: Path) -> nn.Module:
    """The pretrained net of a seed, from its file where it was trained before."""
    path = out / f"{p.make.__name__.removeprefix('make_')}-s{seed}.safetensors"
    net = p.make(seed).eval()
    if path.exists():
        net.load_state_dict(load_file(path))
        return net
    net = dd.fit(net.train(), p.source().train, p.plan, seed=seed).eval()
    save_file(net.state_dict(), path)
    return net


def measure(
    e: Experiment, config: DistillConfig, data: dd.RealData, sets: int, out: Path
) -> dict[str, Any]:
    """One seed: a set learned for what was pretrained, and what nets reach on the test split."""
    net, pool = None, None
    if e.pool is not None and e.pretraining is not None:
        nets = [load_or_pretrain(e.pretraining, n, out) for n in range(e.pool)]
        net = nets[0]
        pool = dd.Pool.of(nets, data=e.pretraining.source(), held_out=HELD_OUT, validation_nets=1)
    elif e.pretraining is not None:
        net = load_or_pretrain(e.pretraining, config.seed, out)
    began = time.process_time()
    d = dd.distill(config, data=data, net=net, pool=pool)
    seconds = time.process_time() - began
    module, start = start_of(d, net, pool=pool)
    others = find_any_start(d, module, 0, pool, "train", net)
    chooser = Trial(module, others, nets_of(others, CHOOSING_NETS), selection_images(data))
    tester = Trial(module, start, nets_of(start, 1000), data.test)
    before, after = tester.measure_before_and_after(d)
    began = time.process_time()
    d.train(net)
    used = time.process_time() - began
    return {
        "before": before,
        "distilled": after,
        **measure_baselines(d, chooser, tester, data, config.seed, sets),
        "seconds": seconds,
        "step seconds": used,
    }


def load_or_measure(
    name: str, config: DistillConfig, data: dd.RealData, sets: int, out: Path
) -> dict[str, Any]:
    """The record of a seed, from its file where it was measured with the same config."""
    path = out / f"{name}-ipc{config.ipc}-s{config.seed}.json"
    told = {**dump_config(config), "sets": sets}
    if path.exists():
        record: dict[str, Any] = json.loads(path.read_text())
        if record["config"] == told:
            return record
    record = {**measure(EXPERIMENTS[name], config, data, sets, out), "config": told}
    path.write_text(json.dumps(record, indent=1))
    return record


# --- telling

ROWS = ("before", "distilled", "random-real", "random-real, grid", "k-means", "k-means, grid")


def of_repeats(row: str, records: list[dict[str, Any]]) -> list[float]:
    """A value for each held-out net of a pool, the mean of its seeds; else one for each seed."""
    by_net = list(zip(*(r[row] for r in records), strict=True))
    return [mean(values) for values in by_net] if len(by_net) > 1 else list(by_net[0])


def table(title: str, config: DistillConfig, records: list[dict[str, Any]]) -> str:
    """Means over seeds, or over the held-out nets of a pool, with 95% intervals, and the paired
    differences."""
    ours = of_repeats("distilled", records)
    nets = len(records[0]["distilled"])
    lines = [
        f"{title}: {config.ipc} a class, {config.inner_steps} steps; over {len(ours)} "
        + (f"held-out nets, sets of {len(records)} seed(s)" if nets > 1 else "seed(s)"),
        "",
        "| | accuracy | 95% interval | distilled minus this | trained with |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for row in ROWS:
        values = of_repeats(row, records)
        i = mean_interval(values)
        bounds = "" if i.low is None else f"{i.low:.1f} to {i.high:.1f}"
        gain = "" if row == "distilled" else str(paired_difference(ours, values))
        how = "; ".join(dict.fromkeys(r.get(f"how {row}", "") for r in records))
        lines.append(f"| {row} | {i.mean:.1f} | {bounds} | {gain} | {how} |")
    seconds = median(r["seconds"] for r in records)
    used = median(r["step seconds"] for r in records)
    lines += ["", f"{seconds:.0f} s to learn a set, {used:.2f} s to take its steps."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--ipc", type=int, nargs="+", help="images a class; default: all there are")
    parser.add_argument("--seeds", type=int, default=5, help="how many repeats")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--sets", type=int, default=5, help="sets of each baseline")
    parser.add_argument("--weights", help="file of ImageNet weights of a SqueezeNet")
    parser.add_argument("--out", type=Path, required=True, help="folder of finished seeds")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    chosen = EXPERIMENTS[args.experiment]
    data = chosen.target()
    print(f"torch {torch.__version__}, threads: {torch.get_num_threads()}; {data.description}")
    for ipc in args.ipc or chosen.configs:
        config = chosen.configs[ipc]
        if chosen.pretraining is None and args.weights is not None:
            config = config.with_changes(weights=args.weights)
        records = []
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            record = load_or_measure(
                args.experiment, config.with_changes(seed=seed), data, args.sets, args.out
            )
            records.append(record)
            told = ", ".join(f"{row} {mean(record[row]):.1f}" for row in ROWS)
            print(f"seed {seed}: {told}, {record['seconds']:.0f} s", flush=True)
        print(f"\n{table(chosen.title, config, records)}\n", flush=True)


if __name__ == "__main__":
    main()
