"""A ZCA whitening in a text, KIND or KIND:REGULARIZATION, such as zca or zca-kornia:0.1. No
torch."""

from __future__ import annotations

from typing import NamedTuple

from datadistill.config.values import quote
from datadistill.errors import UsageError

ZCA_KINDS = {
    "zca": "zca-kip",
    "zca-kip": "zca-kip",
    "zca-frepo": "zca-frepo",
    "zca-kornia": "zca-kornia",
}
"""Name -> kind of whitening; `datadistill.data.zca` has the kinds."""
LEAST, MOST = 1e-6, 1e6
"""Of a regularization: below, float32 does not hold the matrix to three digits."""


class ZcaChoice(NamedTuple):
    """A kind of ZCA whitening, to be measured on the training images."""

    kind: str
    regularization: float = 0.1


def parse_zca(text: str) -> ZcaChoice | None:
    """The whitening in a text; None for a text that is of another form, such as a path.

    >>> parse_zca("zca:100")
    ZcaChoice(kind='zca-kip', regularization=100.0)
    >>> parse_zca("runs/zca") is None
    True
    """
    name, colon, number = text.partition(":")
    if name not in ZCA_KINDS:
        return None
    if not colon:
        return ZcaChoice(ZCA_KINDS[name])
    try:
        regularization = float(number)
    except ValueError:
        regularization = 0.0
    if not LEAST <= regularization <= MOST:
        raise UsageError(
            f"normalization is {quote(text)}; wanted {name}:REGULARIZATION, a number from "
            f"{LEAST:g} to {MOST:g}, such as {name}:0.1"
        )
    return ZcaChoice(ZCA_KINDS[name], regularization)
