"""Logits of a classifier: one a class, two classes or more; and a sentence for images that it does
not take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import DatadistillError, UsageError, is_out_of_memory

__all__ = [
    "cross_entropy",
    "explain_failure",
    "refuse_labels_beyond",
    "refuse_no_logits",
    "refuse_one_logit",
]


def refuse_one_logit(logits: Float[Tensor, "b k"], whose: str = "the net") -> None:
    """Refuse logits (B,1), of which a softmax is 1 whatever the net computes.

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
            f"{whose} makes one logit an image, whose softmax is always 1: the loss is 0 and "
            "nothing is learned; give it two logits, one a class (a sigmoid logit s is the pair "
            "(0, s): nn.Sequential(net, nn.ConstantPad1d((1, 0), 0.0)))"
        )


def refuse_no_logits(returned: Any, images: int | None = None, mode: str = "training") -> None:
    """Refuse a net's output that is no tensor of logits (B,K), K at least 2. `mode` is the net's,
    for the error."""
    if not isinstance(returned, Tensor):
        own_loss = (
            ", or a loss of your own that takes what it returns" if mode == "training" else ""
        )
        raise UsageError(
            f"the net makes a {type(returned).__name__} in {mode} mode, wanted a tensor of logits "
            f"(B, K); pass a net that returns its logits alone{own_loss}"
        )
    if returned.dim() != 2 or images not in (None, len(returned)):
        batch = "a batch" if images is None else f"{images} images"
        raise UsageError(
            f"the net makes {tuple(returned.shape)} of {batch}, wanted logits (B, K), one a class"
        )
    refuse_one_logit(returned)


def refuse_labels_beyond(labels: Tensor, classes: int) -> None:
    """Refuse class numbers outside 0..K-1."""
    if len(labels):
        low, high = torch.stack(torch.aminmax(labels)).tolist()  # one wait for an accelerator
        if low < 0 or high >= classes:
            raise UsageError(
                f"labels go from {low} to {high} and the net has {classes} logits; number the "
                f"classes 0 to {classes - 1}"
            )


def cross_entropy(logits: Any, labels: Tensor) -> Float[Tensor, ""]:
    """Mean cross-entropy over the batch, as `torch.nn.functional.cross_entropy`; integer labels of
    any type.

    Args:
        logits: (B,K), K at least 2.
        labels: (B,) whole numbers of 0 to K - 1, or (B,K) probabilities; one-hot whole numbers
            (B,K) count as probabilities.

    Example:
        >>> import torch
        >>> cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3], dtype=torch.int16))
        tensor(1.3863)
    """
    refuse_no_logits(logits)
    if labels.shape == logits.shape:
        return F.cross_entropy(logits, labels.to(logits.dtype))
    if labels.shape != logits.shape[:1]:
        raise UsageError(
            f"labels have shape {tuple(labels.shape)} for logits {tuple(logits.shape)}; wanted "
            f"({len(logits)},) whole numbers or {tuple(logits.shape)} probabilities"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype is torch.bool:
        raise UsageError(
            f"labels are {labels.dtype}, wanted whole numbers of 0 to K - 1; pass labels.long()"
        )
    whole = labels.long()
    refuse_labels_beyond(whole, logits.shape[1])
    return F.cross_entropy(logits, whole)


@contextlib.contextmanager
def explain_failure(net: nn.Module, images: Tensor) -> Iterator[None]:
    """Turn what a net raises about images that it does not take into a sentence."""
    try:
        yield
    except DatadistillError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        types = {p.dtype for p in net.parameters() if p.is_floating_point()}
        wanted = ", ".join(sorted(map(str, types)))
        raise UsageError(
            f"the net does not take images {tuple(images.shape)} of {images.dtype} (torch says: "
            f"{' '.join(str(error).split())[:200]}); pass images (B, C, H, W) as it takes them"
            + (f", {wanted} as its parameters are" if images.dtype not in types else "")
        ) from error
