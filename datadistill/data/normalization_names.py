"""Normalizations by name: "own", "imagenet" and numbers, MEAN/STD, which go with any size; kinds of
ZCA whitening."""

from __future__ import annotations

from typing import NamedTuple

from datadistill.config.mean_std import parse_mean_std
from datadistill.config.values import quote
from datadistill.config.zca import ZCA_KINDS, ZcaChoice, parse_zca
from datadistill.data.normalization import Normalization
from datadistill.data.photos import IMAGENET
from datadistill.errors import UsageError

OWN = "own"


class MeanStd(NamedTuple):
    """A mean and a standard deviation, one number a channel, or one for all channels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str

    def of(self, size: int | None, channels: int) -> Normalization:
        """The normalization of images of a size and a number of channels.

        >>> MeanStd((0.5,), (0.25,), "numbers").of(8, 3)
        Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), size=8, channels=3)
        """
        numbers = max(len(self.mean), len(self.std))
        if numbers not in (1, channels):
            load = f"load them with {numbers}, or " if numbers == 3 else ""
            raise UsageError(
                f"the normalization {self.name} is for {numbers} channels and the images have "
                f"{channels}; {load}choose a normalization for {channels}"
            )
        mean, std = (v * (channels // len(v)) for v in (self.mean, self.std))
        return Normalization(mean, std, size, channels)


Chosen = Normalization | MeanStd | ZcaChoice | str | None
"""What is taken as a normalization wherever real data are loaded."""


def read_choice(chosen: Chosen) -> Normalization | MeanStd | ZcaChoice | None:
    """The normalization that is chosen; None for one that is measured, or the data set's own.

    >>> read_choice("0.5/0.25")
    MeanStd(mean=(0.5,), std=(0.25,), name='0.5/0.25')
    """
    if chosen is None or chosen == OWN:
        return None
    if isinstance(chosen, Normalization | MeanStd | ZcaChoice):
        return chosen
    if isinstance(chosen, str):
        if chosen == "imagenet":
            return MeanStd(*IMAGENET, "imagenet")
        numbers = parse_mean_std(chosen)
        if numbers is not None:
            return MeanStd(*numbers, chosen)
        zca = parse_zca(chosen)
        if zca is not None:
            return zca
    raise UsageError(
        f"normalization is {quote(chosen)}; wanted own, imagenet, numbers (MEAN/STD, such as "
        f"0.5/0.25), {', '.join(ZCA_KINDS)}, or a Normalization, such as a distilled set's "
        ".normalization"
    )
