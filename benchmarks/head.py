"""Sets for the head of a frozen net, one vector of features a class, against real features.

Twenty species of CUB-200 at 224 pixels through an ImageNet SqueezeNet. The images go through the
net once a seed, which is timed apart; then every row trains the same linear head. A seed is a whole
repeat: another validation split, another set, other draws. Real features train in 30 steps of
gradient descent, with the step size that is best on the validation split; so is the lambda of ridge
regression on all. The test split is read last.

    python benchmarks/head.py --weights squeezenet1_0_imagenet.pt --seeds 5 --out head.json
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import datadistill as dd
from datadistill.data import Split
from datadistill.evaluation.accuracy import measure_training
from datadistill.evaluation.baselines import (
    Combination,
    give_training,
    real_set,
)
from datadistill.evaluation.coresets import (
    BASELINES,
)
from datadistill.evaluation.own_data import in_space_of
from datadistill.evaluation.tested_nets import start_of
from datadistill.methods.linear import predict_by_ridge
from datadistill.recipes import recipe
from datadistill.stats import mean, mean_interval

# chosen on the validation split of seed 0
METHODS: dict[str, dict[str, Any]] = {
    "ridge-regression": {},
    "linear-gradient-matching": {"method": "linear-gradient-matching", "method_args": {}},
    "unrolled": {"method": "unrolled", "method_args": {}, "epochs": 5, "lr_images": 0.02},
}
STEP_SIZES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
LAMBDAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
STEPS = 30
DRAWS = 5


def accuracy(d: dd.DistilledDataset, split: Split) -> float:
    """Percent, of one head after the set's steps."""
    net, start = start_of(d)
    return mean(measure_training(d, net, start, split, nets=1, before=False)[1])


def learn(weights: str, seed: int, images: dd.RealData, row: str) -> tuple[Any, float]:
    """A set by one of the methods, and the seconds of learning; the features are in memory."""
    config = recipe("cub-20-head").with_changes(weights=weights, seed=seed, **METHODS[row])
    began = time.perf_counter()
    d = dd.distill(config, data=images)
    return d, time.perf_counter() - began


def train_on_real(d: dd.DistilledDataset, name: str, data: dd.RealData, seed: int) -> list[float]:
    """Test accuracy after training on real features, one value for each draw."""
    draws = DRAWS if name == "random-real" else 1
    sets = [real_set(d, BASELINES[name], data.train, seed, draw) for draw in range(draws)]
    choices = [Combination(eta, STEPS) for eta in STEP_SIZES]

    def on_validation(how: Combination) -> float:
        return mean([accuracy(give_training(s, d, how), data.validation) for s in sets])

    best = max(choices, key=on_validation)
    return [accuracy(give_training(s, d, best), data.test) for s in sets]


def ridge_on_all(data: dd.RealData) -> float:
    """Test accuracy of ridge regression on all features, validation images too in the end."""
    k = len(data.classes)

    def rows(images: Tensor) -> Tensor:
        return torch.cat([images.flatten(1), images.new_ones(len(images), 1)], dim=1)

    def score(tested: Split, train: Tensor, labels: Tensor, size: float) -> float:
        targets = F.one_hot(labels, k) - 1 / k
        found = predict_by_ridge(rows(tested.images), rows(train), targets, size).argmax(1)
        return 100 * float((found == tested.labels).float().mean())

    train, validation = data.train, data.validation
    best = max(LAMBDAS, key=lambda size: score(validation, train.images, train.labels, size))
    images = torch.cat([train.images, validation.images])
    return score(data.test, images, torch.cat([train.labels, validation.labels]), best)


def measure_seed(weights: str, seed: int) -> dict[str, dict[str, float]]:
    """All rows of one seed: accuracy, and seconds where something is learned."""
    images = dd.load("cub-20", size=224, seed=seed)
    first, total = learn(weights, seed, images, "ridge-regression")  # computes the features
    rows = {}
    sets = {}
    for row in METHODS:
        sets[row], seconds = learn(weights, seed, images, row)
        rows[row] = {"seconds": seconds}
    d = first.with_weights(weights)
    data = in_space_of(d, images)
    extracting = total - rows["ridge-regression"]["seconds"]
    began = time.perf_counter()
    test = data.test  # through the net
    rows["features"] = {"train": extracting, "test": time.perf_counter() - began}
    for row, one in sets.items():
        rows[row] |= {
            "validation": accuracy(one, data.validation),
            "accuracy": accuracy(one, test),
            "bytes": one.bytes,
        }
    for name in ("random-real", "k-means"):
        rows[name] = {"accuracy": mean(train_on_real(d, name, data, seed))}
    rows["ridge on all"] = {"accuracy": ridge_on_all(data)}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("head.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for seed in range(args.seeds):
        found.append(measure_seed(args.weights, seed))
        print(seed, found[-1], flush=True)
        args.out.write_text(json.dumps(found, indent=1))
    for row in found[0]:
        for name in found[0][row]:
            values = [one[row][name] for one in found]
            print(f"{row:26} {name:10} {mean_interval(values)}")


if __name__ == "__main__":
    main()
