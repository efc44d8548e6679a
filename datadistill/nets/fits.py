"""Whether a module of the user's own takes the images and makes one logit a class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.copying import copy_net


@torch.no_grad()
def check_fits(net: nn.Module, shape: tuple[int, ...], classes: int) -> None:
    """Refuse a user's module that does not take images of `shape` (C,H,W) to one logit a class.

    Raises:
        UsageError: what the module made of two blank images.
    """
    if not isinstance(net, nn.Module):
        raise UsageError(f"net is {net!r:.80}, wanted a torch module, or a function that builds one")
    try:
        # in evaluation mode, on a copy: nothing random is drawn and no buffer is written
        trial = copy_net(net).cpu().eval()
        dtype = next((p.dtype for p in trial.parameters() if p.is_floating_point()), torch.float32)
        found = trial(torch.zeros(2, *shape, dtype=dtype))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise UsageError(
            f"the net does not take images {'x'.join(map(str, shape))} ({str(error)[:200]}); pass one that does"
        ) from error
    if not isinstance(found, Tensor) or found.shape != (2, classes):
        what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UsageError(f"the net makes {what} of 2 images, wanted (2, {classes}): one logit a class")
