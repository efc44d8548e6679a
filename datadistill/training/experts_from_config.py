"""The experts that a method matches: trained nets with every epoch kept, from a pool."""

from __future__ import annotations

import inspect

from torch import nn

from datadistill.config import DistillConfig
from datadistill.data import RealData
from datadistill.errors import DataError, UsageError
from datadistill.methods import METHODS
from datadistill.nets import has_batchnorm
from datadistill.nets.spec import CUSTOM, NetSpec
from datadistill.pool import Pool
from datadistill.theta import Theta, trainable


def load_experts(config: DistillConfig, given: Pool | None = None) -> Pool | None:
    """The pool of experts that is given, or that a config names; None for a method that matches
    none. Refuses one without epochs; to be called before data are read, which may be fetched."""
    named = config.experts is not None or given is not None
    if not matches_experts(config.method):
        if named:
            takers = " or ".join(name for name in METHODS if matches_experts(name))
            raise UsageError(
                f"the method {config.method} matches no experts; leave them out (--experts), or "
                f"choose --method {takers}"
            )
        return None
    if given is None and config.experts == CUSTOM:
        raise UsageError(
            "experts custom stands for nets that Python passes (dd.distill(config, experts=...)); "
            "pass a pool's file or run folder, ./custom for one of that name"
        )
    if not named:
        raise UsageError(
            f"the method {config.method} matches experts, and none were given; train some with "
            "datadistill pretrain RECIPE --keep every-epoch, and pass --experts FILE_OR_DIR"
        )
    if config.objective != "classification":
        raise UsageError(
            f"objective is {config.objective}, and experts were trained to classify; leave it out, "
            "or choose --method unrolled"
        )
    pool = given if given is not None else Pool.load(str(config.experts))
    pool.trajectory("train")  # refuses a pool without epochs
    return pool


def matches_experts(method: str) -> bool:
    """Whether a method of the table takes experts."""
    return "experts" in inspect.signature(METHODS[method]).parameters


def trajectories_of(pool: Pool, data: RealData, net: nn.Module, spec: NetSpec) -> Theta:
    """The trajectories of the experts to learn with, name -> (experts, epochs + 1, ...), on the
    CPU; refuses experts that are not such nets, trained on such images."""
    if has_batchnorm(net):
        raise UsageError(
            "experts are matched in their parameters alone, and the net has BatchNorm, whose "
            "statistics would not be those of the expert; choose a net without it (--net-args norm "
            "instance)"
        )
    if different := pool.find_differences(net):
        name, shapes = next(iter(different.items()))
        raise UsageError(
            f"the experts are nets of another kind ({pool.net.name} {pool.net.args}) than "
            f"{spec.name} {spec.args}: {len(different)} tensors differ, {name} is {shapes}; pass "
            "experts of such nets, or choose --net, --net-args, --size and --channels as they have "
            "them"
        )
    found = pool.trajectory("train")
    if beside := [name for name in found if name not in trainable(net)]:
        raise UsageError(
            f"experts are matched in the parameters that train, and {beside[0]} of the net does "
            "not; pass a net without buffers and frozen parameters"
        )
    if pool.net.init != spec.init:
        raise UsageError(
            f"the experts start from the initialization {pool.net.init}, and the nets of the set "
            f"from {spec.init}; choose --init {pool.net.init}"
        )
    if pool.dataset != data.name:
        raise DataError(
            f"the experts were trained on {pool.dataset}, and the set is learned from {data.name}; "
            f"pass experts of {data.name}"
        )
    if tuple(pool.classes) != tuple(data.classes):
        raise DataError(
            f"the experts know the classes {', '.join(pool.classes[:4])}, ..., and {data.name} has "
            f"{', '.join(data.classes[:4])}, ...; pass experts of the same classes"
        )
    if not pool.normalization.is_near(data.normalization):
        raise DataError(
            f"the experts were trained on images normalized by {pool.normalization.words}, those "
            f"to learn from are by {data.normalization.words}; pass the experts' file as "
            "--normalization too"
        )
    return found
