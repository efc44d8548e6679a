"""Improved distribution matching (IDM): class means of features in nets that are being trained, and
a class loss.

Iteration i, with a net of a pool that grows old on real images (aging_nets.py):

    theta, W   the net's body and last layer
    A_k        a draw of the augmentation strategy for class k (siamese augmentation)
    r_k, s_k   mean_j phi(A_k(real_kj)), mean_j phi(A_k(x_kj))
    D          = sum_k |r_k - s_k|^2  /  mean_k |r_k - mean_l r_l|^2
    L          = D + w a mean_k CE(W phi(A_k(x_k)), k)
    theta     <- SGD with momentum on real images

a is the share of the real images of this iteration that the net classifies right: a net says what a
class looks like as far as it knows.

Deviations: the authors compare features averaged over channels by their bare distance; here it is
relative to the scatter of the classes, as features grow while a net is trained, so that their
weights w are not ours. A net is trained when it is taken, theirs are two other nets of the pool by
ten steps; theirs stay until a hundred newer ones have come.

The method goes with mosaics (synthetic/mosaic.py), the third of the paper's parts.

Reference: Zhao et al., Improved distribution matching for dataset condensation, 2023,
https://arxiv.org/abs/2307.09742; code: https://github.com/uitrbn/IDM
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from datadistill.errors import UsageError
from datadistill.innerloop import momentum
from datadistill.methods.aging_nets import AgedNet, AgingNets, check_pool, make_pool
from datadistill.methods.distribution_matching import DistributionMatching
from datadistill.nets.head import head_logits, require_linear_head
from datadistill.nets.logits import cross_entropy
from datadistill.synthetic import Synthetic
from datadistill.theta import in_channels_last

__all__ = ["ImprovedDistributionMatching"]

RULE = momentum(0.9, weight_decay=5e-4)


@dataclass(eq=False)
class ImprovedDistributionMatching(DistributionMatching):
    """The relative distance of class means of features in nets that grow old, and their class loss.

    Args:
        class_weight: w, 0 or more.
        pool_size: nets in the pool.
        max_age: steps after which a net is replaced by a fresh draw.
        steps: of a net's training after an iteration.
        lr: their size.
        minibatch: real images of a step.
        others: as of `DistributionMatching`; `nets` must be 1.

    Raises:
        UsageError: for arguments other than these, or a net without a linear last layer.
    """

    class_weight: float = 10.0
    pool_size: int = 5
    max_age: int = 150
    steps: int = 1
    lr: float = 0.01
    minibatch: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pool(self)
        if self.steps < 1:
            raise UsageError(f"steps of the method is {self.steps}; give 1 or more")
        if not 0 <= self.class_weight < float("inf"):
            raise UsageError(f"class_weight of the method is {self.class_weight}; give 0 or more")
        require_linear_head(
            self.net, self.split.images, "another net, or the method distribution-matching"
        )

    def loss(self, synthetic: Synthetic, iteration: int) -> Float[Tensor, ""]:
        one = self._net(iteration)
        theta = in_channels_last(one.theta)
        real, own = self.features(one.net, theta, synthetic, iteration)
        found = head_logits(one.net, real.of_images, theta).argmax(1)
        a = (found == real.classes).to(real.of_images).mean()
        logits = head_logits(one.net, own.of_images, theta)
        return relative_distance(real.means, own.means) + self.class_weight * a * cross_entropy(
            logits, own.classes
        )

    @torch.no_grad()
    def after(self, synthetic: Synthetic, iteration: int) -> None:
        one = self._net(iteration)
        self._pool.age(one, self.split.images, self.split.labels, self.steps)

    @torch.no_grad()
    def diagnose(self, synthetic: Synthetic, iteration: int) -> str:
        one = self._net(iteration)
        real, _ = self.features(one.net, in_channels_last(one.theta), synthetic, iteration)
        return (
            f"the features of a net of age {one.age}, trained with steps of lr {self.lr} "
            f"(--method-args), reach {float(real.of_images.abs().max()):.1e}, and the class means "
            f"have the scatter {float(scatter(real.means)):.1e}"
        )

    def state(self) -> dict[str, Any]:
        return self._pool.state()

    def load(self, state: Mapping[str, Any]) -> None:
        self._pool.load(state)

    @cached_property
    def _pool(self) -> AgingNets:
        return make_pool(self, RULE, cross_entropy)

    def _net(self, iteration: int) -> AgedNet:
        self._pool.start_all(self.split.images, self.split.labels)
        return self._pool.of_iteration(iteration)


def relative_distance(real: Float[Tensor, "k d"], own: Float[Tensor, "k d"]) -> Float[Tensor, ""]:
    """The squared distance of two rows of class means, in units of the first ones' scatter.

    Example:
        >>> means = torch.tensor([[1.0], [3.0]])
        >>> relative_distance(means, means), relative_distance(means, torch.tensor([[1.0], [5.0]]))
        (tensor(0.), tensor(4.))
    """
    return (real - own).square().sum() / scatter(real)


def scatter(means: Float[Tensor, "k d"]) -> Float[Tensor, ""]:
    """The mean squared distance of class means from their own mean.

    Example:
        >>> scatter(torch.tensor([[1.0], [3.0]]))
        tensor(1.)
    """
    return (means - means.mean(0)).square().sum(1).mean()
