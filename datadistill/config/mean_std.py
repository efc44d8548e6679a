"""A mean and a standard deviation in a text, MEAN/STD: numbers on the 0..1 scale, one for all
channels or one for each, such as 0.5/0.25 or 0.485,0.456,0.406/0.229,0.224,0.225. No torch."""

from __future__ import annotations

import math
import re

from datadistill.config.values import quote
from datadistill.errors import UsageError

MeanAndStd = tuple[tuple[float, ...], tuple[float, ...]]

_LOOKS_LIKE = re.compile(r"[-+\d.,eE\s]*\d[-+\d.,eE\s]*/[-+\d.,eE\s]+")


def parse_mean_std(text: str) -> MeanAndStd | None:
    """The mean and the deviation in a text; None for a text that is of another form, such as a
    path.

    >>> parse_mean_std("0.5, 0.4, 0.3/0.25")
    ((0.5, 0.4, 0.3), (0.25,))
    >>> parse_mean_std("runs/birds") is None
    True
    """
    if not _LOOKS_LIKE.fullmatch(text):
        return None
    try:
        mean, std = (tuple(float(v) for v in part.split(",")) for part in text.split("/"))
    except ValueError:
        raise UsageError(
            f"normalization is {quote(text)}; wanted MEAN/STD, each one number or one a channel "
            "with commas between, such as 0.5,0.5,0.5/0.25,0.25,0.25"
        ) from None
    if 1 < len(mean) != len(std) > 1:
        raise UsageError(
            f"normalization is {quote(text)}, which has {len(mean)} means and {len(std)} "
            "deviations; give as many, or one for all channels"
        )
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise UsageError(
            f"normalization is {quote(text)}; wanted finite means and deviations above 0"
        )
    return mean, std
