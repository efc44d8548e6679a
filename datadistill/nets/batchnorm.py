"""Running statistics of BatchNorm, and of InstanceNorm where it keeps some, re-estimated.

A net trained by functional steps has parameters theta_T but the running means and variances of
nothing in particular; in `net.eval()` these are what it normalizes with. Over batches b = 1..n,
with batch mean m_b and unbiased batch variance v_b of the activations,

    running_mean = (m_1 + ... + m_n) / n        running_var = (v_1 + ... + v_n) / n

which is torch's cumulative average (`momentum=None`; for InstanceNorm, whose statistics are means
over the batch's images, a momentum of 1/b). Each batch is normalized with its own statistics on the
way, so deeper layers see what they saw in training.

Reference: Ioffe and Szegedy, Batch normalization, 2015, https://arxiv.org/abs/1502.03167
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # BatchNorm1d, 2d, 3d and SyncBatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from datadistill.errors import UsageError


def norms_of(net: nn.Module) -> list[_BatchNorm | _InstanceNorm]:
    """The layers whose statistics are a choice: every BatchNorm, and InstanceNorm with running
    statistics; but not one in evaluation mode inside a net in training mode, which was frozen on
    purpose."""
    return [
        m
        for m in net.modules()
        if isinstance(m, _BatchNorm) or (isinstance(m, _InstanceNorm) and has_running_statistics(m))
        if m.training or not net.training or not has_running_statistics(m)
    ]


def has_running_statistics(norm: nn.Module) -> bool:
    """Whether a norm layer has running statistics, which it normalizes with in evaluation mode."""
    return norm.running_mean is not None


def has_batchnorm(net: nn.Module) -> bool:
    """Whether `net` holds a BatchNorm layer of any kind, or an InstanceNorm with running
    statistics."""
    return bool(norms_of(net))


def reestimate(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running statistics of every layer of `norms_of(net)` to those of `batches`, images
    (B, C, H, W) on the net's device; each batch counts the same, whatever its size.

    The net's buffers are changed in place; its parameters, its training flags and torch's global
    generators are not. Dropout is off and every other layer is in evaluation mode meanwhile. A net
    without running statistics is left as it is, and `batches` is not read. If something fails on
    the way, the buffers are put back.

    Example:
        >>> net = nn.BatchNorm1d(1)
        >>> reestimate(net, [torch.tensor([[1.0], [3.0]])])
        >>> net.running_mean, net.running_var
        (tensor([2.]), tensor([2.]))
    """
    norms = [m for m in norms_of(net) if has_running_statistics(m)]
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
                count += 1
                for norm in norms:
                    if isinstance(norm, _InstanceNorm):  # its momentum None means 0
                        norm.momentum = 1 / count
                net(images)
        if count == 0:
            raise UsageError(
                "no batch was given to estimate BatchNorm statistics from; pass at least one"
            )
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
