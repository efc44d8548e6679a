"""`check_net`: whether training on distilled images can be differentiated exactly through a net.

`hypergradient_check.py` compares; here are a copy of the net and the first images.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.utils.data import Dataset

from datadistill.data import RealData, Split
from datadistill.data.arrays import image_tensor
from datadistill.data.labels import class_numbers
from datadistill.errors import DataError, UsageError
from datadistill.innerloop.attributes import keep_attributes
from datadistill.innerloop.hypergradient_check import BATCH, HypergradientCheck, NetCheck
from datadistill.innerloop.problem import Loss
from datadistill.innerloop.recomputation import allow_recomputation
from datadistill.innerloop.update_rules import Theta
from datadistill.nets.copying import Called, bare_net, copy_net, raise_on_calls
from datadistill.nets.factory import NetFactory, as_module
from datadistill.nets.fits import refuse_script
from datadistill.torch_defaults import use_library_defaults

__all__ = ["NetCheck", "check_net", "is_cheap"]

# parameters times numbers in an image, up to which a net is checked before learning
CHEAP = 1_000_000_000


@use_library_defaults()
@allow_recomputation()
def check_net(
    net: nn.Module | NetFactory,
    data: RealData | Split | Dataset[Any] | tuple[Float[Tensor, "b c h w"], Int[Tensor, " b"]],
    *,
    norm: str = "batch",
    loss: Loss = F.cross_entropy,
    theta_0: Theta | None = None,
) -> NetCheck:
    """Check that training on distilled images can be differentiated exactly through a net; `print`
    the result.

    A layer whose second derivative is missing, wrong or approximate makes every learned image wrong
    without an error. A copy of the net is run, in the modes its layers are in; torch's random
    numbers stay as they are. The cost is about 40 training steps of 4 images.

    Args:
        net: any module, images to logits (B, K), or a function that builds one.
        data: real data, a split of it, a torch Dataset of pairs, or (images, labels) in tensors,
            arrays or lists, of which up to eight images are used.
        norm: what BatchNorm uses, as in `unroll`.
        loss: `loss(logits, labels)` for labels (B, K) of probabilities.
        theta_0: name -> tensor, the parameters that train; default: all, at the net's own values.

    Raises:
        UsageError: the net does not take these images, or makes one logit.
        DataError: no images, or labels that are no class numbers.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))
        >>> check_net(net, (torch.rand(8, 1, 4, 4), torch.arange(8) % 3)).ok
        True
    """
    given = bare_net(as_module(net, 0, "check_net"))
    refuse_script(given)
    images, labels = _first_images(data)
    try:
        copied = copy_net(given)
        with raise_on_calls(given):
            check = HypergradientCheck(copied, images, labels, norm, loss, theta_0, own=True)
    except (Called, TypeError, AttributeError, NotImplementedError):
        # no copy, or one that runs the original
        with keep_attributes(given):
            return HypergradientCheck(
                given, images, labels, norm, loss, theta_0, own=False
            ).result()
    return check.result()


def _first_images(data: Any) -> tuple[Shaped[Tensor, "b ..."], Int[Tensor, " b"]]:
    """Up to eight images and their class numbers, on the CPU."""
    pairs: Any = data.train if isinstance(data, RealData) else data
    if isinstance(pairs, Split):
        pairs = pairs.images, pairs.labels
    elif isinstance(pairs, Dataset) and hasattr(pairs, "__len__"):
        items = [pairs[i] for i in range(min(len(pairs), 2 * BATCH))]
        if all(isinstance(item, tuple | list) and len(item) == 2 for item in items):
            pairs = [item[0] for item in items], [item[1] for item in items]
    if not isinstance(pairs, tuple | list) or len(pairs) != 2:
        what = (
            f"{len(data)} things" if isinstance(data, tuple | list) else f"a {type(data).__name__}"
        )
        raise UsageError(
            f"data is {what}; wanted RealData, a split of it, a torch Dataset of pairs, or "
            "(images, labels)"
        )
    images, labels = pairs
    if not isinstance(images, Tensor):
        images = image_tensor(images, "images")
    if images.dim() < 2 or len(images) == 0 or images.is_complex():
        raise DataError(
            f"images have shape {tuple(images.shape)}, {images.dtype}; wanted (B, C, H, W) real "
            "numbers, one image or more"
        )
    return image_tensor(images[: 2 * BATCH], "images"), class_numbers(labels, len(images), "data")[
        : 2 * BATCH
    ]


def is_cheap(net: nn.Module, images: Tensor) -> bool:
    """Whether a check takes about a second at most: parameters times numbers in an image up to
    `CHEAP`."""
    return sum(p.numel() for p in net.parameters()) * images[0].numel() <= CHEAP
