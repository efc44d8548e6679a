"""Choice of each baseline's training, on training images and nets that no test uses.

A combination is judged with the first two sets of a baseline. "optimized-real" tries many random
sets with the combination that won for random real images, and keeps the best fifth.

Reference: Wang et al. 2018, section 4, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from datadistill.data import Split
from datadistill.distilled import DistilledDataset
from datadistill.evaluation.accuracy import Poll, measure_training
from datadistill.evaluation.attack import AttackScores, mean_and_std
from datadistill.evaluation.baselines import (
    Combination,
    give_training,
    real_set,
    stored_bytes,
)
from datadistill.evaluation.coresets import BASELINES, DETERMINISTIC, random_real
from datadistill.evaluation.neighbours import Neighbours, choose_neighbours
from datadistill.progress import iterate
from datadistill.starts import InitialDistribution
from datadistill.stats import mean
from datadistill.streams import derive

NAMES = (
    "random-real",
    "optimized-real",
    "k-means",
    "average-real",
    "knn-random-real",
    "knn-k-means",
)
"""Those of the paper; "herding" may be asked for too."""
SELECTION_IMAGES = 1024
SELECTION_SETS = 2
KEPT = 0.2  # of the sets that optimized-real looks at
LEAST_SUCCESS = 10.0  # percent of the attacked class that an attack must bring to the target
V = TypeVar("V")


@dataclass(frozen=True)
class Trial:
    """Nets and images that sets are measured with: those for choosing, or those for testing.
    `measure` None is accuracy; `poll` is called between chunks of nets, for signals."""

    net: nn.Module
    start: InitialDistribution
    nets: int
    target: Split
    measure: Callable[..., Any] | None = None
    poll: Poll | None = None

    def __call__(self, sets: Sequence[DistilledDataset]) -> list[Any]:
        """One value for each set and net, after training."""
        return [value for d in sets for value in self.measure_before_and_after(d, before=False)[1]]

    def measure_before_and_after(
        self, d: DistilledDataset, before: bool = True
    ) -> tuple[list[Any], list[Any]]:
        """One value for each net, before and after training on a set."""
        return measure_training(
            d,
            self.net,
            self.start,
            self.target,
            nets=self.nets,
            poll=self.poll,
            before=before,
            measure=self.measure,
        )

    def poll_and_run(self, work: Callable[..., V], *args: Any) -> V:
        if self.poll is not None:
            self.poll()
        return work(*args)


@dataclass(frozen=True)
class Chosen:
    """A baseline that is ready to be tested: its name in `NAMES`, the combination or the rule of k
    nearest neighbours, its sets, and the bytes of one."""

    name: str
    how: Combination | Neighbours
    sets: list[DistilledDataset]
    bytes: int


def choose(
    d: DistilledDataset,
    names: Sequence[str],
    choices: Sequence[Combination],
    trial: Trial,
    train: Split,
    *,
    sets: int,
    optimized_from: int,
    seed: int,
) -> list[Chosen]:
    """Make the sets of some baselines, and choose how each is trained.

    Args:
        d: the distilled set, on the device of all else.
        names: of `NAMES`.
        choices: the combinations.
        trial: nets and training images that choose.
        train: the training split, which sets are made of.
        sets: how many of each baseline that draws them.
        optimized_from: how many random sets "optimized-real" tries.
        seed: stream of the sets.
    """

    @functools.cache
    def make_sets(name: str) -> list[DistilledDataset]:
        count = 1 if name in DETERMINISTIC else sets
        return [
            trial.poll_and_run(real_set, d, BASELINES[name], train, seed, draw)
            for draw in range(count)
        ]

    @functools.cache
    def combination(name: str) -> Combination:
        first = make_sets(name)[:SELECTION_SETS]
        told = iterate(choices, f"trying combinations for {name}", len(choices))
        return max(
            told, key=lambda how: rate_values(trial([give_training(s, d, how) for s in first]))
        )

    def optimize_sets() -> list[DistilledDataset]:
        how, stream = combination("random-real"), derive(seed, "optimized_real")
        many = [real_set(d, random_real, train, stream, draw) for draw in range(optimized_from)]
        told = iterate(many, "trying random sets", len(many))
        merits = [rate_values(trial([give_training(s, d, how)])) for s in told]
        best = sorted(range(len(many)), key=merits.__getitem__, reverse=True)
        return [many[n] for n in best[: max(1, round(KEPT * optimized_from))]]

    found = []
    for name in iterate(names, "choosing how baselines are trained", len(names)):
        if is_knn(name):
            ours = make_sets(name.removeprefix("knn-"))
            stored = [(s.images, s.labels) for s in ours[:SELECTION_SETS]]
            rule = trial.poll_and_run(choose_neighbours, stored, trial.target)
            found.append(Chosen(name, rule, ours, stored_bytes(ours[0], d, None)))
            continue
        ours = optimize_sets() if name == "optimized-real" else make_sets(name)
        how = combination("random-real" if name == "optimized-real" else name)
        found.append(
            Chosen(
                name, how, [give_training(s, d, how) for s in ours], stored_bytes(ours[0], d, how)
            )
        )
    return found


def rate_values(values: Sequence[float] | Sequence[AttackScores]) -> tuple[float, ...]:
    """Values that the choice compares, the larger the better: mean accuracy. For an attack the
    paper's rule: accuracy with regard to the modified labels, where at least 10% of the attacked
    class are taken for the target."""
    scores = [v for v in values if isinstance(v, AttackScores)]
    if not scores:
        return (mean(values),)  # type: ignore[arg-type]
    average, _ = mean_and_std(scores)
    if average.attacked_to_target < LEAST_SUCCESS:
        return 0.0, average.attacked_to_target
    return 1.0, average.modified_accuracy


def is_knn(name: str) -> bool:
    """Whether a baseline is one of k nearest neighbours, which trains no net."""
    return name.startswith("knn-")
