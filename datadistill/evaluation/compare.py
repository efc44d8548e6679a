"""A distilled set beside the baselines of table 1, all tested on the same held-out nets.

For each baseline the combination of step sizes and epochs is chosen on training images, with nets
of a stream (or a part of the pool) of their own; only then is the test split read, once, for the
winner.

Reference: Wang et al. 2018, section 4 and tables 1 to 3, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from datadistill.data import RealData, Split
from datadistill.device import resolve
from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError, suggest
from datadistill.evaluation.accuracy import Poll
from datadistill.evaluation.attack import AttackScores, get_attack, mean_and_std, measure_of
from datadistill.evaluation.baselines import Candidates, combinations
from datadistill.evaluation.choosing import NAMES, SELECTION_IMAGES, Chosen, Trial, choose, is_knn
from datadistill.evaluation.coresets import BASELINES
from datadistill.evaluation.neighbours import Neighbours, neighbours_accuracy
from datadistill.evaluation.own_data import check_data, in_space_of, load_own_data
from datadistill.evaluation.tested_nets import find_any_start, start_of, with_values_of
from datadistill.nets.factory import NetFactory
from datadistill.pool import Pool
from datadistill.progress import Report, iterate, show_progress
from datadistill.starts import Fixed, InitialDistribution, Pretrained, nets_of
from datadistill.stats import deviation, mean
from datadistill.streams import generator
from datadistill.torch_defaults import use_library_defaults


@dataclass(frozen=True)
class ComparisonRow:
    """One line of a comparison; accuracies in percent on the test split, deviations of the
    population.

    Args:
        name: "distilled", "no-adaptation" or "no-attack" (the nets as they were), or a baseline.
        accuracy_mean, accuracy_std: over nets and sets, with true labels.
        bytes: what is stored: images (float32), labels, step sizes (a fixed one is one number).
        combination: how the nets were trained.
        nets, sets: how many; no net with k nearest neighbours.
        attack_mean, attack_std: for an attacked set, all its scores, over nets and sets.
    """

    name: str
    accuracy_mean: float
    accuracy_std: float
    bytes: int
    combination: str
    nets: int
    sets: int
    attack_mean: AttackScores | None = None
    attack_std: AttackScores | None = None

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        scores = {what: found.pop(f"attack_{what}") or {} for what in ("mean", "std")}
        return {
            **found,
            **{f"{k}_{what}": v for what, one in scores.items() for k, v in one.items()},
        }


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`: rows, and what they were tested on."""

    rows: tuple[ComparisonRow, ...]
    dataset: str
    description: str
    candidates: str
    seed: int

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "split": "test", "rows": [row.as_dict() for row in self.rows]}


@use_library_defaults()
@show_progress
def compare(
    d: DistilledDataset,
    *,
    data: RealData | None = None,
    net: str | nn.Module | NetFactory | None = None,
    pool: Pool | str | os.PathLike[str] | None = None,
    nets: int = 20,
    sets: int = 5,
    selection_nets: int = 5,
    candidates: Candidates = "all",
    optimized_from: int = 20,
    seed: int = 0,
    device: str = "auto",
    data_root: str | None = None,
    baselines: Sequence[str] | None = None,
    poll: Poll | None = None,
    progress: bool | Report = False,
) -> Comparison:
    """Test a set and the baselines on held-out nets and the full test split.

    The baselines have the set's layout: as many images of each class in as many steps; a set that a
    decoder makes is compared with images in the same bytes (`coresets.count_images`). Combinations
    are judged on at most 1024 training images, with the first two sets of a baseline;
    "optimized-real" tries `optimized_from` random sets with the combination that won for
    "random-real", and the best fifth is tested. A set for one fixed initialization is tested on
    that one; its baselines on held-out draws of the same scheme. Nets that start from given weights
    are one net, in choosing as in testing. For an attacked set a combination must bring 10% of the
    attacked class to the target, and the best by the modified labels is taken; accuracies are with
    true labels, and k nearest neighbours are left out.

    The paper's size: nets=200, sets=10, selection_nets=20, optimized_from=50.

    Args:
        d: the distilled set.
        data: its real data; default: found by name.
        net: another architecture, by name or as a module, or a function without arguments that
            builds one; default: the one the set was learned with.
        pool: for a set that was learned for pretrained nets: the pool. Its held-out nets are
            tested, its nets for training choose.
        nets: how many held-out nets; of a pool at most those it holds out.
        sets: sets of random real images and k-means runs.
        selection_nets: how many nets choose.
        candidates: "all", or only the paper's "grid" of fixed step sizes, or only the "learned"
            ones.
        optimized_from: random sets that "optimized-real" chooses from.
        seed: stream of nets and baselines.
        device: auto, cpu or cuda.
        data_root: where data sets lie.
        baselines: some of `NAMES`, or "herding"; default: all of `NAMES`.
        poll: called between chunks of nets, for signals.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it
            goes on.

    Example:
        `dd.compare(dd.DistilledDataset.load("runs/mnist-random-s0")).rows[0].accuracy_mean`
    """
    _check(nets=nets, sets=sets, selection_nets=selection_nets, optimized_from=optimized_from)
    names = _names(baselines, get_attack(d))
    choices = combinations(d, candidates)
    where = resolve(device)
    real = in_space_of(d, (data or load_own_data(d, data_root=data_root)).to(where))
    check_data(d, real)
    if isinstance(pool, str | os.PathLike):
        pool = Pool.load(pool)
    d = with_values_of(d, net).to(where)
    module, own_start = start_of(d, net, seed, where, pool)
    measure = measure_of(d)

    def trial(start: InitialDistribution, nets: int, target: Split) -> Trial:
        return Trial(module, start, nets_of(start, nets), target, measure, poll)

    some = Split(*real.train.batch(generator(seed, "selection_images"), SELECTION_IMAGES))
    chooser = trial(find_any_start(d, module, seed, pool, "train", net), selection_nets, some)
    chosen = choose(
        d, names, choices, chooser, real.train, sets=sets, optimized_from=optimized_from, seed=seed
    )
    # the test split is read from here on, once all is chosen
    tester = trial(find_any_start(d, module, seed, pool, "held_out", net), nets, real.test)
    rows = _own_rows(d, trial(own_start, nets, real.test), pool is not None)
    rows += [_test(c, tester) for c in iterate(chosen, "testing baselines", len(chosen))]
    return Comparison(
        tuple(rows), real.name, _describe(real, own_start, chooser, tester), candidates, seed
    )


