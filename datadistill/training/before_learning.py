"""The check of a run's net before anything is learned."""

from __future__ import annotations

import warnings

from datadistill.errors import InexactGradients, UsageError
from datadistill.innerloop.check_net import check_net, is_cheap
from datadistill.nets.spec import CUSTOM
from datadistill.training.outer import OuterLoop

UNKNOWN = (CUSTOM, "torchvision")  # the other architectures of this library are known to be right


def check_before_learning(loop: OuterLoop) -> str | None:
    """Compare the hypergradient of two steps with finite differences, for nets from elsewhere.

    Args:
        loop: before its first iteration.

    Returns:
        A line to print where nothing could be compared, else None.

    Raises:
        UsageError: the net cannot be trained through; layer and reason.
    """
    if loop.spec.name not in UNKNOWN:
        return None
    images = loop.data.train.images
    if not is_cheap(loop.net, images):
        return (
            "the second derivatives of this net were not checked, which would take long; "
            "dd.check_net(net, data) does it"
        )
    found = check_net(loop.net, loop.data, norm=loop.config.norm, theta_0=loop.start.draw(0))
    if found.ok is None:
        return f"the second derivatives of this net were {found}"
    if found.ok:
        return None
    if any(fault.fault == "missing" for fault in found.faults):
        raise UsageError(
            f"{found}; differentiating through training needs second derivatives: use another layer"
        )
    warnings.warn(f"{found}; what is learned follows another direction", InexactGradients, stacklevel=6)
    return None
