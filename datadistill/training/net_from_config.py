"""From a config, or a module of the user's own, to the net of a run."""

from __future__ import annotations

from torch import nn

from datadistill.config import DistillConfig
from datadistill.data import RealData
from datadistill.nets.copying import copy_net
from datadistill.nets.factory import NetFactory, as_module, is_factory
from datadistill.nets.fits import check_fits
from datadistill.nets.spec import CUSTOM, FACTORY, NetSpec
from datadistill.nets.trained_parameters import HEAD, parameters_of


def build_net(
    config: DistillConfig,
    data: RealData,
    net: nn.Module | NetFactory | None,
    outputs: int | None = None,
) -> tuple[NetSpec, nn.Module]:
    """The spec of the run's net for its file, and a net of the run's own on the device of the data.
    Refuses a module that does not make so many logits of their images; with None, as many as its
    head has."""
    spec = _spec_of(config, data, net)
    given = spec.build() if net is None else as_module(net, config.seed, "theta_0", 0, 0)
    if outputs is None:
        outputs = len(given.get_parameter(parameters_of(given, HEAD)[0]))
    check_fits(given, data.shape, outputs)
    own = given if net is None else copy_net(given)
    return spec, own.to(data.device)


def _spec_of(config: DistillConfig, data: RealData, net: nn.Module | NetFactory | None) -> NetSpec:
    if net is not None:
        built = is_factory(net) and config.pool is None
        return NetSpec(CUSTOM, {}, FACTORY if built else config.init)
    return NetSpec.of_images(
        config.net, config.net_args, config.init, shape=data.shape, classes=len(data.classes)
    )
