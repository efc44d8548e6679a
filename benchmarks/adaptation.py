"""Adaptation of pretrained nets by a distilled set, against real images in as many steps.

A set is learned for the values of one pretrained net (`theta_0="given"`), or for a pool of nets,
and takes it to the target in T gradient steps. Beside it, with as many images of each class in the
same T steps: random real images and k-means centres, five sets of each. They train with the set's
own learned step sizes and rule, or with gradient descent and a step size of the grid, whichever is
best on the validation split; a second row has the grid alone. Seeds are whole repeats: another
pretrained net, another set, other draws. The test split is read last.

    python benchmarks/adaptation.py usps-to-mnist --ipc 1 10 --seeds 5 --out adaptation
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import datadistill as dd
from datadistill.config import DistillConfig
from datadistill.data import Split
from datadistill.evaluation.baselines import (
    BASELINES,
    STEP_SIZES,
    Combination,
    give_training,
    real_set,
)
from datadistill.evaluation.choosing import Trial
from datadistill.evaluation.tested_nets import start_of
from datadistill.nets import build, draw
from datadistill.nets.resnet import BasicBlock
from datadistill.runs.jsonconfig import dump_config
from datadistill.stats import mean, mean_interval, paired_difference
from datadistill.streams import generator, global_stream

GRID = (0.0001, 0.0003, *STEP_SIZES)
BASELINE_SETS = 5
SELECTION_SETS = 2
SELECTION_IMAGES = 300
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
    """

    title: str
    target: Callable[[], dd.RealData]
    pretraining: Pretraining | None
    configs: dict[int, DistillConfig]


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


def load_half(first: int) -> dd.RealData:
    """The five classes of CIFAR-10 from this one on, with the normalization of all ten."""
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
        classes=whole.classes[first : first + 5],
        name=f"cifar10-classes-{first}-to-{first + 4}",
        normalization=whole.normalization,
    )


def of_recipe(title: str, name: str) -> Experiment:
    """A recipe for a net pretrained on ImageNet, with the weights of `--weights`."""
    config = dd.recipe(name)
    return Experiment(
        title, lambda: dd.load(config.dataset, size=config.size), None, {config.ipc: config}
    )


ADAPT = DistillConfig(
    theta_0="given",
    labels="soft",
    update="adam",
    step_size=0.001,
    step_sizes="per-tensor",
    lr_labels=0.05,
    lr_step_sizes=0.03,
    validate_every=50,
    keep="best",
)
DIGITS = ADAPT.with_changes(images_from="kmeans")
PHOTOS = ADAPT.with_changes(images_from="real", batch=128)

