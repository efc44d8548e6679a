"""Distributions of theta_0 of a run: fresh draws, a pool of pretrained nets, or the values of one
net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from datadistill.config import DistillConfig
from datadistill.data import RealData
from datadistill.errors import DataError, UsageError
from datadistill.nets import NETS, arguments
from datadistill.nets.factory import NetFactory, check_draws
from datadistill.nets.spec import CUSTOM, NetSpec
from datadistill.nets.weights import read_weights
from datadistill.pool import Pool
from datadistill.runs.header import DTYPES
from datadistill.runs.tensors import checksum
from datadistill.starts import (
    Built,
    Fixed,
    InitialDistribution,
    Pretrained,
    Random,
    Start,
    random_start,
)
from datadistill.theta import Theta, frozen_tensors, put, trainable


@dataclass(frozen=True)
class Starts:
    """Distributions of theta_0, and what a set says of them.

    Args:
        learning, validation: where nets start in learning, and in tests on the validation split.
        start: what the set says of it.
        carried: buffers and frozen parameters that go with one theta_0, for the file.
    """

    learning: InitialDistribution
    validation: InitialDistribution
    start: Start
    carried: Theta | None = None


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
    if config.weights is not None:
        return _from_weights(config, net, spec, download, make)
    if config.theta_0 == "given":
        return _from_values(net)
    if make is not None:
        return _from_factory(config, net, make)
    if config.theta_0 == "random":
        random = partial(random_start, net, config.init, config.seed, spec=spec)
        return Starts(random("theta_0"), random("validation_theta_0"), Start())
    theta_0, buffers = Random(net, config.init, config.seed).whole(0, 0)
    put(net, buffers)
    fixed = Fixed(theta_0)
    return Starts(fixed, fixed, Start(one=True), _find_needed(net, config, spec))


def pool_of(config: DistillConfig) -> Pool | None:
    """The pool that a config names; to be read before data are, which may be fetched."""
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
            f"({', '.join(pool.classes[:4])}, ...), the target {data.name} has {len(data.classes)} "
            f"({', '.join(data.classes[:4])}, ...); adaptation needs the same classes "
            "in the same order"
        )
    wanted = {k: tuple(p.shape) for k, p in net.named_parameters() if p.requires_grad}
    found = {k: tuple(p.shape[1:]) for k, p in pool.tensors.items()}
    if wanted != found:
        different = [k for k in {**wanted, **found} if wanted.get(k) != found.get(k)]
        k = different[0]
        raise UsageError(
            f"the nets of the pool {config.pool} ({pool.net.name} {pool.net.args}) do not fit "
            f"{spec.name} {spec.args}: {len(different)} tensors differ, {k} is {found.get(k)}, "
            f"wanted {wanted.get(k)}; pass a pool of such nets, or choose --net, --size and "
            "--channels as the pool has them"
        )

    def part(name: str, seed: int | None) -> Pretrained:
        return Pretrained({k: p.to(data.device) for k, p in pool.part(name).items()}, seed)

    start = Start("pool", config.theta_0 == "fixed", pool.dataset, pool.fingerprint)
    if start.one:
        fixed = Fixed(part("train", None).one(0, config.seed))
        return Starts(fixed, fixed, start)
    return Starts(part("train", config.seed), part("validation", None), start)


def _from_factory(config: DistillConfig, net: nn.Module, make: NetFactory) -> Starts:
    """Nets that a function of the user's own builds; with one theta_0, the first of them."""
    named = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    start = Start("factory", config.theta_0 != "random", fingerprint=_fingerprint(named))
    if config.theta_0 == "random":
        check_draws(make, config.seed, "theta_0")
        built = partial(Built, make, net, config.seed)
        return Starts(built("theta_0"), built("validation_theta_0"), start)
    fixed = Fixed({name: net.get_parameter(name).detach().clone() for name in trainable(net)})
    return Starts(fixed, fixed, start, _finite(frozen_tensors(net)))


def _find_needed(net: nn.Module, config: DistillConfig, spec: NetSpec) -> Theta | None:
    """Tensors that a module of the user's own must have besides one theta_0 to be trained again:
    all of them, unless they are statistics of BatchNorm which the inner loop does not read."""
    names = set(frozen_tensors(net))
    if config.norm == "batch":
        for prefix, module in net.named_modules():
            if isinstance(module, _BatchNorm):
                names -= {f"{prefix}.{name}" if prefix else name for name in module._buffers}
    return _finite(frozen_tensors(net)) if spec.name == CUSTOM and names else None


def _finite(beside: Theta) -> Theta | None:
    """Copies of what a file can hold: a mask of infinities is part of the architecture."""
    return {
        k: value.clone() for k, value in beside.items() if bool(torch.isfinite(value).all())
    } or None


def _from_weights(
    config: DistillConfig, net: nn.Module, spec: NetSpec, download: bool, make: NetFactory | None
) -> Starts:
    """The given weights, with a last layer drawn by the run's own scheme."""
    assert config.weights is not None
    model = spec.args.get("model")
    if spec.name in NETS and model is None:
        model = arguments(spec.name).get("model")
    weights = read_weights(config.weights, net, model=model, download=download)
    if config.theta_0 == "given":
        theta, buffers, _ = weights.fit(net, fresh_last=False)
        put(net, {**theta, **buffers})
        return _from_values(net)
    theta, buffers, fresh = weights.fit(net)
    net.load_state_dict(buffers, strict=False)
    drawn = (
        Random(net, config.init, config.seed).one(0, 0)
        if make is None
        else dict(net.named_parameters())
    )
    device = next(net.parameters()).device
    fixed = Fixed(
        {
            k: drawn[k].detach().clone() if k in fresh else theta[k].to(device)
            for k in trainable(net)
        }
    )
    start = Start("weights", one=True, fingerprint=weights.fingerprint)
    return Starts(fixed, fixed, start, dict(net.named_buffers()) or None)


def _from_values(net: nn.Module) -> Starts:
    """The net's own values: theta_0, and what goes with it."""
    values = {name: p.detach().clone() for name, p in net.named_parameters()}
    for name, p in values.items():
        if not bool(torch.isfinite(p).all()):
            raise DataError(
                f"theta_0 is given, but {name!r} of the net is not finite; pass a net that is whole"
            )
    beside, stored = frozen_tensors(net), net.state_dict()
    fixed = Fixed({name: values[name] for name in trainable(net)})
    named = {**values, **{name: b for name, b in beside.items() if name in stored}}
    return Starts(
        fixed, fixed, Start("given", one=True, fingerprint=_fingerprint(named)), _finite(beside)
    )


def _fingerprint(named: Mapping[str, Tensor]) -> str:
    """The checksum of a net's tensors; of complex ones, of their parts."""
    values = {name: value.detach() for name, value in named.items()}
    return checksum(
        {name: torch.view_as_real(v) if v.is_complex() else v for name, v in values.items()}
    )
