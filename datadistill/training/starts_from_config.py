"""Distributions of theta_0 of a run: fresh draws, a pool of pretrained nets, or the values of one
net."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from datadistill.config import DistillConfig
from datadistill.data import RealData
from datadistill.errors import DataError, UsageError, list_some
from datadistill.nets import has_batchnorm, reestimate
from datadistill.nets.factory import NetFactory, check_draws
from datadistill.nets.initialization import draw_whole
from datadistill.nets.spec import CUSTOM, NetSpec
from datadistill.nets.trained_parameters import HEAD, parameters_of
from datadistill.nets.weights import Weights, read_weights
from datadistill.pool import Pool
from datadistill.pretrained_values import (
    checksum_of,
    finite_copies,
    given_values,
    name_of,
    names_not_kept,
)
from datadistill.runs.header import DTYPES
from datadistill.runs.tensors import is_finite
from datadistill.starts import (
    Built,
    Fixed,
    InitialDistribution,
    Pretrained,
    Random,
    Start,
    random_start,
)
from datadistill.streams import generator
from datadistill.theta import Theta, frozen_tensors, put, trainable

REESTIMATED_ON = 256
"""Real images a batch, where statistics of BatchNorm are re-estimated on them."""


@dataclass(frozen=True)
class Starts:
    """Distributions of theta_0, and what a set says of them.

    Args:
        learning, validation: where nets start in learning, and in tests on the validation split.
        start: what the set says of it.
        carried: buffers and frozen parameters that go with one theta_0, for the file.
        own, by_reference: see `DistilledDataset`.
    """

    learning: InitialDistribution
    validation: InitialDistribution
    start: Start
    carried: Theta | None = None
    own: tuple[str, ...] = ()
    by_reference: bool = False


def starts_of(
    config: DistillConfig,
    data: RealData,
    net: nn.Module,
    spec: NetSpec,
    pool: Pool | None = None,
    download: bool = True,
    make: NetFactory | None = None,
) -> Starts:
    """The starts that a config asks for. Given weights are written into `net`; `spec` is how a file
    names it; `make` built it, where a function of the user's own did."""
    trained = {name: net.get_parameter(name) for name in trainable(net)}
    if not trained:
        raise UsageError(
            "no parameter of the net requires a gradient, so nothing would be "
            "trained; unfreeze some"
        )
    written = {**trained, **(frozen_tensors(net) if spec.name == CUSTOM else {})}
    held = [name for name, p in written.items() if p.dtype not in DTYPES]
    if held and config.theta_0 != "random":
        raise UsageError(
            f"{held[0]} of the net is {written[held[0]].dtype}, and a set's file holds no such "
            'tensor beside theta_0; choose theta_0="random", or keep it as another type (a complex '
            "tensor as two real ones)"
        )
    if pool is not None:
        return _from_pool(config, data, net, spec, pool)
    if config.weights is not None or config.theta_0 == "given":
        return _from_given(config, data, net, spec, download, make)
    if make is not None:
        return _from_factory(config, net, make)
    if config.theta_0 == "random":
        random = partial(random_start, net, config.init, config.seed, spec=spec)
        return Starts(random("theta_0"), random("validation_theta_0"), Start())
    theta_0, buffers = Random(net, config.init, config.seed).whole(0, 0)
    put(net, buffers)
    fixed = Fixed(theta_0)
    return Starts(fixed, fixed, Start(one=True), _find_needed(net, config, spec))


def norm_of(config: DistillConfig, net: nn.Module) -> str:
    """What BatchNorm layers of the run's net use inside the inner loop."""
    if config.norm == "reestimated":
        return "frozen"
    if config.norm != "auto":
        return config.norm
    pretrained = (
        config.theta_0 == "given" or (config.weights or config.pool or config.source) is not None
    )
    return "frozen" if pretrained and has_batchnorm(net) else "batch"


def pool_of(config: DistillConfig, given: Pool | None = None) -> Pool | None:
    """The pool that is given, or that a config names; to be read before data are, which may be
    fetched."""
    if given is not None:
        return given
    if config.pool == CUSTOM:
        raise UsageError(
            "pool custom stands for nets that Python passes (dd.distill(config, pool=...)); pass a "
            "pool's file or run folder, ./custom for one of that name"
        )
    if config.pool is not None:
        return Pool.load(config.pool)
    if config.source is not None:
        raise UsageError(
            f"theta_0 comes from nets pretrained on {config.source}, and no pool of them was "
            "given; make one with datadistill pretrain (datadistill recipes lists them), and pass "
            "--pool FILE_OR_DIR"
        )
    return None


