"""What is asked of theta_T: the outer loss.

An objective is a function `(net, theta_T, batch) -> loss` of real images and labels; the mean over nets where
theta_T stacks several. `classification` is the paper's l(x_t, theta_T), cross-entropy on the true labels.

Reference: Wang et al. 2018, Algorithm 1, line 7, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from datadistill.initial import Theta, unstack
from datadistill.innerloop.problem import NetMode, stacked_nets


def logits_of(net: nn.Module, theta: Theta, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
    """Outputs of one net at `theta`. Convolution weights go in channels-last memory: on CPU that halves the
    time of a large batch; values stay the same up to rounding, and gradients pass through."""
    theta = {
        k: p.contiguous(memory_format=torch.channels_last) if p.dim() == 4 else p for k, p in theta.items()
    }
    return functional_call(net, theta, (images,))


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
