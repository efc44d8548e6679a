"""Logit standardization: the student learns the order and the proportions of the teacher's logits,
not their size.

Each sample's logits are replaced by their z-scores before a loss of softened probabilities. The
temperature of a sample is then its own standard deviation times T, another one in each net.

Reference: Sun et al., Logit Standardization in Knowledge Distillation, CVPR 2024,
https://arxiv.org/abs/2403.01427
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from datadistill.errors import UsageError
from kd_baselines.losses.checks import at_least_float32

__all__ = ["standardize_logits"]


def standardize_logits(logits: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    """(z_k - m) / s of each sample, with m and s the mean and the standard deviation of its K
    logits (Sun et al. 2024).

    s has the divisor K, so that a z-score is at most sqrt(K - 1). The authors' code divides by K -
    1: there the z-scores are sqrt((K - 1) / K) of these, which is the same loss at a temperature
    larger by sqrt(K / (K - 1)), up to its factor T^2. Logits that are all equal are only centred.

    Args:
        logits: z, (B,K), finite, K at least 2.

    Returns:
        (B,K), in float32 for logits of half precision.

    Example:
        >>> standardize_logits(torch.tensor([[1.0, 3.0], [10.0, 30.0], [2.0, 2.0]]))
        tensor([[-1.,  1.],
                [-1.,  1.],
                [ 0.,  0.]])
    """
    if logits.dim() != 2 or not logits.is_floating_point() or logits.shape[1] < 2:
        raise UsageError(
            f"the logits are {tuple(logits.shape)} {logits.dtype}; pass floats (samples, classes) "
            "of 2 classes or more: one logit has no standard deviation"
        )
    z = at_least_float32(logits)
    centred = z - z.mean(1, keepdim=True)
    # exact, as a standard deviation is not: the rounded mean of equal numbers may differ from them
    constant = z.amax(1, keepdim=True) == z.amin(1, keepdim=True)
    variance = centred.square().mean(1, keepdim=True)
    return centred / torch.where(constant, torch.ones_like(variance), variance).sqrt()
