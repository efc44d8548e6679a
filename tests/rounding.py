"""Equality of two computations that round differently.

The same sum of n products, taken in another order (another batch size, memory layout, thread count
or processor), differs by at most n eps of the sum of the magnitudes, eps the distance from 1 to the
next number of the dtype. So values are compared with an absolute tolerance of n eps of the largest
magnitude wanted. Bits are compared only where the same computation is repeated.
"""

import torch
from torch import Tensor


def assert_rounds_alike(found: Tensor, wanted: Tensor, terms: int) -> None:
    """Assert that two tensors are equal up to the order in which sums of `terms` products are
    taken.

    Args:
        terms: the longest sum, times the number of sums that follow each other.
    """
    scale = wanted.detach().abs().max().item() if wanted.numel() else 0.0
    torch.testing.assert_close(
        found, wanted, rtol=0, atol=terms * torch.finfo(wanted.dtype).eps * scale
    )
