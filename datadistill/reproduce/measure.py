"""Kinds of measurements of a distilled set, each of which fills rows of a table.

A kind is a function `(set, tools, **arguments) -> rows`; `KINDS` lists them. Accuracies are on the
whole test split, in percent, deviations over held-out nets (population). An attacked set's rows
carry the scores of `evaluation.attack` in place of the accuracy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from datadistill.data import RealData, Split
from datadistill.device import resolve
from datadistill.distilled import DistilledDataset
from datadistill.evaluation.accuracy import accuracy, measure_training
from datadistill.evaluation.attack import measure_of
from datadistill.evaluation.compare import compare
from datadistill.evaluation.cross_architecture import DISTILLED, CrossRow, evaluate_across
from datadistill.evaluation.own_data import load_own_data
from datadistill.evaluation.tested_nets import start_of
from datadistill.pool import Pool
from datadistill.reproduce.measured_rows import MeasuredRow, Value
from datadistill.reproduce.plan import ACCURACY
from datadistill.starts import nets_at_once, nets_of
from datadistill.stats import deviation, mean
from datadistill.training.fit import fit
from datadistill.training.fit_plan import FitPlan

Scores = dict[str, float]


@dataclass(frozen=True)
class Tools:
    """What a measurement is given besides the set and its own arguments: the pool that the set is
    for, or None; where real data come from; the device; a function to call now and then, for
    signals; and the processor's seconds that learning the set took, where they are known."""

    pool: Pool | None
    data_root: str | None
    download: bool
    device: str
    poll: Callable[[], None]
    seconds: float | None = None

    def data(self, d: DistilledDataset) -> RealData:
        """The set's own real data, on the device."""
        real = load_own_data(d, data_root=self.data_root, download=self.download)
        return real.to(resolve(self.device))


def train_on_set(
    d: DistilledDataset, tools: Tools, *, nets: int, seed: int = 0
) -> list[MeasuredRow]:
    """Held-out nets before and after the set's own steps: the rows "before" and "ours". A set for
    one fixed initialization has one net; `seed` is of the stream of the held-out draws."""
    where = resolve(tools.device)
    module, start = start_of(d, None, seed, where, tools.pool)
    count = nets_of(start, nets)
    before, after = measure_training(
        d.to(where),
        module,
        start,
        tools.data(d).test,
        nets=count,
        poll=tools.poll,
        measure=_scores_of(d),
    )
    return [
        MeasuredRow("before", _values(before), nets=count),
        MeasuredRow("ours", _values(after), nets=count, bytes=d.bytes, how=_own_steps(d)),
    ]


def train_by_protocol(
    d: DistilledDataset,
    tools: Tools,
    *,
    architectures: Mapping[str, str],
    seed: int = 0,
    **how: Any,
) -> list[MeasuredRow]:
    """Held-out nets of several architectures trained on the set and on coresets of its size: the
    rows of `evaluate_across`, with its arguments `how`, and a value for each column of
    `architectures`, column -> net."""
    found = evaluate_across(
        d,
        architectures=tuple(architectures.values()),
        data=tools.data(d),
        seed=seed,
        device=tools.device,
        poll=tools.poll,
        **how,
    )
    rows: dict[str, list[CrossRow]] = {}
    for row in found:  # architecture after architecture
        rows.setdefault(row.name, []).append(row)
    measured = []
    for name, one in rows.items():
        values = {}
        for column, row in zip(architectures, one, strict=True):
            several = len(row.values) > 1
            values[column] = Value(mean(row.values), deviation(row.values) if several else None)
        first, sets = one[0].evaluations[0], len(one[0].evaluations)
        seconds = tools.seconds if name == DISTILLED else None
        counts = (first.nets, sets, 1, first.bytes)
        measured.append(MeasuredRow(name, values, *counts, first.training, seconds))
    return measured


def baselines(
    d: DistilledDataset, tools: Tools, *, seed: int = 0, **arguments: Any
) -> list[MeasuredRow]:
    """Real images in the places of the distilled ones: the rows of `compare`, with its
    `arguments`."""
    found = compare(
        d,
        data=tools.data(d),
        pool=tools.pool,
        seed=seed,
        device=tools.device,
        poll=tools.poll,
        **arguments,
    )
    rows = []
    for row in found.rows:
        means, stds = {ACCURACY: row.accuracy_mean}, {ACCURACY: row.accuracy_std}
        if row.attack_mean is not None and row.attack_std is not None:
            means, stds = row.attack_mean.as_dict(), row.attack_std.as_dict()
        several = row.nets > 1 or row.sets > 1
        values = {k: Value(v, stds[k] if several else None) for k, v in means.items()}
        rows.append(
            MeasuredRow(row.name, values, row.nets, row.sets, 1, row.bytes, row.combination)
        )
    return rows


def train_on_all(
    d: DistilledDataset, tools: Tools, *, nets: int, seed: int = 0, **plan: Any
) -> list[MeasuredRow]:
    """Held-out nets trained on all real training images by a `FitPlan`, from where the set starts
    too: the row "full-target"."""
    where = resolve(tools.device)
    module, start = start_of(d, None, seed, where, tools.pool)
    count = nets_of(start, nets)
    data, found = tools.data(d), []
    for n in range(count):
        net, theta, _ = nets_at_once(start, module, 0, 1, n)[0]
        net.load_state_dict(theta, strict=False)
        trained = fit(net, data.train, FitPlan(**plan), seed=seed + n, poll=tools.poll)
        parameters = {k: p.detach() for k, p in trained.named_parameters()}
        found.append({ACCURACY: accuracy(trained, parameters, data.test)})
    rate, epochs = plan.get("lr", FitPlan.lr), plan["epochs"]
    how = (
        f"{len(data.train):,} images, {epochs} epochs of "
        f"{plan.get('optimizer', 'adam')}, rate {rate:g}"
    )
    return [MeasuredRow("full-target", _values(found), nets=count, how=how)]


KINDS: dict[str, Callable[..., list[MeasuredRow]]] = {
    "ours": train_on_set,
    "protocol": train_by_protocol,
    "compare": baselines,
    "full": train_on_all,
}
"""Kind of a measurement: its function."""


def _own_steps(d: DistilledDataset) -> str:
    return f"its own {d.schedule.steps} step{'s' if d.schedule.steps != 1 else ''}"


def _scores_of(d: DistilledDataset) -> Callable[[Any, Any, Split], Scores]:
    """The scores of each net: its accuracy, or with an attacked set all scores of the attack."""
    score = measure_of(d)
    if score is None:
        return lambda net, theta, target: {ACCURACY: accuracy(net, theta, target)}
    return lambda net, theta, target: asdict(score(net, theta, target))


def _values(found: Sequence[Scores]) -> dict[str, Value]:
    """Mean and deviation over nets; one net has no deviation."""
    values = {}
    for column in found[0]:
        numbers = [scores[column] for scores in found]
        values[column] = Value(mean(numbers), deviation(numbers) if len(numbers) > 1 else None)
    return values
