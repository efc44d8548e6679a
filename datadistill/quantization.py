"""Images as integers: codes over the range that the images really have.

    code = round((x - low) / (high - low) * (2^bits - 1))
    x~   = (1 - w) low + w high,  w = code / (2^bits - 1)

Learned pixels are not bounded, so low and high are the set's own smallest and largest value and
travel with it. Rounding is idempotent: the codes of x~ are the codes of x.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from datadistill.errors import DataError, UsageError
from datadistill.runs.content import accept, check_fields, check_number


@dataclass(frozen=True)
class Quantization:
    """Number of bits, and the range they cover.

    Example:
        >>> q = Quantization.of(torch.tensor([-3.0, 0.1, 7.0]), bits=8)
        >>> q.codes(torch.tensor([-3.0, 7.0]))
        tensor([  0, 255], dtype=torch.uint8)
    """

    bits: int
    low: float
    high: float

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 1 <= self.bits <= 8:
            raise UsageError(f"bits is {self.bits}, but 1 to 8 can be stored")
        if not -float("inf") < self.low <= self.high < float("inf"):
            raise DataError(
                f"quantization range is {self.low} to {self.high}; wanted two "
                "finite, rising numbers"
            )

    @classmethod
    def of(cls, images: Tensor, bits: int) -> Quantization:
        """The range of `images`."""
        return cls(bits, float(images.min()), float(images.max()))

    def _step(self) -> float:
        return (self.high - self.low) / (2**self.bits - 1) or 1.0

    def codes(self, images: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
        return (
            ((images.double() - self.low) / self._step())
            .round()
            .clamp(0, 2**self.bits - 1)
            .to(torch.uint8)
        )

    def values(self, codes: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The floats that codes stand for."""
        w = codes.double() / (2**self.bits - 1)  # 0 and 1 give low and high to the last bit
        return ((1 - w) * self.low + w * self.high).float()

    def round(self, images: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self.values(self.codes(images))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Quantization:
        """The inverse of `as_dict`, strict; DataError names what does not fit."""
        fields = {"bits": accept, "low": check_number, "high": check_number}
        return cls(**check_fields("quantization", values, fields))
