"""Positional embeddings of a vision transformer's weights, for images of another size.

A vision transformer has one learned vector for each patch. Weights for images of 224 px have
14 x 14 of them where a patch has 16 px; a net for 32 px has 2 x 2. torchvision's
`interpolate_embeddings` takes the one grid to the other (bicubic, corners aligned).

Reference: Dosovitskiy et al., An image is worth 16x16 words, 2020, section 3.2,
https://arxiv.org/abs/2010.11929
"""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

POSITIONS = "encoder.pos_embedding"
"""Their name in torchvision's nets."""


def fit_positions(tensors: Mapping[str, Tensor], net: nn.Module, source: str) -> dict[str, Tensor]:
    """The tensors of a file called `source` with positional embeddings for torchvision's vision
    transformer `net`, interpolated with a warning where they are for another size."""
    found, wanted = tensors.get(POSITIONS), net.state_dict().get(POSITIONS)
    if found is None or wanted is None or not _is_grid(found) or found.dim() != wanted.dim():
        return dict(tensors)
    from torchvision.models import VisionTransformer
    from torchvision.models.vision_transformer import interpolate_embeddings

    is_of_other_size = found.shape[1] != wanted.shape[1] and found.shape[2] == wanted.shape[2]
    if not isinstance(net, VisionTransformer) or not is_of_other_size:
        return dict(tensors)
    # in float64, so that the values are the same float32 numbers on every processor
    state = interpolate_embeddings(
        net.image_size, net.patch_size, OrderedDict({POSITIONS: found.double()})
    )
    before, after = (math.isqrt(shape[1] - 1) for shape in (found.shape, wanted.shape))
    warnings.warn(
        f"the positional embeddings of {source} are for images of {before * net.patch_size} px "
        f"({before} x {before} patches) and the net is for {net.image_size} px ({after} x "
        f"{after}): they were interpolated",
        stacklevel=3,
    )
    return {**tensors, POSITIONS: state[POSITIONS].to(found.dtype)}


def _is_grid(embeddings: Tensor) -> bool:
    """Whether there is one vector for the class token, and one for each patch of a square."""
    if embeddings.dim() != 3 or embeddings.shape[0] != 1 or not embeddings.is_floating_point():
        return False
    patches = embeddings.shape[1] - 1
    return patches > 0 and math.isqrt(patches) ** 2 == patches