def _from_pool(
    config: DistillConfig, data: RealData, net: nn.Module, spec: NetSpec, pool: Pool
) -> Starts:
    if config.source is not None and pool.dataset != config.source:
        raise UsageError(
            f"the nets of the pool {config.pool} were trained on {pool.dataset}, but source is "
            f"{config.source}; pass a pool of that data set, or change --source"
        )
    if tuple(pool.classes) != tuple(data.classes):
        raise DataError(
            f"the source {pool.dataset} has {len(pool.classes)} classes "
            f"({list_some(pool.classes)}), the target {data.name} has {len(data.classes)} "
            f"({list_some(data.classes)}); adaptation needs the same classes "
            "in the same order, as the last layer is kept: pass a pool of these classes, or, where "
            "its outputs are to stand for other ones, give the target's classes the same names"
        )
    if pool.normalization.kind != data.normalization.kind:
        raise UsageError(
            f"the nets of the pool {config.pool} were trained on images normalized by "
            f"{pool.normalization.words}, those of {data.name} are by {data.normalization.words}; "
            "choose one kind for both (--normalization)"
        )
    if different := pool.find_differences(net):
        name, shapes = next(iter(different.items()))
        way = "net=" if CUSTOM in (spec.name, pool.net.name) else "--net, --size and --channels"
        raise UsageError(
            f"the nets of the pool {config.pool} ({pool.net.name} {pool.net.args}) do not fit "
            f"{spec.name} {spec.args}: {len(different)} tensors differ, {name} is {shapes}; pass a "
            f"pool of such nets, or choose {way} as the pool has them"
        )

    def part(name: str, seed: int | None) -> Pretrained:
        stacked = {k: x.to(data.device) for k, x in pool.part(name).items()}
        return Pretrained(stacked, seed, trained=trainable(net))

    start = Start("pool", config.theta_0 == "fixed", pool.dataset, pool.fingerprint)
    if start.one:
        theta_0, beside = part("train", None).whole(0, config.seed)
        put(net, beside)
        fixed = Fixed(theta_0)
        return Starts(fixed, fixed, start, finite_copies(frozen_tensors(net)) if beside else None)
    return Starts(part("train", config.seed), part("validation", None), start)


def _from_factory(config: DistillConfig, net: nn.Module, make: NetFactory) -> Starts:
    """Nets that a function of the user's own builds; with one theta_0, the first of them."""
    named = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    start = Start("factory", config.theta_0 != "random", fingerprint=checksum_of(named))
    if config.theta_0 == "random":
        check_draws(make, config.seed, "theta_0")
        built = partial(Built, make, net, config.seed)
        return Starts(built("theta_0"), built("validation_theta_0"), start)
    fixed = Fixed({name: net.get_parameter(name).detach().clone() for name in trainable(net)})
    return Starts(fixed, fixed, start, finite_copies(frozen_tensors(net)))


def _find_needed(net: nn.Module, config: DistillConfig, spec: NetSpec) -> Theta | None:
    """Tensors that a module of the user's own must have besides one theta_0 to be trained again:
    all of them, unless they are statistics of BatchNorm which the inner loop does not read."""
    names = set(frozen_tensors(net))
    if norm_of(config, net) == "batch":
        for prefix, module in net.named_modules():
            if isinstance(module, _BatchNorm):
                names -= {f"{prefix}.{name}" if prefix else name for name in module._buffers}
    return finite_copies(frozen_tensors(net)) if spec.name == CUSTOM and names else None


def _from_given(
    config: DistillConfig,
    data: RealData,
    net: nn.Module,
    spec: NetSpec,
    download: bool,
    make: NetFactory | None,
) -> Starts:
    """The values of a file of weights, or those that the net has; a fresh last layer is drawn by
    the run's own scheme."""
    fresh: tuple[str, ...] = ()
    name = None
    if config.weights is not None:
        weights = _read(config, net, spec, download)
        theta, buffers, fresh = weights.fit(net, fresh_last=_is_head_fresh(config, net, weights))
        put(net, {**theta, **buffers})
        name = name_of(weights.source)
    elif config.head == "fresh":
        fresh = parameters_of(net, HEAD)
    if fresh and make is None:  # a function of the user's own has drawn it
        drawn, _ = draw_whole(net, config.init, generator(config.seed, "theta_0", 0, 0))
        put(net, {k: drawn[k] for k in fresh})
    for k, p in net.named_parameters():
        if not is_finite(p):
            raise DataError(
                f"theta_0 is given, but {k!r} of the net is not finite; pass a net that is whole"
            )
    own = {*fresh, *names_not_kept(net)}
    if config.norm == "reestimated":
        own |= _reestimate(net, data)
    fixed = Fixed({k: net.get_parameter(k).detach().clone() for k in trainable(net)})
    beside = finite_copies(frozen_tensors(net))
    given = given_values(net, own)
    kind = "weights" if fresh else "given"
    start = Start(kind, one=True, fingerprint=checksum_of(given), weights=name)
    held = tuple(k for k in (*fixed.theta_0, *(beside or {})) if k in own)
    return Starts(fixed, fixed, start, beside, held, bool(given) and not config.embed_weights)


def _read(config: DistillConfig, net: nn.Module, spec: NetSpec, download: bool) -> Weights:
    assert config.weights is not None
    return read_weights(config.weights, net, model=spec.model, download=download)


def _is_head_fresh(config: DistillConfig, net: nn.Module, weights: Weights) -> bool:
    """Whether the last layer is drawn afresh; DataError where it should be kept and does not
    fit."""
    wanted = {k: tuple(net.get_parameter(k).shape) for k in parameters_of(net, HEAD)}
    found = {k: tuple(weights.tensors[k].shape) for k in wanted if k in weights.tensors}
    if config.head == "keep" and found != wanted:
        other = next(k for k in wanted if found.get(k) != wanted[k])
        raise DataError(
            f"the last layer of {config.weights} does not fit these classes ({other} is "
            f"{found.get(other, 'missing')}, wanted {wanted[other]}); draw it afresh (--head "
            "fresh), or pass weights for these classes"
        )
    if config.head == "auto":
        return config.theta_0 != "given" or found != wanted
    return config.head == "fresh"


def _reestimate(net: nn.Module, data: RealData) -> set[str]:
    """Re-estimate the statistics of BatchNorm on the real images; their names."""
    before = {k: b.clone() for k, b in net.named_buffers()}
    reestimate(net, data.train.images.split(REESTIMATED_ON))
    changed = {k for k, b in net.named_buffers() if not torch.equal(b, before[k])}
    if not changed:
        raise UsageError(
            "norm is reestimated, but the net has no BatchNorm statistics; choose norm auto"
        )
    return changed
