"""The unrolled loop written with the `higher` library alone: an independent witness.

Reference: Grefenstette et al., Generalized inner loop meta-learning, 2019,
https://arxiv.org/abs/1910.01727
"""

from __future__ import annotations

import higher
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def train(
    net: nn.Module,
    theta_0: dict[str, Tensor],
    pairs: list[tuple[Tensor, Tensor]],
    step_sizes: Tensor,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> dict[str, Tensor]:
    """theta_T of SGD on `pairs`, differentiable; `theta_0` holds every parameter of `net`, in its
    order."""
    parameters = dict(net.named_parameters())
    assert list(theta_0) == list(parameters)
    groups = [{"params": [p]} for p in parameters.values()]
    optimizer = torch.optim.SGD(
        groups, lr=1.0, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay
    )
    with higher.innerloop_ctx(net, optimizer, copy_initial_weights=False) as (fnet, diffopt):
        fnet.update_params(list(theta_0.values()))
        for (images, labels), eta in zip(pairs, step_sizes, strict=True):
            rates = list(eta) if eta.dim() else [eta] * len(groups)
            diffopt.step(F.cross_entropy(fnet(images), labels), override={"lr": rates})
        return dict(zip(theta_0, fnet.parameters(), strict=True))
