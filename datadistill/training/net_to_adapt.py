"""The net that `datadistill finetune` adapts: an architecture with the user's weights.

A set that was learned for the values of one net is of use to that net alone, so that other weights
are refused. A set for random starts, or for a pool, takes any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from datadistill.config import Value
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError, list_some
from datadistill.evaluation.tested_nets import fitting_pool
from datadistill.features import FeatureNormalization
from datadistill.nets import build
from datadistill.nets.spec import CUSTOM, NetSpec
from datadistill.nets.weights import read_weights
from datadistill.pool import Pool
from datadistill.pretrained_values import describe, load_net, refuse_other_values
from datadistill.runs.file_kinds import read_kind
from datadistill.theta import Theta, put

ANY_WEIGHTS = ", or --any-weights and expect little"
"""The end of a sentence that refuses weights."""


@dataclass(frozen=True)
class NetChoice:
    """Which net is adapted.

    Args:
        weights: their file, a pool, or "imagenet"; None takes the values that the set's file holds.
        name, arguments: another architecture than the set's.
        pool_net: number of a net that the pool holds out.
        any_weights: take weights that the set was not learned for.
        download: whether torchvision's weights may be fetched.
    """

    weights: str | None = None
    name: str | None = None
    arguments: Mapping[str, Value] | None = None
    pool_net: int | None = None
    any_weights: bool = False
    download: bool = True


def net_to_adapt(d: DistilledDataset, choice: NetChoice) -> nn.Module:
    """The net with its values, and with the last layer that the set carries where it was drawn for
    the set.

    Raises:
        UsageError: no weights, or a pool without the number of a net.
        DataError: weights that do not fit the net, or other ones than the set was learned for.
    """
    if isinstance(d.normalization, FeatureNormalization):
        return _backbone(d.normalization, choice)
    is_for_one = d.start.kind in ("weights", "given")
    if d.net.name == CUSTOM and choice.name is None:
        raise UsageError(
            "the set was learned with a module of the user's own, which a command cannot build; "
            "adapt it in Python: dd.finetune(dd.DistilledDataset.load(FILE), net)"
        )
    if choice.weights is None:
        if not (is_for_one and d.is_complete and choice.name is None):
            named = f"; the set was learned for {describe(d)}" if is_for_one else ""
            raise UsageError(f"no weights were given to start from (--weights FILE){named}")
        return put(d.build(), {**(d.theta_0 or {}), **(d.buffers or {})})
    if choice.name is None:
        net = d.build()
    else:
        _, c, h, _ = d.images.shape
        arguments = choice.arguments or {}
        net = build(choice.name, channels=c, size=h, classes=len(d.classes), **arguments)
    if is_for_one and not choice.any_weights and (choice.name, choice.pool_net) != (None, None):
        other = choice.name or f"net {choice.pool_net} of {choice.weights}"
        refuse_other_values(d, other, ANY_WEIGHTS)
    if choice.pool_net is not None:
        return put(net, load_net_of_pool(d, net, Path(choice.weights), choice.pool_net))
    if read_kind(choice.weights) == "pool":
        raise UsageError(
            f"{choice.weights} is a pool of nets; choose one of those it holds out, with "
            "--pool-net 0 or above"
        )
    if is_for_one and choice.name is None:
        return load_net(
            d,
            choice.weights,
            net,
            download=choice.download,
            any_values=choice.any_weights,
            hint=ANY_WEIGHTS,
        )
    spec = d.net if choice.name is None else NetSpec(choice.name, dict(choice.arguments or {}))
    weights = read_weights(choice.weights, net, model=spec.model, download=choice.download)
    theta, buffers, _ = weights.fit(net, fresh_last=False)
    return put(net, {**theta, **buffers})


def _backbone(features: FeatureNormalization, choice: NetChoice) -> nn.Module:
    """The net whose last layer a set of features is for."""
    if choice.weights is None:
        return features.attached()
    if (choice.name, choice.pool_net, choice.any_weights) != (None, None, False):
        raise UsageError(
            f"the set is for the last layer of {features.named}, whose features it has; leave "
            "--net, --pool-net and --any-weights out"
        )
    return features.with_backbone(choice.weights, download=choice.download).attached()


def load_net_of_pool(d: DistilledDataset, net: nn.Module, path: Path, number: int) -> Theta:
    """A held-out net of a pool."""
    pool = Pool.load(path)
    if pool.classes != d.classes:
        raise DataError(
            f"the nets of {path} were trained on {pool.dataset}, {len(pool.classes)} classes "
            f"({list_some(pool.classes)}), the set is for {len(d.classes)} "
            f"({list_some(d.classes)}); pass a pool of the same classes"
        )
    stacked = fitting_pool(pool, d, net).part("held_out")
    if not 0 <= number < pool.held_out:
        raise UsageError(
            f"pool_net is {number}, but {path} holds out {pool.held_out} nets, "
            f"0..{pool.held_out - 1}"
        )
    return {name: p[number] for name, p in stacked.items()}
