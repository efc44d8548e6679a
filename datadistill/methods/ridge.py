"""Ridge regression in closed form, in its dual form: a system of as many equations as rows, which
are few in a set."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["predict_by_ridge"]


def predict_by_ridge(
    real: Float[Tensor, "b d"],
    features: Float[Tensor, "n d"],
    targets: Float[Tensor, "n k"],
    regularization: float,
) -> Float[Tensor, "b k"]:
    """Predictions for `real` of ridge regression on (features, targets):

        R Z^T (Z Z^T + lambda tr(Z Z^T) / n I)^-1 Y

    Args:
        real: R, rows to predict for.
        features: Z.
        targets: Y.
        regularization: lambda, relative to the mean of the kernel's diagonal.

    Example:
        >>> predict_by_ridge(torch.tensor([[2.0]]), torch.tensor([[1.0]]), torch.ones(1, 1), 1.0)
        tensor([[1.]])
    """
    kernel = features @ features.T
    ridge = regularization * kernel.trace() / len(kernel)
    eye = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    return real @ features.T @ torch.linalg.solve(kernel + ridge * eye, targets)
