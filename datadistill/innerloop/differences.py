"""Directional derivatives against central differences in float64, without false alarms.

    found    against    (f(z + h d) - f(z - h d)) / 2h        for several h

Where f or its derivative jumps (ReLU, max-pooling), a difference across the jump is no derivative.
Jumps have measure zero, so a small h misses them; large ones are for nets that compute in float32
inside, whose rounding drowns the difference of a small h. A derivative is right where it agrees
with one of them, and wrong where it agrees with none although two h in a row agree with each other.
Where no two agree, there is nothing to compare.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

TOLERANCE = 1e-3  # relative
STEPS = (1e-6, 1e-7, 1e-5, 1e-8, 1e-4, 1e-3)  # h, in the order they are tried


def relative_error(
    found: float, ends: Callable[[float], tuple[Tensor, Tensor]], size: float
) -> float:
    """Distance of a derivative from the nearest central difference; NaN where there is nothing to
    compare.

    Args:
        found: the derivative.
        ends: h -> f(z + h d), f(z - h d).
        size: of derivatives in other directions; the distance is relative to it, or to the
            difference where that is larger.

    Example:
        >>> x = torch.tensor(2.0, dtype=torch.float64)
        >>> relative_error(12.0, lambda h: ((x + h) ** 3, (x - h) ** 3), size=1.0) < 1e-6
        True
        >>> round(relative_error(6.0, lambda h: ((x + h) ** 3, (x - h) ** 3), size=1.0), 3)
        0.5
    """
    differences: dict[float, float] = {}
    nearest = float("inf")
    for h in STEPS:
        up, down = ends(h)
        difference = float(up - down) / (2 * h)
        differences[h] = difference
        scale = max(abs(difference), size)
        nearest = min(nearest, abs(found - difference) / scale if scale else 0.0)
        if nearest <= TOLERANCE / 10:
            return nearest
    in_order = [differences[h] for h in sorted(STEPS)]
    agree = any(
        abs(a - b) <= TOLERANCE * max(abs(a), abs(b)) or max(abs(a), abs(b)) <= 1e-6 * size
        for a, b in itertools.pairwise(in_order)
    )
    return nearest if agree or nearest <= TOLERANCE else float("nan")


def shift(z: Sequence[Tensor], d: Sequence[Tensor], h: float) -> list[Tensor]:
    """z + h d, tensor by tensor."""
    return [x + h * y for x, y in zip(z, d, strict=True)]


def inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Re <a, b> over all tensors, (); the derivative of a real number along b where a is its
    gradient."""
    return torch.stack([(x.conj() * y).real.sum() for x, y in zip(a, b, strict=True)]).sum()


def norm(a: Sequence[Tensor]) -> float:
    """||a|| over all tensors."""
    return float(torch.stack([x.detach().abs().square().sum() for x in a]).sum().sqrt())


def find_worst(*errors: float) -> float:
    """The largest of the errors that are known, 0 where none is."""
    return max((e for e in errors if e == e), default=0.0)


def percent(error: float) -> str:
    """A relative error for a sentence; beyond 100% it is 100%."""
    return "100%" if error >= 0.995 else f"{100 * error:.2g}%"
