"""What is checked and said of a run's net before anything is learned."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from datadistill.config import DistillConfig
from datadistill.data import RealData
from datadistill.errors import InexactGradients, UsageError, ValuesNotUsed
from datadistill.innerloop.check_net import check_net, is_cheap
from datadistill.methods import METHODS
from datadistill.nets.spec import CUSTOM
from datadistill.starts import InitialDistribution, nets_at_once
from datadistill.training.outer_optimizers import OPTIMIZERS

READERS: tuple[tuple[str, Mapping[str, Callable[..., Any]], tuple[str, ...], str], ...] = (
    ("method", METHODS, ("batch", "augment"), "takes no batches of real images"),
    ("method", METHODS, ("adjoint", "window"), "differentiates no training"),
    ("method", METHODS, ("nets",), "draws no nets"),
    ("optimizer", OPTIMIZERS, ("momentum",), "has no momentum"),
    ("optimizer", OPTIMIZERS, ("beta1", "beta2"), "has no decays"),
)
"""A choice, its table, fields that its constructor may take or not, and what it lacks then."""
PARTS = {"beta1": "betas", "beta2": "betas", "window": "adjoint"}
"""Field -> the argument that it becomes a part of."""
UNKNOWN = (CUSTOM, "torchvision")  # the other architectures of this library are known to be right


def check_before_learning(
    name: str, net: nn.Module, start: InitialDistribution, norm: str, data: RealData
) -> str | None:
    """Compare the hypergradient of two steps with finite differences, for nets other than this
    library's, which are known to be right. UsageError, with layer and reason, where the net cannot
    be trained through. Returns a line to print where nothing could be compared, else None."""
    if name not in UNKNOWN:
        return None
    if not is_cheap(net, data.train.images):
        return (
            "the second derivatives of this net were not checked, which would take long; "
            "dd.check_net(net, data) does it"
        )
    net, theta_0, _ = nets_at_once(start, net, 0)[0]
    found = check_net(net, data, norm=norm, theta_0=theta_0)
    if found.ok is None:
        return f"the second derivatives of this net were {found}"
    if found.ok:
        return None
    if any(fault.fault == "missing" for fault in found.faults):
        raise UsageError(
            f"{found}; differentiating through training needs second derivatives: use another layer"
        )
    warnings.warn(
        f"{found}; what is learned follows another direction", InexactGradients, stacklevel=6
    )
    return None


def describe_unused(config: DistillConfig) -> str | None:
    """A sentence about choices that the method or the optimizer does not read; None where all that
    is chosen counts.

    >>> describe_unused(DistillConfig(method="tesla", theta_0="random", batch=64))
    'the method tesla takes no batches of real images, so batch 64 does nothing'
    >>> describe_unused(DistillConfig(method="distribution-matching", adjoint="step-replay"))
    'the method distribution-matching differentiates no training, so adjoint step-replay does
    nothing'
    >>> describe_unused(DistillConfig(momentum=0.9))
    'the optimizer adam has no momentum, so momentum 0.9 does nothing'
    """
    said = []
    for what, table, fields, lacks in READERS:
        choice = getattr(config, what)
        read = inspect.signature(table[choice]).parameters
        unused = [
            f"{name} {' '.join(value) if isinstance(value, tuple) else value}"
            for name, value in ((name, getattr(config, name)) for name in fields)
            if PARTS.get(name, name) not in read and value != getattr(DistillConfig, name)
        ]
        if unused:
            verb = "does" if len(unused) == 1 else "do"
            said.append(f"the {what} {choice} {lacks}, so {' and '.join(unused)} {verb} nothing")
    return "; ".join(said) or None


def warn_of_unused_values(said: str, stacklevel: int) -> None:
    """Warn that a module gives its architecture alone."""
    try:
        warnings.warn(ValuesNotUsed(said), stacklevel=stacklevel)
    except ValuesNotUsed:
        # said of what is meant as often as not, so no error where warnings are errors
        print(said, file=sys.stderr)
