"""One protocol for several architectures, and beside the set the coresets of its size.

A coreset is real images or k-means centres (coresets.py) in the place of the distilled ones. All
train the same nets, in minibatches and with augmentations drawn from the same streams, so that net
n of a row has its pair in net n of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from datadistill.data import RealData
from datadistill.device import resolve
from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError, suggest
from datadistill.evaluation.attack import get_attack
from datadistill.evaluation.coresets import BASELINES, DETERMINISTIC, coreset
from datadistill.evaluation.held_out import Evaluation, evaluate
from datadistill.evaluation.own_data import in_space_of, load_own_data
from datadistill.evaluation.protocols import OWN, Protocol, find_protocol
from datadistill.evaluation.tested_nets import net_of, with_values_of
from datadistill.nets.factory import NetFactory
from datadistill.progress import Report, iterate, show_progress
from datadistill.stats import Interval, deviation, mean, paired_difference
from datadistill.teacher_labels import TEMPERATURE, Teachers, relabel
from datadistill.torch_defaults import use_library_defaults

DISTILLED = "distilled"
SETS = 3
"""Of each coreset that is drawn, by default."""


@dataclass(frozen=True)
class CrossRow:
    """The nets of one architecture trained on a distilled set, or on coresets of one kind.

    Args:
        name: "distilled", or a name of `coresets.BASELINES`.
        evaluations: one for each set.
        difference: in percent points, of the distilled set to this row: the mean over nets, and
            its 95% interval; of several sets each net has its mean. None for the distilled set.
    """

    name: str
    evaluations: tuple[Evaluation, ...]
    difference: Interval | None = None

    @property
    def values(self) -> tuple[float, ...]:
        """The accuracies of all nets, set after set."""
        return tuple(value for one in self.evaluations for value in one.values)

    def as_dict(self) -> dict[str, Any]:
        first, gap = self.evaluations[0], self.difference
        tested = ("net", "net_args", "init", "nets", "images", "bytes")
        own = (*tested, "protocol", "epochs", "training")
        return {
            "name": self.name,
            "accuracy_mean": mean(self.values),
            "accuracy_std": deviation(self.values),
            "sets": len(self.evaluations),
            **{key: value for key, value in first.as_dict().items() if key in own},
            "difference": None if gap is None else gap.mean,
            "difference_low": None if gap is None else gap.low,
            "difference_high": None if gap is None else gap.high,
            "values": list(self.values),
        }


@use_library_defaults()
@show_progress
def evaluate_across(
    d: DistilledDataset,
    *,
    architectures: Sequence[str | nn.Module | NetFactory | None] = (None,),
    beside: Sequence[str] = (),
    sets: int | None = None,
    data: RealData | None = None,
    data_root: str | None = None,
    device: str = "auto",
    protocol: str | Protocol = OWN,
    teachers: Teachers | None = None,
    temperature: float = TEMPERATURE,
    seed: int = 0,
    progress: bool | Report = False,
    **how: Any,
) -> tuple[CrossRow, ...]:
    """Test a set, and coresets of its size, on nets of several architectures.

    Args:
        d: the set.
        architectures: each as `net` of `evaluate`; None is the one the set was learned with.
        beside: names of `coresets.BASELINES`; not with the protocol "own", by which `compare` tests
            them.
        sets: how many of each kind of coreset that is drawn; default 3.
        data, data_root, device, protocol: as of `evaluate`.
        teachers, temperature: give the set, and the coresets beside it, their soft labels, as
            `relabel` does.
        seed: stream of the nets and of the coresets.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it
            goes on.
        **how: more arguments of `evaluate`, whose `before` is False here.

    Returns:
        For each architecture a row of the set, and one for each kind of coreset.

    Raises:
        UsageError: an unknown coreset, a number of sets where none is drawn, a temperature without
            teachers, coresets by the protocol "own", or beside a set that attacks; what `relabel`
            refuses.
        DataError: fewer real images of a class than the set has.

    Example:
        `evaluate_across(d, protocol="dc", architectures=("convnet:width=128", "mlp"), nets=3)`
    """
    _check(d, beside, sets, protocol)
    if teachers is None and temperature != TEMPERATURE:
        raise UsageError(
            f"temperature is {temperature}, which is that of teachers' labels, and there are no "
            "teachers; pass some (--teachers POOL), or leave it out"
        )
    find_protocol(protocol, d)
    how.setdefault("before", False)
    for net in architectures:
        net_of(with_values_of(d, net), net)  # refused before anything is trained
    where = resolve(device)
    real = in_space_of(d, (data or load_own_data(d, data_root=data_root)).to(where))
    tested = {DISTILLED: [d]}
    for name in iterate(dict.fromkeys(beside), "choosing real images", len(beside)):
        count = 1 if name in DETERMINISTIC else (sets or SETS)
        made = [coreset(d.to(where), BASELINES[name], real.train, seed, n) for n in range(count)]
        tested[name] = made
    if teachers is not None:
        tested = {
            k: [relabel(one, teachers, temperature=temperature) for one in v]
            for k, v in tested.items()
        }
    rows: list[CrossRow] = []
    pairs = [(net, name) for net in architectures for name in tested]
    for net, name in iterate(pairs, "testing sets", len(pairs)):
        found = tuple(
            evaluate(one, net=net, data=real, device=device, protocol=protocol, seed=seed, **how)
            for one in tested[name]
        )
        if name == DISTILLED:
            ours = found[0].values
            rows.append(CrossRow(name, found))
            continue
        theirs = [mean(of_net) for of_net in zip(*(e.values for e in found), strict=True)]
        rows.append(CrossRow(name, found, paired_difference(ours, theirs)))
    return tuple(rows)


def _check(
    d: DistilledDataset, beside: Sequence[str], sets: int | None, protocol: str | Protocol
) -> None:
    for name in beside:
        if name not in BASELINES:
            raise UsageError(f"there is no coreset {name!r}; {suggest(name, BASELINES)}")
    if sets is not None and sets < 1:
        raise UsageError(f"sets is {sets}, but it must be at least 1")
    if sets is not None and all(name in DETERMINISTIC for name in beside):
        beside_it = f"{' and '.join(beside)} alone" if beside else "nothing"
        raise UsageError(
            f"sets is {sets}, a number of drawn sets of real images, and beside the set stands "
            f"{beside_it}; add random-real or k-means (--beside random-real), or leave --sets out"
        )
    if beside and protocol == OWN:
        raise UsageError(
            "the protocol own trains by the set's own step sizes, which are not those for real "
            "images; choose another protocol, such as plain, or use compare, which finds theirs"
        )
    if beside and get_attack(d) is not None:
        raise UsageError("the set attacks nets; compare shows its scores beside real images")
