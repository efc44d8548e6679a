"""Running statistics of BatchNorm, estimated anew.

A net trained by functional steps has parameters theta_T but the running means and variances of nothing in
particular; in `net.eval()` these are what it normalizes with. Over batches b = 1..n, with batch mean m_b and
unbiased batch variance v_b of the activations,

    running_mean = (m_1 + ... + m_n) / n        running_var = (v_1 + ... + v_n) / n

which is torch's cumulative average (`momentum=None`). Each batch is normalized with its own statistics on the
way, so deeper layers see what they saw in training.

Reference: Ioffe and Szegedy, Batch normalization, 2015, https://arxiv.org/abs/1502.03167
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # BatchNorm1d, 2d, 3d and SyncBatchNorm

from datadistill.errors import UsageError


def has_batchnorm(net: nn.Module) -> bool:
    """Whether `net` holds a BatchNorm layer of any kind, with running statistics or without.

    >>> has_batchnorm(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))
    True
    """
    return any(isinstance(module, _BatchNorm) for module in net.modules())


def reestimate(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running statistics of every BatchNorm of `net` to those of `batches`.

    The net's buffers are changed in place; its parameters, its training flags and torch's global generators
    are not. Dropout is off and every other layer is in evaluation mode meanwhile. A net without running
    statistics is left as it is, and `batches` is not read. If something fails on the way, the buffers are put
    back.

    Args:
        net: any module that takes a batch.
        batches: images (B, C, H, W), on the net's device; each batch counts the same, whatever its size.

    Raises:
        UsageError: no batch, or a batch with a single value a channel, which has no variance.

    Example:
        >>> net = nn.BatchNorm1d(1)
        >>> reestimate(net, [torch.tensor([[1.0], [3.0]])])
        >>> net.running_mean, net.running_var
        (tensor([2.]), tensor([2.]))
    """
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not norms:
        return
    training = [(module, module.training) for module in net.modules()]
    momenta = [norm.momentum for norm in norms]
    before = [{name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in norms]
    done = False
    try:
        net.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        count = 0
        with torch.no_grad():
            for images in batches:
                net(images)
                count += 1
        if count == 0:
            raise UsageError("no batch was given to estimate BatchNorm statistics from; pass at least one")
        done = True
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UsageError(
            "a batch has one value a channel in a BatchNorm layer, which has no variance; "
            "pass batches of two images or more"
        ) from error
    finally:
        for norm, momentum, buffers in zip(norms, momenta, before, strict=True):
            norm.momentum = momentum
            if not done:
                for name, value in buffers.items():
                    norm.get_buffer(name).copy_(value)
        for module, flag in training:
            module.training = flag
