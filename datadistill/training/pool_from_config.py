"""From a config to the loop that trains a pool, and the spec of its nets."""

from __future__ import annotations

import torch
from torch import nn

from datadistill.config import PoolConfig, RunOptions
from datadistill.data import RealData
from datadistill.data.from_config import load_data
from datadistill.device import refuse_too_large, resolve
from datadistill.errors import DataError, UsageError
from datadistill.nets.batchnorm import norms_of
from datadistill.nets.copying import copy_net
from datadistill.nets.factory import NetFactory, as_module, check_draws, is_factory
from datadistill.nets.fits import check_fits
from datadistill.nets.spec import CUSTOM, FACTORY, NetSpec
from datadistill.pool_from_modules import pooled_tensors
from datadistill.starts import Built, Random, random_start
from datadistill.training.normalization_from_config import choose_normalization
from datadistill.training.pool_loop import PoolLoop

CPU = torch.device("cpu")  # where the pool is put together
COPIES = 4  # of all nets, where they are brought together, packed and written
DRAWS = "pool_theta_0"
"""The stream that its nets are drawn from."""


def pool_loop_of(
    config: PoolConfig,
    options: RunOptions,
    data: RealData | None,
    net: nn.Module | NetFactory | None,
) -> tuple[PoolLoop, NetSpec]:
    """Load the data, build the net and the loop."""
    device = resolve(config.device)
    real = data
    if real is None:
        chosen = choose_normalization(config)
        real = load_data(config, options, seed=config.seed, normalization=chosen)
    if not len(real.validation):
        raise DataError(
            f"{real.name} leaves no image to judge the nets by (validation); pass a "
            "larger --validation"
        )
    if net is None:
        spec = NetSpec.of_images(
            config.net, config.net_args, config.init, shape=real.shape, classes=len(real.classes)
        )
        given = spec.build()
    else:
        spec = NetSpec(CUSTOM, {}, FACTORY if is_factory(net) else config.init)
        given = as_module(net, config.seed, DRAWS, 0, 0)
    check_fits(given, real.shape, len(real.classes))
    module = copy_net(given)
    _refuse_at_once(config, module)
    _refuse_too_large(config, module)
    module = module.to(device)
    if is_factory(net):
        check_draws(net, config.seed, DRAWS)
        draws: Random | Built = Built(net, module, config.seed, DRAWS)
    else:
        draws = random_start(module, config.init, config.seed, DRAWS, spec)
    if isinstance(net, nn.Module):
        for norm in norms_of(module):  # of the module's own training, which is not used
            norm.reset_running_stats()
    return PoolLoop(config, real.to(device), module, draws), spec


def _refuse_too_large(config: PoolConfig, net: nn.Module) -> None:
    """All nets are together in memory where the pool is written."""
    each = sum(x.numel() * x.element_size() for part in pooled_tensors(net) for x in part.values())
    what, less = f"{config.total} nets of {config.net}", "nets, validation_nets or held_out"
    if config.kept_epochs is None:
        refuse_too_large(config.total * each, f"for {what}; lower {less}", CPU)
        return
    times = config.kept_epochs + 1
    refuse_too_large(
        COPIES * config.total * times * each,
        f"for {what} as they are at {times} epochs, while they are written; lower epochs, {less}",
        CPU,
    )


def _refuse_at_once(config: PoolConfig, net: nn.Module) -> None:
    """Side by side, nets share the buffers, and every parameter is trained."""
    if config.at_once == 1:
        return
    if config.net == CUSTOM or next(net.buffers(), None) is not None:
        what = "is a module of your own" if config.net == CUSTOM else "has buffers (BatchNorm)"
        raise UsageError(
            f"at_once is {config.at_once}, but the net {what}, which is trained net after net; "
            "choose at_once 1 (--at-once 1)"
        )
