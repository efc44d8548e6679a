"""A distilled set judged: the accuracy of held-out nets that are trained on it.

Wang et al. 2018 report mean and deviation over 200 held-out nets, each trained by the set's own
steps and tested on the full test set; other papers train them by a protocol (protocols.py).
Held-out draws come from a stream of their own, so none was seen in training. A set learned for one
fixed initialization is tested on that one net, but by a protocol on held-out draws of the same
scheme.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from datadistill.data import RealData
from datadistill.device import resolve
from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError
from datadistill.evaluation.accuracy import Poll, accuracy, measure_training
from datadistill.evaluation.attack import AttackScores, get_attack, mean_and_std, measure_of
from datadistill.evaluation.own_data import check_data, in_space_of, load_own_data
from datadistill.evaluation.protocols import OWN, Protocol, describe_training, find_protocol
from datadistill.evaluation.tested_nets import net_arguments, net_name, start_of, with_values_of
from datadistill.nets.factory import NetFactory, is_factory
from datadistill.pool import Pool
from datadistill.progress import Report, show_progress
from datadistill.starts import (
    Built,
    Fixed,
    InitialDistribution,
    Random,
    nets_of,
)
from datadistill.stats import deviation, mean
from datadistill.torch_defaults import use_library_defaults

NETS, NETS_OF_LOOP = 200, 5  # tested where nobody says how many: by explicit steps, or by a loop


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`; accuracies in percent, deviations over nets (population). Those
    before training are None where it was told to leave them out."""

    accuracy_mean: float
    accuracy_std: float
    accuracy_before_mean: float | None
    accuracy_before_std: float | None
    accuracy_plain: float | None
    nets: int
    net: str
    images: int
    bytes: int
    bytes_theta_0: int
    dataset: str
    split: str
    description: str
    seed: int
    source: str | None = None
    """The data set that the nets were pretrained on."""
    attack: dict[str, Any] | None = None
    """Of a set that attacks: the two classes, and mean and deviation of each of `AttackScores`,
    before and after."""
    protocol: str = OWN
    epochs: int = 0
    """Of the training, by the protocol."""
    training: str = ""
    """The training in words."""
    net_args: dict[str, Any] = field(default_factory=dict)
    """Of the tested architecture, those that have to do with the images left out."""
    init: str | None = None
    """The initialization scheme; None where nets are given or come of a function."""
    values: tuple[float, ...] = ()
    """The accuracy of each net after training."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@use_library_defaults()
@show_progress
def evaluate(
    distilled: DistilledDataset,
    *,
    net: str | nn.Module | NetFactory | None = None,
    nets: int | None = None,
    data: RealData | None = None,
    split: str = "test",
    seed: int = 0,
    device: str = "auto",
    protocol: str | Protocol = OWN,
    epochs: int | None = None,
    init: str | None = None,
    plain_nets: int = 5,
    before: bool = True,
    data_root: str | None = None,
    pool: Pool | str | os.PathLike[str] | None = None,
    poll: Poll | None = None,
    progress: bool | Report = False,
) -> Evaluation:
    """Train held-out nets on the set and test them.

    Args:
        distilled: the set.
        net: another architecture, by name ("resnet18", "convnet:width=128"; see
            `tested_nets.spec_of`) or as a module, or a function without arguments that builds one
            (`lambda: MyNet()`), called again for each held-out net; default: the one the set was
            learned with.
        nets: how many held-out draws; default 200, and 5 where they are trained by a loop of random
            minibatches, as by a protocol. A set for one fixed initialization has one net, but by a
            protocol as many as any.
        data: real data to test on; default: the set's own, found by name. It must have the set's
            classes.
        split: "test", "validation" or "train".
        seed: stream of the held-out draws.
        device: auto, cpu or cuda.
        protocol: how nets are trained: "own", "plain", "dc" or "dsa", or a protocol of your own;
            see `evaluation.protocols`.
        epochs: another number of epochs than the protocol's.
        init: another scheme that draws the nets, of `nets.INITIALIZATIONS`, than PyTorch's own,
            "default", by a protocol, and that of the set by its own steps.
        plain_nets: beside the set's own training, nets from the same start for the protocol
            "plain", which takes minutes for large nets; 0 leaves it out.
        before: False leaves out the test of each net before it is trained, except that of a set
            that attacks.
        data_root: where data sets lie.
        pool: for a set that was learned for pretrained nets: the pool whose held-out nets are
            tested.
        poll: called between chunks of nets, for signals.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it
            goes on.

    Raises:
        DataError: data of other classes or another shape.
        UsageError: fewer than one net, a net that does not fit, or a module is needed and none was
            given.

    Example:
        `dd.evaluate(dd.DistilledDataset.load("runs/mnist-random-s0"), nets=200).accuracy_mean`
    """
    if nets is None:
        nets = NETS_OF_LOOP if protocol != OWN or distilled.schedule.is_random else NETS
    if nets < 1:
        raise UsageError(f"nets is {nets}, but at least 1 must be tested")
    if plain_nets < 0:
        raise UsageError(f"plain_nets is {plain_nets}, but it must be 0 (no plain loop) or more")
    where = resolve(device)
    chosen = find_protocol(protocol, distilled, epochs)
    real = in_space_of(distilled, (data or load_own_data(distilled, data_root=data_root)).to(where))
    check_data(distilled, real, split)
    distilled = with_values_of(distilled, net)
    scheme = chosen.init if init is None and chosen is not None else init
    module, start = start_of(
        distilled, net, seed, where, pool, fresh=chosen is not None, init=scheme
    )
    if init is not None and (not isinstance(start, Random | Built) or is_factory(net)):
        raise UsageError(
            f"init is {init!r}, but the tested nets are given, and not drawn by a scheme; leave "
            "init out"
        )
    count = nets_of(start, nets)
    target, on_device = real.split(split), distilled.to(where)

    def train_and_test(d: DistilledDataset, nets: int, before: bool = True) -> Any:
        measure = measure_of(distilled) or accuracy
        return measure_training(
            d, module, start, target, nets=nets, poll=poll, before=before, measure=measure
        )

    trained = on_device if chosen is None else chosen.apply(on_device)
    pair = get_attack(distilled)
    found = train_and_test(trained, count, before or pair is not None)
    attack = None if pair is None else _attack(pair, *found)
    untrained, after = (_accuracies(scores) for scores in found)
    plain: list[float] = []
    if plain_nets and chosen is None and (ordinary := find_protocol("plain", distilled)):
        _, scores = train_and_test(ordinary.apply(on_device), min(count, plain_nets), before=False)
        plain = _accuracies(scores)
    return Evaluation(
        accuracy_mean=mean(after),
        accuracy_std=deviation(after),
        accuracy_before_mean=mean(untrained) if untrained else None,
        accuracy_before_std=deviation(untrained) if untrained else None,
        accuracy_plain=mean(plain) if plain else None,
        nets=count,
        net=net_name(distilled, net),
        images=len(distilled.images),
        bytes=distilled.bytes,
        bytes_theta_0=distilled.bytes_theta_0,
        dataset=real.name,
        split=split,
        description=real.description + _describe_nets(distilled, start),
        seed=seed,
        source=distilled.start.source,
        attack=attack,
        protocol=OWN if chosen is None else chosen.name,
        epochs=trained.schedule.epochs,
        training=describe_training(distilled, chosen),
        net_args=net_arguments(distilled, net),
        init=_scheme_of(start, net),
        values=tuple(after),
    )


def _describe_nets(d: DistilledDataset, start: InitialDistribution) -> str:
    if d.theta_0 is None or isinstance(start, Fixed):
        return ""
    return "; the set was learned for one fixed initialization, and is tested on held-out ones"


def _scheme_of(start: InitialDistribution, net: str | nn.Module | NetFactory | None) -> str | None:
    """The scheme that draws the nets."""
    if isinstance(start, Built):  # of its constructor, where no scheme reaches all parameters
        return None if is_factory(net) else "default"
    return start.init if isinstance(start, Random) else None


def _accuracies(scores: list[Any]) -> list[float]:
    """The accuracy of each net, of accuracies or of scores of an attack."""
    return [one.accuracy if isinstance(one, AttackScores) else one for one in scores]


def _attack(
    pair: tuple[int, int], before: list[AttackScores], after: list[AttackScores]
) -> dict[str, Any]:
    """Mean and deviation over nets of every score of an attack, before and after."""
    said: dict[str, Any] = {"attack_class": pair[0], "target_class": pair[1]}
    for when, scores in (("before", before), ("after", after)):
        average, std = mean_and_std(scores)
        said[when] = {
            **{f"{k}_mean": v for k, v in average.as_dict().items()},
            **{f"{k}_std": v for k, v in std.as_dict().items()},
        }
    return said
