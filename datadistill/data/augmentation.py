"""Augmentation of real batches: random crops and horizontal flips, and the strategies of `siamese`,
as pure functions of tensors.

Every image draws its own offset or coin from the generator that is passed in; there is no loop over
images. The images are the normalized ones, so a crop pads with what is there (reflection), not with
zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from datadistill.data.siamese import apply_strategy, check_strategy, warn_of_flipped_digits
from datadistill.data.transforms import pick
from datadistill.errors import DataError

PAD = 4  # pixels on each side, as in He et al. 2016 (https://arxiv.org/abs/1512.03385) on CIFAR-10


def crop(images: Float[Tensor, "n c h w"], generator: torch.Generator) -> Float[Tensor, "n c h w"]:
    """Pad by 4 pixels (reflected) and cut a window of the old size at a random place, one for each
    image.

    >>> torch.equal(crop(torch.ones(2, 1, 8, 8), torch.Generator()), torch.ones(2, 1, 8, 8))
    True
    """
    n, _, height, width = images.shape
    _refuse_too_small(height, width)
    padded = F.pad(images, (PAD, PAD, PAD, PAD), mode="reflect")
    offsets = torch.randint(
        0, 2 * PAD + 1, (2, n, 1), generator=generator, device=generator.device
    ).to(images.device)
    rows = offsets[0] + torch.arange(height, device=images.device)  # (n, h)
    columns = offsets[1] + torch.arange(width, device=images.device)  # (n, w)
    return pick(padded, rows, columns)


def flip(images: Float[Tensor, "n c h w"], generator: torch.Generator) -> Float[Tensor, "n c h w"]:
    """Mirror each image left to right with probability one half."""
    coin = torch.rand(len(images), generator=generator, device=generator.device) < 0.5
    return torch.where(coin.to(images.device)[:, None, None, None], images.flip(-1), images)


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"crop": crop, "flip": flip}


def augment(
    images: Float[Tensor, "n c h w"], generator: torch.Generator, kinds: Iterable[str]
) -> Float[Tensor, "n c h w"]:
    """Apply the named augmentations, "crop", "flip" and strategies (see `siamese`), in order; an
    empty `kinds` returns the images themselves.

    Alone, "crop" and "flip" are those of this module; DSA's are "dsa:crop" and "dsa:flip". Of a
    strategy each image has a draw of its own.

    >>> augment(torch.zeros(2, 3, 32, 32), torch.Generator().manual_seed(0), ("crop", "flip")).shape
    torch.Size([2, 3, 32, 32])
    """
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    check_augmentations(kinds)
    for kind in kinds:
        if kind in AUGMENTATIONS:
            images = AUGMENTATIONS[kind](images, generator)
        else:
            images = apply_strategy(images, kind, generator, same=False)
    return images


def check_augmentations(
    kinds: Iterable[str],
    shape: tuple[int, ...] | None = None,
    dataset: str = "",
    stacklevel: int = 2,
) -> None:
    """Refuse the name of an unknown augmentation, and where they are given, images of a shape
    (C,H,W) that are too small; warn of flipped digits (see `check_strategy`)."""
    for kind in kinds:
        if kind not in AUGMENTATIONS:
            check_strategy(kind, shape, dataset, stacklevel + 1)
        elif kind == "flip":
            warn_of_flipped_digits(kind, dataset, stacklevel + 1)
        elif shape is not None:
            _refuse_too_small(*shape[-2:])


def _refuse_too_small(height: int, width: int) -> None:
    if min(height, width) <= PAD:
        raise DataError(
            f"images are {height}x{width}; a crop reflects {PAD} pixels and wants sides above "
            f"{PAD}: drop 'crop'"
        )