# --- testing


def _own_rows(d: DistilledDataset, tester: Trial, pretrained: bool) -> list[ComparisonRow]:
    """The set itself, and the nets as they were where they are more than random draws."""
    pretrained = pretrained or d.start.kind in ("pool", "given")
    before, after = tester.measure_before_and_after(d, before=pretrained)
    how = f"its own {d.schedule.steps} step{'s' if d.schedule.steps != 1 else ''}"
    rows = [_row("distilled", after, d.bytes, how, tester.nets, 1)]
    if pretrained:
        name = "no-adaptation" if get_attack(d) is None else "no-attack"
        rows.append(_row(name, before, 0, "no step", tester.nets, 0))
    return rows


def _test(c: Chosen, tester: Trial) -> ComparisonRow:
    if not isinstance(c.how, Neighbours):
        return _row(c.name, tester(c.sets), c.bytes, str(c.how), tester.nets, len(c.sets))
    values = [
        tester.poll_and_run(neighbours_accuracy, s.images, s.labels, tester.target, c.how)
        for s in c.sets
    ]
    return _row(c.name, values, c.bytes, str(c.how), 0, len(c.sets))


def _row(
    name: str, values: list[Any], bytes: int, combination: str, nets: int, sets: int
) -> ComparisonRow:
    average = std = None
    if isinstance(values[0], AttackScores):
        average, std = mean_and_std(values)
        values = [scores.accuracy for scores in values]
    return ComparisonRow(
        name,
        mean(values),
        deviation(values),
        bytes,
        combination,
        nets,
        sets,
        attack_mean=average,
        attack_std=std,
    )


def _describe(real: RealData, own: InitialDistribution, chooser: Trial, tester: Trial) -> str:
    said = (
        f"{real.description}; baselines chosen on {len(chooser.target)} training images with "
        f"{_nets(chooser)}, tested on {_nets(tester)}"
    )
    if isinstance(own, Fixed) and not isinstance(tester.start, Fixed):
        said += "; the set was learned for one fixed initialization, and is tested on that one"
    return said


def _nets(trial: Trial) -> str:
    """How many nets, for the description."""
    if isinstance(trial.start, Fixed):
        return "the one net there is"
    kind = "pretrained" if isinstance(trial.start, Pretrained) else "freshly drawn"
    return f"{trial.nets} {kind} net{'s' if trial.nets != 1 else ''}"


# --- what was asked for


def _names(baselines: Sequence[str] | None, attack: tuple[int, int] | None) -> list[str]:
    known = tuple(dict.fromkeys([*NAMES, *BASELINES]))
    for name in baselines or ():
        if name not in known:
            raise UsageError(f"baseline {name!r} is unknown; {suggest(name, known)}")
        if attack is not None and is_knn(name):
            raise UsageError(f"{name} trains no net, so an attack cannot reach it; leave it out")
    asked = NAMES if baselines is None else baselines
    return [name for name in known if name in asked and not (attack is not None and is_knn(name))]


def _check(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"{name} is {count}, but it must be at least 1")