EXPERIMENTS = {
    "usps-to-mnist": Experiment(
        "a LeNet pretrained on USPS, to MNIST",
        lambda: dd.load("mnist"),
        Pretraining(
            make_lenet,
            lambda: dd.load("usps", size=28),
            dd.FitPlan(epochs=12, batch=64, lr=1e-3, decay_epochs=8, decay_factor=0.2),
        ),
        {
            1: DIGITS.with_changes(ipc=1, steps=1, epochs=10, iterations=400),
            10: DIGITS.with_changes(ipc=10, steps=10, epochs=3, iterations=300),
        },
    ),
    "cifar-halves": Experiment(
        "a small ResNet with BatchNorm pretrained on classes 0 to 4 of CIFAR-10, to classes 5 to 9",
        lambda: load_half(5),
        Pretraining(
            make_resnet,
            lambda: load_half(0),
            dd.FitPlan(
                epochs=5, batch=128, lr=4e-3, decay_epochs=1, decay_factor=0.6, augment=("flip",)
            ),
        ),
        {
            1: PHOTOS.with_changes(ipc=1, steps=1, epochs=10, iterations=150),
            10: PHOTOS.with_changes(ipc=10, steps=10, epochs=3, iterations=150),
        },
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
    d: dd.DistilledDataset, chooser: Trial, tester: Trial, data: dd.RealData, seed: int
) -> dict[str, Any]:
    """Accuracy of each baseline on the test split, and how it was trained."""
    grid = [Combination(size, d.passes) for size in GRID]
    every = [Combination(None, d.passes), *grid]
    found: dict[str, Any] = {}
    for name in ("random-real", "k-means"):
        # the one centre of a class is its mean, whatever the draw
        draws = 1 if name == "k-means" and len(d.images) == len(d.classes) else BASELINE_SETS
        sets = [real_set(d, BASELINES[name], data.train, seed, n) for n in range(draws)]
        some = sets[:SELECTION_SETS]
        merits = {how: mean(chooser([give_training(s, d, how) for s in some])) for how in every}
        for row, allowed in ((name, every), (f"{name}, grid", grid)):
            how = max(allowed, key=merits.__getitem__)
            if found.get(f"how {name}") == str(how):
                found[row] = found[name]
            else:
                found[row] = mean(tester([give_training(s, d, how) for s in sets]))
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


def measure(config: DistillConfig, data: dd.RealData, net: nn.Module | None) -> dict[str, Any]:
    """One seed: a set learned for a pretrained net, and what they reach on the test split."""
    began = time.process_time()
    d = dd.distill(config, data=data, net=net)
    seconds = time.process_time() - began
    module, start = start_of(d, net)
    chooser = Trial(module, start, 1, selection_images(data))
    validation = Trial(module, start, 1, data.validation)([d])
    tester = Trial(module, start, 1, data.test)
    (before,), (after,) = tester.measure_before_and_after(d)
    began = time.process_time()
    d.train(net)
    used = time.process_time() - began
    return {
        "before": before,
        "distilled": after,
        **measure_baselines(d, chooser, tester, data, config.seed),
        "validation": mean(validation),
        "seconds": seconds,
        "step seconds": used,
        "bytes": d.bytes,
    }


def load_or_measure(
    name: str, config: DistillConfig, data: dd.RealData, out: Path
) -> dict[str, Any]:
    """The record of a seed, from its file where it was measured with the same config."""
    path = out / f"{name}-ipc{config.ipc}-s{config.seed}.json"
    told = dump_config(config)
    if path.exists():
        record: dict[str, Any] = json.loads(path.read_text())
        if record["config"] == told:
            return record
    pretraining = EXPERIMENTS[name].pretraining
    net = None if pretraining is None else load_or_pretrain(pretraining, config.seed, out)
    record = {**measure(config, data, net), "config": told}
    path.write_text(json.dumps(record, indent=1))
    return record


# --- telling

ROWS = ("before", "distilled", "random-real", "random-real, grid", "k-means", "k-means, grid")


def table(title: str, config: DistillConfig, records: list[dict[str, Any]]) -> str:
    """Means over seeds with 95% intervals, and the paired differences."""
    ours = [r["distilled"] for r in records]
    lines = [
        f"{title}: {config.ipc} a class, {config.inner_steps} steps, {len(records)} seeds",
        "",
        "| | accuracy | 95% interval | distilled minus this | trained with |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for row in ROWS:
        values = [r[row] for r in records]
        i = mean_interval(values)
        bounds = "" if i.low is None else f"{i.low:.1f} to {i.high:.1f}"
        gain = "" if row == "distilled" else str(paired_difference(ours, values))
        how = "; ".join(dict.fromkeys(r.get(f"how {row}", "") for r in records))
        lines.append(f"| {row} | {i.mean:.1f} | {bounds} | {gain} | {how} |")
    seconds = mean([r["seconds"] for r in records])
    used = mean([r["step seconds"] for r in records])
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
                args.experiment, config.with_changes(seed=seed), data, args.out
            )
            records.append(record)
            told = ", ".join(f"{row} {record[row]:.1f}" for row in ROWS)
            print(f"seed {seed}: {told}, {record['seconds']:.0f} s", flush=True)
        print(f"\n{table(chosen.title, config, records)}\n", flush=True)


if __name__ == "__main__":
    main()
