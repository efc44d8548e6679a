"""What is asked of theta_T: the outer loss.

An objective is a function `(net, theta_T, batch) -> loss` of real images and labels; the mean over nets where
theta_T stacks several. `classification` is the paper's l(x_t, theta_T), cross-entropy on the true labels.

Reference: Wang et al. 2018, Algorithm 1, line 7, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from datadistill.errors import UsageError
from datadistill.initial import Theta, unstack
from datadistill.innerloop.problem import NetMode, stacked_nets


def logits_of(net: nn.Module, theta: Theta, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
    """Outputs of one net at `theta`. Convolution weights go in channels-last memory: on CPU that halves the
    time of a large batch; values stay the same up to rounding, and gradients pass through."""
    theta = {
        k: p.contiguous(memory_format=torch.channels_last) if p.dim() == 4 else p for k, p in theta.items()
    }
    return functional_call(net, theta, (images,))


@torch.no_grad()
def check_fits(net: nn.Module, shape: tuple[int, ...], classes: int) -> None:
    """Refuse a user's module that does not take images of `shape` (C,H,W) to one logit a class.

    Raises:
        UsageError: what the module made of two blank images.
    """
    try:
        # in evaluation mode, on a copy: nothing random is drawn and no buffer is written
        trial = copy.deepcopy(net).cpu().eval()
        found = trial(torch.zeros(2, *shape))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise UsageError(
            f"the net does not take images {'x'.join(map(str, shape))} ({str(error)[:200]}); pass one that does"
        ) from error
    if not isinstance(found, Tensor) or found.shape != (2, classes):
        what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UsageError(f"the net makes {what} of 2 images, wanted (2, {classes}): one logit a class")


def classification(
    net: nn.Module,
    theta: Theta,
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"],
    norm: str = "batch",
) -> Float[Tensor, ""]:
    """Cross-entropy of the trained net or nets on real images, a mean over images and nets.

    Dropout is off; BatchNorm uses what `norm` says ("batch": statistics of these images).

    Example:
        >>> net = nn.Linear(4, 3)
        >>> theta = {name: p.detach() for name, p in net.named_parameters()}
        >>> classification(net, theta, torch.zeros(2, 4), torch.tensor([0, 2])).shape
        torch.Size([])
    """
    # one net after the other: grouped convolutions over a large batch are slower than a loop on CPU
    nets = stacked_nets(net, theta) or 1
    with NetMode(net, norm, training=False):
        losses = [F.cross_entropy(logits_of(net, one, images), labels) for one in unstack(theta, nets)]
    return torch.stack(losses).mean()
