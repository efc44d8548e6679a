"""Losses of the inner loop, by the names that files and configs have for them.

cross-entropy    - mean_i sum_k y_ik log softmax(z_i)_k    labels y are classes or probabilities
squared-error    mean_i 1/2 sum_k (z_ik - y_ik)^2          labels y are any real numbers
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from datadistill.errors import UsageError
from datadistill.nets.logits import cross_entropy, refuse_no_logits

__all__ = ["LOSSES", "loss_of_labels", "squared_error"]


def squared_error(logits: Any, labels: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Half the squared distance of logits (B,K) and labels (B,K), summed over classes and averaged
    over the batch.

    Example:
        >>> import torch
        >>> squared_error(torch.zeros(2, 3), torch.tensor([[1.0, 0.0, 0.0], [0.0, -1.0, 1.0]]))
        tensor(0.7500)
    """
    refuse_no_logits(logits)
    if labels.shape != logits.shape:
        raise UsageError(
            f"labels have shape {tuple(labels.shape)} for logits {tuple(logits.shape)}; the "
            "squared error wants one number a class"
        )
    return (logits - labels.to(logits.dtype)).square().sum(1).mean() / 2


LOSSES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "cross-entropy": cross_entropy,
    "squared-error": squared_error,
}


def loss_of_labels(labels: str) -> str:
    """The name of the loss that goes with labels "hard", "soft" or "raw".

    >>> loss_of_labels("raw")
    'squared-error'
    """
    return "squared-error" if labels == "raw" else "cross-entropy"
