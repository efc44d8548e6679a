"""From a config to the objects of a run. Configs stop here: what lies deeper takes plain values."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from datadistill import data as data_module
from datadistill.config import DistillConfig, RunOptions
from datadistill.data import RealData
from datadistill.data.folders import load_folder
from datadistill.device import refuse_too_large, resolve
from datadistill.errors import DataError, UsageError
from datadistill.innerloop import update_rules
from datadistill.nets.copying import copy_net
from datadistill.nets.factory import NetFactory, as_module, is_factory
from datadistill.nets.fits import check_fits
from datadistill.nets.spec import CUSTOM, FACTORY, NetSpec
from datadistill.objectives import Attack, Objective, classification
from datadistill.training.outer import OuterLoop
from datadistill.training.starts import pool_of, starts_of


def load_data(config: DistillConfig, options: RunOptions) -> RealData:
    """The real data a config names."""
    common: dict[str, Any] = {
        "size": config.size, "channels": config.channels, "validation": config.validation, "seed": config.seed,
    }  # fmt: skip
    if config.dataset == "folder":
        folder = config.data or ""
        return load_folder(folder, holdout=config.holdout, skip_bad=config.skip_bad, **common)
    return data_module.load(config.dataset, root=options.data_root, download=options.download, **common)


def net_spec(config: DistillConfig, data: RealData, net: nn.Module | NetFactory | None) -> NetSpec:
    """How the run's net is named in a file."""
    if net is not None:
        built = is_factory(net) and config.pool is None
        return NetSpec(CUSTOM, {}, FACTORY if built else config.init)
    return NetSpec.of_images(
        config.net, config.net_args, config.init, shape=data.shape, classes=len(data.classes)
    )


def outer_loop(
    config: DistillConfig, options: RunOptions, data: RealData | None, net: nn.Module | NetFactory | None
) -> OuterLoop:
    """Load the data, build the net and everything the outer loop needs."""
    if config.theta_0 == "given" and net is None and config.weights is None:
        raise UsageError(
            "theta_0 is given, but no values are: pass your net (in Python dd.distill(config, net=...)), or a "
            "file of weights (--weights FILE)"
        )
    device = resolve(config.device)
    update = update_rules.from_description({"name": config.update, **config.update_args})
    pool = pool_of(config)
    real = (data if data is not None else load_data(config, options)).to(device)
    if not len(real.validation):
        raise DataError(
            f"{real.name} leaves no image for model selection (validation); it has {len(real.train)} to learn "
            "from: give a class three or more images, or a larger --validation where that is 0"
        )
    missing = [c for k, c in enumerate(real.classes) if not bool((real.train.labels == k).any())]
    if missing:
        raise DataError(f"class {missing[0]} of {real.name} has no training image; add some, or drop the class")
    spec = net_spec(config, real, net)
    make = net if is_factory(net) else None
    given = spec.build() if net is None else as_module(net, config.seed, "theta_0", 0, 0)
    check_fits(given, real.shape, len(real.classes))
    module = (given if net is None else copy_net(given)).to(device)
    _refuse_too_large(config, real, module)
    starts = starts_of(config, real, module, spec, pool, options.download, make)
    return OuterLoop(config, real, module, update, spec, starts, objective_of(config, real))


def _refuse_too_large(config: DistillConfig, data: RealData, net: nn.Module) -> None:
    """Refuse counts that this machine cannot hold, before the folder of the run is made."""
    parameters = sum(p.numel() for p in net.parameters())
    images = config.ipc * len(data.classes) * math.prod(data.shape)
    refuse_too_large(
        4 * parameters * config.nets, f"for {config.nets} nets of {config.net} at once; lower nets", data.device
    )
    # the images, their gradient and Adam's two moments
    refuse_too_large(16 * images, f"to learn {config.ipc} images a class; lower ipc", data.device)


def objective_of(config: DistillConfig, data: RealData) -> Objective:
    """What theta_T is asked for."""
    if config.objective == "attack":
        return Attack(config.attack_class, config.target_class, len(data.classes))
    return classification
