"""Kernel regression on the features of nets that age (FRePo).

Iteration i, with one net theta of a pool (aging_nets.py), drawn at random:

    F (n, D), R (B, D)   what the last layer gets of the set's images, and of a real batch
    P = R F^T (F F^T + lambda tr(F F^T) / n I)^-1 Y
    L = mean_b 1/2 |P_b - (Q_b - 1/K)|^2 - mean_j min(top_1 - top_2 of Y_j, 1/K)

and after the set was updated, one Adam step of theta on mean_j 1/2 |net(x_j; theta) - Y_j|^2. Y
(n, K) are the set's labels, raw ones as they are and others less 1/K; Q (B, K) is one-hot. The
gradient passes through F and Y alone: the last layer is solved for in closed form, and the training
of the layers below, which needs no graph, gives features of many ages.

The authors divide labels by sqrt(K / 10) at the start, which is 1 for ten classes.

Reference: Zhou et al., Dataset distillation using neural feature regression, 2022,
https://arxiv.org/abs/2206.00719
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.data import Split, augment
from datadistill.errors import NumericalError, UsageError
from datadistill.innerloop import adam
from datadistill.innerloop.losses import squared_error
from datadistill.innerloop.net_mode import NetMode
from datadistill.methods.aging_nets import AgedNet, AgingNets, check_pool, make_pool
from datadistill.methods.base import OF_NETS, OuterMethod
from datadistill.methods.ridge import predict_by_ridge
from datadistill.nets import has_batchnorm
from datadistill.nets.head import CPU_CHUNK, features_of, head_input, require_linear_head
from datadistill.objectives import Classification, Objective
from datadistill.starts import InitialDistribution
from datadistill.streams import generator
from datadistill.synthetic import Synthetic
from datadistill.theta import in_channels_last

__all__ = ["KernelRegression", "label_margin"]


def label_margin(labels: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """The distance of a label's largest number from its second largest, at most 1/K, a mean over
    labels.

    Example:
        >>> label_margin(torch.tensor([[0.3, 0.0], [2.0, 0.0]]))
        tensor(0.4000)
    """
    top = labels.topk(2, dim=1).values
    return (top[:, 0] - top[:, 1]).clamp_max(1 / labels.shape[1]).mean()


@dataclass(eq=False)
class KernelRegression(OuterMethod):
    """The squared error of ridge regression on the features of a net of a pool.

    Args:
        net: the architecture; its last layer makes the logits. Its values are not used.
        start: where fresh nets come from.
        split: real images to learn from, on the net's device.
        classes: K.
        batch: of these images, an iteration.
        augment: of these; see `data.augment`.
        nets: an iteration, each of a pool of its own; the loss is their mean.
        own: numbers of the nets that this process takes; None: all.
        norm: what BatchNorm uses: "batch", statistics of the images that go through it together
            (the real ones, or the set's), or "frozen".
        objective: gives the labels that are asked for.
        labels: of the set: "hard", "soft" or "raw".
        seed: of every random choice.
        regularization: lambda, relative to the mean of the kernel's diagonal; 0 is least squares.
        pool_size: nets in a pool.
        max_age: steps after which a net is replaced.
        lr: step size of Adam in a net's training.
        minibatch: at most so many images of the set in a step of a net's training.
        mirror: regression on the mirrored images too, with the same labels; not for digits.

    Raises:
        UsageError: for arguments other than these, or a net without a linear last layer.
    """

    net: nn.Module
    start: InitialDistribution
    split: Split
    classes: int
    batch: int = 1024
    augment: Sequence[str] = ()
    nets: int = 1
    own: range | None = None
    norm: str = "batch"
    objective: Objective = Classification()  # noqa: RUF009  (frozen)
    labels: str = "hard"
    seed: int = 0
    regularization: float = 1e-6
    pool_size: int = 10
    max_age: int = 100
    lr: float = 3e-4
    minibatch: int = 1000
    mirror: bool = False

    def __post_init__(self) -> None:
        check_pool(self, several=True)
        if not self.regularization >= 0:
            raise UsageError(
                f"regularization of the method is {self.regularization}; give 0 or more"
            )
        require_linear_head(self.net, self.split.images, "another net, or the method unrolled")

    matches_in_fresh_nets = True

    def loss(self, synthetic: Synthetic, iteration: int) -> Float[Tensor, ""]:
        draws = generator(self.seed, "real_batch", iteration)
        images, classes = self.split.batch(draws, self.batch)
        images = augment(images, generator(self.seed, "augment", iteration), self.augment)
        wanted = F.one_hot(self.objective.labels(classes), self.classes) - 1 / self.classes
        own, labels = self._pair(synthetic)
        losses = []
        for pool in self._pools.values():
            one = _net(pool, own, labels, iteration)
            with torch.no_grad():
                real = self._features(one, images, CPU_CHUNK)
            if self.mirror:
                both = torch.cat([own, own.flip(-1)])
                found = self._predict(real, self._features(one, both), torch.cat([labels, labels]))
            else:
                found = self._predict(real, self._features(one, own), labels)
            losses.append((found - wanted).square().sum(1).mean() / 2 - label_margin(labels))
        return torch.stack(losses).sum() / self.nets

    @torch.no_grad()
    def after(self, synthetic: Synthetic, iteration: int) -> None:
        images, labels = self._pair(synthetic)
        for pool in self._pools.values():
            pool.age(_net(pool, images, labels, iteration), images, labels)

    @torch.no_grad()
    def diagnose(self, synthetic: Synthetic, iteration: int) -> str:
        images, labels = self._pair(synthetic)
        found = []
        for pool in self._pools.values():
            one = _net(pool, images, labels, iteration)
            found.append((float(self._features(one, images).abs().max()), one.age))
        largest, age = max(found)
        return f"the features of a net of age {age} reach {largest:.1e}"

    def state(self) -> dict[str, Any]:
        kept = {n: pool.state() for n, pool in self._pools.items()}
        return {OF_NETS: kept} if self.nets > 1 else kept[0]

    def load(self, state: Mapping[str, Any]) -> None:
        kept = state.get(OF_NETS, {0: state})
        for n, pool in self._pools.items():
            pool.load(kept[n])

    @cached_property
    def _pools(self) -> dict[int, AgingNets]:
        """The pools of this process, by the numbers of their nets."""
        own = range(self.nets) if self.own is None else self.own
        return {n: make_pool(self, adam(), squared_error, n) for n in own}

    def _pair(self, synthetic: Synthetic) -> tuple[Tensor, Float[Tensor, "n k"]]:
        """Images of the set, and Y."""
        images, labels = synthetic.images(), synthetic.labels()
        if labels.dim() == 1:
            labels = F.one_hot(labels, self.classes).to(images.dtype)
        return images, labels if self.labels == "raw" else labels - 1 / self.classes

    def _features(
        self, one: AgedNet, images: Tensor, chunk: int | None = None
    ) -> Float[Tensor, "n d"]:
        """Of images that go through the net together; on a CPU so many pixels at once, unless their
        statistics are wanted."""
        theta = in_channels_last(one.theta)
        with NetMode(one.net, self.norm, training=False):
            if chunk and images.device.type == "cpu" and not self._has_statistics:
                return features_of(one.net, images, theta, chunk)
            return head_input(one.net, images, theta)

    @cached_property
    def _has_statistics(self) -> bool:
        return self.norm != "frozen" and has_batchnorm(self.net)

    def _predict(self, real: Tensor, features: Tensor, labels: Tensor) -> Float[Tensor, "b k"]:
        n, d = features.shape
        if self.regularization == 0 and n > d:
            raise UsageError(
                f"the regularization is 0, and {n} images with {d} features are too many to fit "
                "each; give the method a regularization above 0"
            )
        try:
            # images of a class have similar features: a kernel far from well conditioned
            found = predict_by_ridge(
                real.double(), features.double(), labels.double(), self.regularization
            )
        except torch.linalg.LinAlgError as error:
            raise NumericalError(
                f"the kernel of the set's {n} images is singular ({str(error)[:80]}), as where "
                "images are equal or features zero; give the method a larger regularization"
            ) from error
        return found.to(labels.dtype)


def _net(pool: AgingNets, images: Tensor, labels: Tensor, iteration: int) -> AgedNet:
    """The net of a pool that an iteration takes."""
    pool.start_all(images, labels)
    return pool.of_iteration(iteration)
