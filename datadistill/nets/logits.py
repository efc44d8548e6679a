"""Logits of a classifier: one a class, two classes or more."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from datadistill.errors import UsageError

__all__ = ["cross_entropy", "refuse_one_logit"]


def refuse_one_logit(logits: Float[Tensor, "b k"], whose: str = "the net") -> None:
    """Refuse a single logit an image, of which a softmax is 1 whatever the net computes.

    Args:
        logits: (B,K).
        whose: named in the error.

    Raises:
        UsageError: K is 1.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Linear(4, 1)  # a sigmoid logit
        >>> two = nn.Sequential(net, nn.ConstantPad1d((1, 0), 0.0))
        >>> images = torch.randn(5, 4)
        >>> torch.allclose(two(images).softmax(1)[:, 1], net(images).sigmoid()[:, 0])
        True
    """
    if logits.dim() and logits.shape[min(1, logits.dim() - 1)] == 1:
        raise UsageError(
            f"{whose} makes one logit an image, whose softmax is always 1: the loss is 0 and nothing is "
            "learned; give it two logits, one a class (a sigmoid logit s is the pair (0, s): "
            "nn.Sequential(net, nn.ConstantPad1d((1, 0), 0.0)))"
        )


def cross_entropy(logits: Float[Tensor, "b k"], labels: Tensor) -> Float[Tensor, ""]:
    """`torch.nn.functional.cross_entropy`, mean over the batch, of two logits or more.

    Args:
        logits: (B,K), K at least 2.
        labels: (B,) int64, or (B,K) probabilities.

    Raises:
        UsageError: see `refuse_one_logit`.

    Example:
        >>> import torch
        >>> cross_entropy(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.6931)
    """
    refuse_one_logit(logits)
    return F.cross_entropy(logits, labels)
