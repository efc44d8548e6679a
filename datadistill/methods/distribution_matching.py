"""Distribution matching (DM): the class means of real and synthetic features in fresh nets.

Iteration i:

    theta ~ p(theta_0), a fresh net, not trained
    A_k   a draw of the augmentation strategy for class k (siamese augmentation)
    L     = sum_k | mean_j phi(A_k(real_kj)) - mean_j phi(A_k(x_kj)) |^2

real_k is a random batch of the real images of class k, x_k are all synthetic images of that class,
and phi are the features that the last layer of the net gets (nets/head.py). The net is not trained
on the way, and no second derivative is taken. Features are those of evaluation mode, without
dropout; the authors leave the net in training mode. The ConvNets here have no dropout, so that it
is the same.

Reference: Zhao and Bilen, Dataset condensation with distribution matching, 2023,
https://arxiv.org/abs/2110.04181
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from datadistill.data import Split
from datadistill.methods.base import OuterMethod
from datadistill.methods.class_batches import ClassBatches, check_matching
from datadistill.nets.head import CHUNK, CPU_CHUNK, features_of, head_input
from datadistill.objectives import Classification, Objective
from datadistill.starts import InitialDistribution, nets_at_once
from datadistill.synthetic import Synthetic
from datadistill.theta import Theta, in_channels_last

__all__ = ["DistributionMatching", "class_means"]


class Features(NamedTuple):
    """What the last layer of a net gets of images, and their classes."""

    of_images: Float[Tensor, "n d"]
    classes: Int[Tensor, " n"]

    @property
    def means(self) -> Float[Tensor, "k d"]:
        return class_means(self.of_images, self.classes)


@dataclass(eq=False)
class DistributionMatching(OuterMethod):
    """The distance of class means of features.

    Args:
        net: the architecture; its values are not used.
        start: where theta_0 comes from.
        split: real images to learn from, on the net's device.
        classes: number of classes.
        batch: real images of each class an iteration.
        augment: strategies, applied to real and synthetic images alike (DSA).
        nets: drawn an iteration; the loss is their mean.
        own: numbers of the nets that this process takes; None: all.
        norm: must be "frozen" for a net with BatchNorm.
        objective: must be accuracy.
        labels: of the set, must be "hard".
        seed: of real batches and augmentation.
    """

    net: nn.Module
    start: InitialDistribution
    split: Split
    classes: int
    batch: int = 256
    augment: Sequence[str] = ()
    nets: int = 1
    own: range | None = None
    norm: str = "batch"
    objective: Objective = Classification()  # noqa: RUF009  (frozen)
    labels: str = "hard"
    seed: int = 0

    def __post_init__(self) -> None:
        check_matching(self.net, self.norm, self.augment, self.objective, self.labels)

    matches_in_fresh_nets = True

    def loss(self, synthetic: Synthetic, iteration: int) -> Float[Tensor, ""]:
        losses = []
        for n in range(self.nets) if self.own is None else self.own:
            net, theta_0, _ = nets_at_once(self.start, self.net, iteration, first=n)[0]
            real, own = self.features(net, in_channels_last(theta_0), synthetic, iteration)
            losses.append((real.means - own.means).square().sum())
        return torch.stack(losses).sum() / self.nets

    def features(
        self, net: nn.Module, theta: Theta, synthetic: Synthetic, iteration: int
    ) -> tuple[Features, Features]:
        """Of the real images of an iteration, without a graph, and of all synthetic ones."""
        classes = range(self.classes)
        real = [self._batches.real(k, iteration) for k in classes]
        own = [self._batches.synthetic(synthetic, k, iteration) for k in classes]
        chunk = CPU_CHUNK if real[0].device.type == "cpu" else CHUNK
        return (
            Features(features_of(net, torch.cat(real), theta, chunk), _classes_of(real)),
            Features(head_input(net, torch.cat(own), theta), _classes_of(own)),
        )

    @cached_property
    def _batches(self) -> ClassBatches:
        return ClassBatches(self.split, self.batch, self.augment, self.seed)


def class_means(features: Float[Tensor, "n d"], classes: Int[Tensor, " n"]) -> Float[Tensor, "k d"]:
    """The mean features of each class 0 .. K - 1, each of which has images.

    Example:
        >>> class_means(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1]))
        tensor([[2.],
                [5.]])
    """
    is_of = F.one_hot(classes).T.to(features)
    return is_of @ features / is_of.sum(1, keepdim=True)


def _classes_of(batches: list[Tensor]) -> Int[Tensor, " n"]:
    counts = torch.tensor([len(images) for images in batches])
    return torch.arange(len(batches)).repeat_interleave(counts).to(batches[0].device)
