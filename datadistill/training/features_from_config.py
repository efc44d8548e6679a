"""From a config for images to the features of a frozen net, and a config of a head on them."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from datadistill.config import DistillConfig, RunOptions
from datadistill.data import RealData
from datadistill.features import load_body
from datadistill.nets.factory import NetFactory
from datadistill.nets.head import TRIED, check_linear_head
from datadistill.nets.trained_parameters import HEAD, parameters_of
from datadistill.real_features import measure_features, to_features
from datadistill.training.net_from_config import build_net


def take_features(
    config: DistillConfig,
    options: RunOptions,
    data: RealData,
    net: nn.Module | NetFactory | None,
) -> tuple[RealData, DistillConfig]:
    """The real data as features of the frozen net that a config names, and the config of a linear
    head on them, which is drawn afresh for every training."""
    spec, backbone = build_net(config, data, net)
    weights = None
    if config.weights is not None:
        weights = load_body(backbone, config.weights, spec, options.download)
    outputs = len(backbone.get_parameter(parameters_of(backbone, HEAD)[0]))
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
