"""Scores of several seeds: mean, deviation, paired differences with their interval, and lines of a CSV file.

Notation: a_s and b_s the scores of two arms with seed s, of n seeds; d_s = a_s - b_s, with mean m and sample
deviation e (n - 1 in the denominator).

    interval = m -+ t e / sqrt(n),  t the quantile of Student's t with n - 1 degrees of freedom
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datadistill.errors import UsageError

__all__ = ["Difference", "deviation", "mean", "paired_difference", "table_text"]


def mean(values: Sequence[float]) -> float:
    """Of one score or more."""
    return math.fsum(values) / len(values)


def deviation(values: Sequence[float]) -> float:
    """Of the population.

    >>> deviation((90.0, 94.0))
    2.0
    """
    m = mean(values)
    return math.sqrt(math.fsum((v - m) ** 2 for v in values) / len(values))


@dataclass(frozen=True)
class Difference:
    """Mean of the paired differences of two arms, in points where scores are in percent, and its interval;
    None for a single seed."""

    mean: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """As it is printed.

        >>> str(Difference(1.5, 0.25, 2.75)), str(Difference(-1.0))
        ('+1.50 [+0.25, +2.75]', '-1.00')
        """
        interval = "" if self.low is None else f" [{self.low:+.2f}, {self.high:+.2f}]"
        return f"{self.mean:+.2f}{interval}"


def paired_difference(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Difference:
    """The mean of a_s - b_s and its confidence interval by Student's t; see the module.

    Args:
        a, b: a score for each seed, the same seeds in the same order.
        level: of the interval, above 0 and below 1.

    Raises:
        UsageError: no seed, other seeds for a than for b, or a level out of range.

    Example:
        >>> str(paired_difference([93.0, 95.0, 97.0], [92.0, 93.0, 94.0]))  # m = 2, e = 1, t = 4.303
        '+2.00 [-0.48, +4.48]'
    """
    if not a or len(a) != len(b):
        raise UsageError(f"{len(a)} and {len(b)} scores are no pairs; give the same seeds, at least one")
    if not 0 < level < 1:
        raise UsageError(f"level is {level}, but a confidence level lies between 0 and 1; give such as 0.95")
    differences = [x - y for x, y in zip(a, b, strict=True)]
    n = len(differences)
    m = math.fsum(differences) / n
    if n == 1:
        return Difference(m)
    from scipy.stats import t

    e = math.sqrt(math.fsum((d - m) ** 2 for d in differences) / (n - 1))
    half = float(t.ppf((1 + level) / 2, n - 1)) * e / math.sqrt(n)
    return Difference(m, m - half, m + half)


def table_text(columns: Sequence[str], records: Iterable[Mapping[str, Any]]) -> str:
    """Records as CSV, one line each: numbers with four decimals, those of a list with a space between.

    >>> table_text(("arm", "values"), [{"arm": "own", "values": [1.0, 2.5]}])
    'arm,values\\nown,1.0000 2.5000\\n'
    """
    held = io.StringIO()
    writer = csv.DictWriter(held, columns, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({name: _cell(value) for name, value in record.items()})
    return held.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(str(_cell(one)) for one in value)
    return f"{value:.4f}" if isinstance(value, float) else value
