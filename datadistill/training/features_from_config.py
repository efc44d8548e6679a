"""From a config for images to the features of a frozen net, and a config of a head on them."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from datadistill.config import DistillConfig, RunOptions
from datadistill.data import RealData
from datadistill.features import load_body
from datadistill.nets.copying import copy_net
from datadistill.nets.factory import NetFactory, as_module, is_factory
from datadistill.nets.fits import check_fits
from datadistill.nets.head import TRIED, check_linear_head
from datadistill.nets.spec import CUSTOM, FACTORY, NetSpec
from datadistill.nets.trained_parameters import HEAD, parameters_of
from datadistill.real_features import measure_features, to_features


def net_spec(config: DistillConfig, data: RealData, net: nn.Module | NetFactory | None) -> NetSpec:
    """The spec of the run's net for its file."""
    if net is not None:
        built = is_factory(net) and config.pool is None
        return NetSpec(CUSTOM, {}, FACTORY if built else config.init)
    return NetSpec.of_images(
        config.net, config.net_args, config.init, shape=data.shape, classes=len(data.classes)
    )


def take_features(
    config: DistillConfig,
    options: RunOptions,
    data: RealData,
    net: nn.Module | NetFactory | None,
) -> tuple[RealData, DistillConfig]:
    """The real data as features of the frozen net that a config names, and the config of a linear
    head on them, which is drawn afresh for every training."""
    spec = net_spec(config, data, net)
    given = spec.build() if net is None else as_module(net, config.seed, "theta_0", 0, 0)
    outputs = len(given.get_parameter(parameters_of(given, HEAD)[0]))
    check_fits(given, data.shape, outputs)
    backbone = (given if net is None else copy_net(given)).to(data.device)
    weights = None
    if config.weights is not None:
        weights = load_body(backbone, config.weights, spec, options.download)
    check_linear_head(backbone, data.train.images[:TRIED], outputs)
    normalization = measure_features(data, backbone, spec, weights)
    linear = replace(
        config,
        space="pixels",
        net="mlp",
        net_args={"depth": 0},
        theta_0="random",
        weights=None,
        train=("all",),
        head="auto",
        norm="auto",
    )
    return to_features(data, normalization), linear
