"""Decoders, from learned tensors to images. A new one is a class in a file of its own and a line in
`DECODERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from datadistill.config.choices import from_description
from datadistill.errors import DataError, is_out_of_memory
from datadistill.synthetic.bases import Bases
from datadistill.synthetic.mosaic import Mosaic

__all__ = ["DECODERS", "Decoder", "Pixels", "decode", "decoder_from"]


class Decoder(Protocol):
    """A differentiable map from learned tensors to images."""

    def count(self, ipc: int, shape: tuple[int, int, int], classes: int) -> int:
        """The number of images of each class that it makes in the bytes of `ipc` images of a
        shape (C, H, W)."""

    def init(
        self, start: Float[Tensor, "n c h w"], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The tensors to learn, such that the images are near `start`; no name contains a dot."""

    def images(
        self, tensors: Mapping[str, Tensor], index: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """Images `index`, of n; an error for an index of n or more."""

    def describe(self) -> dict[str, Any]:
        """Name and arguments, as plain values; `decoder_from` is the inverse."""


class Pixels:
    """Images are learned pixel by pixel."""

    def count(self, ipc: int, shape: tuple[int, int, int], classes: int) -> int:
        return ipc

    def init(
        self, start: Float[Tensor, "n c h w"], generator: torch.Generator
    ) -> dict[str, Tensor]:
        return {"images": start}

    def images(
        self, tensors: Mapping[str, Tensor], index: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        return tensors["images"][index]

    def describe(self) -> dict[str, Any]:
        return {"name": "pixels"}


def decode(decoder: Decoder, tensors: Mapping[str, Tensor], n: int) -> Float[Tensor, "n c h w"]:
    """All n images, without a graph."""
    try:
        with torch.no_grad():
            images = decoder.images(
                tensors, torch.arange(n, device=next(iter(tensors.values())).device)
            )
    except (KeyError, RuntimeError, IndexError, ValueError, StopIteration) as error:
        if is_out_of_memory(error):
            raise
        shapes = {k: tuple(x.shape) for k, x in tensors.items()}
        raise DataError(
            f"the decoder {decoder.describe()} cannot make {n} images of {str(shapes)[:200]} "
            f"({str(error)[:120]})"
        ) from error
    return images


def refuse_spare_rows(decoder: Decoder, tensors: Mapping[str, Tensor], n: int) -> None:
    """DataError where tensors, on the CPU, make more than n images."""
    try:
        with torch.no_grad():
            decoder.images(tensors, torch.tensor([n]))
    except (KeyError, RuntimeError, IndexError, ValueError):
        return
    shapes = {k: tuple(x.shape) for k, x in tensors.items()}
    raise DataError(
        f"the decoder {decoder.describe()} makes more images of {str(shapes)[:200]} than the {n} "
        "that have labels; get the file again"
    )


DECODERS: dict[str, Callable[..., Decoder]] = {
    "pixels": Pixels,
    "mosaic": Mosaic,
    "bases": Bases,
}


def decoder_from(description: Mapping[str, Any]) -> Decoder:
    """The decoder that `describe` described."""
    return from_description(DECODERS, "decoder", description)
