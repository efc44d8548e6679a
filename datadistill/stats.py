"""Statistics of repeated measurements: mean, deviation, confidence interval, paired difference.

Notation: v_1..v_n the measurements, m their mean; a_s and b_s the scores of two arms with seed s,
d_s = a_s - b_s, and e the sample deviation (n - 1 in the denominator).

    deviation = sqrt(sum of (v_i - m)^2 / n)          of the population
    interval  = m -+ t e / sqrt(n)                    t the quantile of Student's t, n - 1 degrees
                                                      of freedom
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from datadistill.errors import UsageError

__all__ = ["Interval", "deviation", "format_mean", "mean", "mean_interval", "paired_difference"]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def deviation(values: Sequence[float]) -> float:
    """Population standard deviation of one value or more."""
    m = mean(values)
    return math.sqrt(sum((v - m) ** 2 for v in values) / len(values))


def format_mean(mean: float, deviation: float | None = None, spec: str = ".2f") -> str:
    """A mean with its deviation (None for a single value) as text.

    >>> format_mean(93.456, 0.5), format_mean(93.456), format_mean(93.456, 0.5, ".1f")
    ('93.46 ± 0.50', '93.46', '93.5 ± 0.5')
    """
    text = format(mean, spec)
    return text if deviation is None else f"{text} ± {deviation:{spec}}"


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; `low` and `high` are None for a single value."""

    mean: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """With signs, as differences are printed.

        >>> str(Interval(1.5, 0.25, 2.75)), str(Interval(-1.0))
        ('+1.50 [+0.25, +2.75]', '-1.00')
        """
        bounds = "" if self.low is None else f" [{self.low:+.2f}, {self.high:+.2f}]"
        return f"{self.mean:+.2f}{bounds}"


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of one or more values and its confidence interval by Student's t, of a `level` above 0
    and below 1.

    Example:
        >>> found = mean_interval([1.0, 2.0, 3.0])  # e = 1, t = 4.303
        >>> [round(value, 2) for value in (found.mean, found.low, found.high)]
        [2.0, -0.48, 4.48]
    """
    if not values:
        raise UsageError("there are no values to take a mean of; measure at least one")
    if not 0 < level < 1:
        raise UsageError(
            f"level is {level}, but a confidence level lies between 0 and 1; give such as 0.95"
        )
    n = len(values)
    m = math.fsum(values) / n  # exact sums: differences cancel
    if n == 1:
        return Interval(m)
    from scipy.stats import t

    e = math.sqrt(math.fsum((v - m) ** 2 for v in values) / (n - 1))
    half = float(t.ppf((1 + level) / 2, n - 1)) * e / math.sqrt(n)
    return Interval(m, m - half, m + half)


def paired_difference(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of the differences a_s - b_s, of the same seeds in the same order, and its confidence
    interval by Student's t.

    Example:
        >>> # m = 2, e = 1, t = 4.303
        >>> str(paired_difference([93.0, 95.0, 97.0], [92.0, 93.0, 94.0]))
        '+2.00 [-0.48, +4.48]'
    """
    if not a or len(a) != len(b):
        raise UsageError(
            f"{len(a)} and {len(b)} scores are no pairs; give the same seeds, at least one"
        )
    return mean_interval([x - y for x, y in zip(a, b, strict=True)], level)
