"""Differentiable siamese augmentation: strategies of random transforms for real and synthetic
images alike.

    apply_strategy(images, "color_crop_cutout_flip_scale_rotate", generator)

Two batches are treated alike by two calls with generators in the same state, whatever their sizes:
with `same` one draw serves all images of a batch. In the training of a net each image has a draw of
its own. The gradient goes through the transforms to the images.

A strategy is one string: names as published, joined by "_", behind the family that says how
strongly each transforms and which of them a call applies. Without a family it is DSA's.

    dsa     DSA (Zhao and Bilen 2021), and DM, MTT and RaT-BPTT after it: one, at random
    all     the same strengths: every one, in the order of the names
    idc     the same strengths (IDC, Kim et al. 2022): flip, color and cutout always, and one of the
            others at random
    dc      evaluation on MNIST in DC (Zhao et al. 2021), "dc:crop_scale_rotate": one at random,
            another for each image where each has a draw of its own
    frepo   FRePo (Zhou et al. 2022): one, at random

Deviations from the authors' code: parameters are drawn independently of each other (they reseed
before each draw); "dc" interpolates bilinearly (they take the nearest pixel to scale, cubic splines
to rotate) and draws moves and angles from symmetric ranges.

References: https://arxiv.org/abs/2102.08259, https://arxiv.org/abs/2205.14959,
https://arxiv.org/abs/2006.05929, https://arxiv.org/abs/2206.00719
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from datadistill.data.class_names import DIGIT_SETS
from datadistill.data.random_transforms import ALWAYS, FAMILIES, Draws, Transform
from datadistill.errors import DataError, UsageError, suggest


@dataclass(frozen=True)
class Strategy:
    """Named transforms of a family; none leave images as they are.

    Example:
        >>> Strategy.parse("dc:crop_scale_rotate").names
        ('crop', 'scale', 'rotate')
        >>> str(Strategy(("color", "crop")))
        'color_crop'
    """

    names: tuple[str, ...]
    family: str = "dsa"

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise UsageError(
                f"unknown family of augmentations {self.family!r}; "
                f"{suggest(self.family, FAMILIES)}; without one it is dsa"
            )
        known = FAMILIES[self.family].transforms
        for name in self.names:
            where = f" in {str(self)!r}" if len(self.names) > 1 else ""
            if name not in known:
                raise UsageError(f"unknown augmentation {name!r}{where}; {suggest(name, known)}")
            if self.names.count(name) > 1:
                raise UsageError(f"augmentation {name!r} is named twice{where}; name it once")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a string such as "crop_rotate" or "idc:color_crop_cutout"; "" and "none" name no
        transform."""
        family, colon, names = text.partition(":")
        if not colon:
            family, names = "dsa", text
        return cls(() if names in ("", "none") else tuple(names.split("_")), family)

    def __str__(self) -> str:
        # "crop" and "flip" alone are also names of `augmentation`
        short = self.family == "dsa" and len(self.names) != 1
        return ("" if short else f"{self.family}:") + "_".join(self.names)

    @property
    def transforms(self) -> dict[str, Transform]:
        return {name: FAMILIES[self.family].transforms[name] for name in self.names}


def apply_strategy(
    images: Float[Tensor, "n c h w"],
    strategy: Strategy | str,
    generator: torch.Generator,
    same: bool = True,
) -> Float[Tensor, "n c h w"]:
    """Transform normalized images at random, differentiably.

    Args:
        images: normalized, of any number of channels.
        strategy: see above.
        generator: what is drawn is a function of its state and `same`, and with `same` not of the
            number of images.
        same: one draw for all images (siamese augmentation); otherwise one for each.

    Returns:
        Images of the same shape; the images themselves where the strategy names no transform.

    Raises:
        UsageError: an unknown family or name.
        DataError: images too small for a transform.

    Example:
        >>> real, synthetic = torch.randn(8, 3, 32, 32), torch.randn(2, 3, 32, 32)
        >>> synthetic[0] = real[0]
        >>> a, b = (
        ...     apply_strategy(x, "color_crop_rotate", torch.Generator().manual_seed(0))
        ...     for x in (real, synthetic)
        ... )
        >>> torch.allclose(a[0], b[0])
        True
    """
    if isinstance(strategy, str):
        strategy = Strategy.parse(strategy)
    named = strategy.transforms
    if not named or not len(images):
        return images
    _refuse_too_small(strategy, images.shape)
    draws = Draws(images, 1 if same else len(images), generator)
    rule = FAMILIES[strategy.family].rule
    if rule == "each" and not same:
        return _one_for_each(images, list(named.values()), draws)
    if rule == "all":
        order = list(named)
    elif rule == "always":
        always = [name for name in ALWAYS if name in named]
        others = [name for name in named if name not in ALWAYS]
        drawn = [others[draws.choose(len(others))]] if others else []
        order = sorted([*always, *drawn], key=lambda name: name == "cutout")
    else:
        order = [strategy.names[draws.choose(len(named))]]
    for name in order:
        images = named[name](images, draws)
    return images


def _one_for_each(images: Tensor, choices: list[Transform], draws: Draws) -> Tensor:
    """One transform for each image: all are computed, as they are few and cheap."""
    choice = draws.integers(0, len(choices) - 1)[:, None, None, None]
    chosen = images
    for n, transform in enumerate(choices):
        chosen = torch.where(choice == n, transform(images, draws), chosen)
    return chosen


def check_strategy(
    strategy: Strategy | str,
    shape: tuple[int, ...] | None = None,
    dataset: str = "",
    stacklevel: int = 2,
) -> Strategy:
    """Read a strategy and refuse what does not fit the images.

    Args:
        strategy: see above.
        shape: (C,H,W) of the images.
        dataset: name of the data set. Flipped digits are warned of.
        stacklevel: of the warning.

    Raises:
        UsageError: an unknown family or name.
        DataError: images too small for a transform.

    Example:
        >>> check_strategy("crop_rotat")
        Traceback (most recent call last):
        ...
        datadistill.errors.UsageError: unknown augmentation 'rotat' in 'crop_rotat'; did you mean
        rotate? (known: color, crop, cutout, flip, rotate, scale)
    """
    if isinstance(strategy, str):
        strategy = Strategy.parse(strategy)
    if shape is not None:
        _refuse_too_small(strategy, shape)
    if "flip" in strategy.names:
        warn_of_flipped_digits(str(strategy), dataset, stacklevel + 1)
    return strategy


def warn_of_flipped_digits(augmentation: str, dataset: str, stacklevel: int = 2) -> None:
    """Warn that an augmentation mirrors the images of a data set, where these are digits."""
    if dataset in DIGIT_SETS:
        warnings.warn(
            f"{augmentation!r} flips digits ({dataset}), and few are digits in the mirror; drop "
            "'flip'",
            stacklevel=stacklevel,
        )


def _refuse_too_small(strategy: Strategy, shape: tuple[int, ...]) -> None:
    for name in strategy.names:
        least = FAMILIES[strategy.family].least.get(name, 1)
        if min(shape[-2:]) < least:
            raise DataError(
                f"images are {shape[-2]}x{shape[-1]}, and {name!r} of the strategy "
                f"{str(strategy)!r} wants sides of at least {least} pixels; drop {name!r}"
            )
