"""Images as users hand them over (tensors, arrays, lists) as one tensor (N, channels, height,
width)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from datadistill.errors import DataError, UsageError, list_some


def image_tensor(images: Any, what: str) -> Shaped[Tensor, ...]:
    """A tensor, an array or a list of either as an ordinary tensor on the CPU, outside every graph.
    Its shape is not judged here; `what` is what sentences call it."""
    if isinstance(images, list | tuple) and images and all(isinstance(x, Tensor) for x in images):
        shapes = sorted({tuple(x.shape) for x in images})
        if len(shapes) > 1:
            raise DataError(f"{what} have several shapes ({list_some(shapes, 2)}); wanted one")
        images = torch.stack([image_tensor(x, what) for x in images])
    if not isinstance(images, Tensor):
        images = torch.from_numpy(_array(images, what))
    if images.is_meta or images.is_quantized:
        raise DataError(
            f"{what} are a tensor on {images.device}, {images.dtype}, without plain values"
        )
    if images.layout != torch.strided:
        images = images.to_dense()
    # inference tensors would break every later gradient; a subclass (tv_tensors) is not needed any
    # more
    images = images.detach().as_subclass(Tensor).cpu()
    return images.clone() if images.is_inference() else images


def _array(images: Any, what: str) -> np.ndarray:
    if not isinstance(images, list | tuple) and not hasattr(images, "__array__"):
        raise UsageError(
            f"{what} is a {type(images).__name__}; wanted a torch tensor or a numpy array"
        )
    try:
        values = np.asarray(images)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} make no array ({error}); wanted images of one shape") from None
    if values.dtype.kind not in "biufc":
        raise UsageError(
            f"{what} are an array of {values.dtype}; wanted a torch tensor or an array of numbers"
        )
    # torch takes neither foreign byte orders nor negative strides, and warns of read-only memory
    return np.array(values, dtype=values.dtype.newbyteorder("="), order="C")


def refuse_channels_last(shape: tuple[int, ...], what: str, channels: int | None) -> None:
    """Refuse (..., height, width, channels), as numpy, Pillow and TensorFlow have images: the last
    axis looks like channels and the third from the end does not. Images with as many `channels` as
    the user said are taken as they are."""
    c, height, width = shape[-3:]
    looks = width in (1, 3, 4) and c not in (1, 3, 4) and height != width
    if looks and channels != c:
        order = "2, 0, 1" if len(shape) == 3 else "0, 3, 1, 2"
        raise DataError(
            f"{what} of shape {tuple(shape)} look like (height, width, channels); wanted channels "
            f"first: pass them through .permute({order}), or give channels={c} if they do have {c}"
        )
