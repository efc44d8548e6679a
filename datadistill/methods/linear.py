"""Sets for the head of a frozen net: ridge regression in closed form, and linear gradient matching.

Notation: phi(x) (D,) is what the last layer gets of image x (nets/head.py), less its mean over the
real images and divided by one deviation; Z (n, D) and Y (n, K) are phi and labels of the set, R
(B, D) and Q (B, K) those of a real batch.

    ridge-regression            P = R Z^T (Z Z^T + lambda tr(Z Z^T) / n I)^-1 (Y - 1/K)
                                L = mean_i 1/2 |P_i - (Q_i - 1/K)|^2, or cross-entropy of scale P
    linear-gradient-matching    V ~ N(0, scale^2 / D), drawn anew every iteration
                                G = grad_V CE(V phi, y) = (softmax(phi V^T) - y)^T phi / n
                                L = 1 - cos(G of the real batch, G of the set), one cosine for all

In ridge regression every row of Z and R ends in a 1, for the bias. The features of real images are
computed once; images of the set are learned through the body, or are features themselves (space
"features"), where nothing lies between.

Linear gradient matching is without its authors' augmentation of real and synthetic images, as the
features are computed once, and without their pyramid, where an image is a sum of upsampled levels
of decorrelated colours, finer ones added in the course of learning.

References: Nguyen et al., Dataset meta-learning from kernel ridge-regression, 2021,
https://arxiv.org/abs/2011.00050; Cazenavette et al., Dataset distillation for pre-trained
self-supervised vision models, 2025, https://arxiv.org/abs/2511.16674
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.data import Split
from datadistill.errors import UsageError, suggest
from datadistill.methods.base import OuterMethod
from datadistill.methods.ridge import predict_by_ridge
from datadistill.nets import has_batchnorm
from datadistill.nets.head import features_of, head_input, require_linear_head
from datadistill.nets.trained_parameters import HEAD, parameters_of
from datadistill.objectives import Classification, Objective
from datadistill.streams import generator
from datadistill.synthetic import Synthetic
from datadistill.theta import trainable

__all__ = ["LinearGradientMatching", "RidgeRegression", "weight_gradient"]

CRITERIA = ("squared-error", "cross-entropy")


def weight_gradient(
    head: Float[Tensor, "k d"], features: Float[Tensor, "n d"], labels: Float[Tensor, "n k"]
) -> Float[Tensor, "k d"]:
    """Gradient of the mean cross-entropy of a linear head without bias, in its weight.

    Example:
        >>> weight_gradient(torch.zeros(2, 1), torch.ones(1, 1), torch.tensor([[1.0, 0.0]]))
        tensor([[-0.5000],
                [ 0.5000]])
    """
    return ((features @ head.T).softmax(1) - labels).T @ features / len(features)


@dataclass(eq=False)
class LinearMethod(OuterMethod):
    """A method for the linear head of a frozen net: its features of real images and of the set.

    Args:
        net: a net of which the head alone is trained.
        split: real images to learn from, on the net's device.
        batch: of these, an iteration.
        augment: must be empty, as the features of the real images are computed once.
        norm: must be "frozen" for a net with BatchNorm.
        objective: gives the labels that are asked for.
        seed: of every random choice.

    Raises:
        UsageError: for arguments other than these.
    """

    net: nn.Module
    split: Split
    batch: int = 256
    augment: Sequence[str] = ()
    norm: str = "frozen"
    objective: Objective = Classification()  # noqa: RUF009  (frozen)
    seed: int = 0

    def __post_init__(self) -> None:
        body = [k for k in trainable(self.net) if k not in parameters_of(self.net, HEAD)]
        if body:
            raise UsageError(
                f"the method learns for the head of a frozen net, and {body[0]} and "
                f"{len(body) - 1} more parameters are trained; choose --train head or --space "
                "features, or the method unrolled"
            )
        if self.augment:
            raise UsageError(
                "the features of the real images are computed once, so that they cannot be "
                f"augmented ({', '.join(self.augment)}); leave augment out, or choose the method "
                "unrolled"
            )
        if has_batchnorm(self.net) and self.norm != "frozen":
            raise UsageError(
                f"norm is {self.norm}, so that the features of an image depend on its batch; "
                "choose --norm frozen, or the method unrolled"
            )
        instead = "the method unrolled, or --space features"
        require_linear_head(self.net, self.split.images, instead)

    def features(
        self, synthetic: Synthetic, iteration: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of an iteration: normalized features (B, D) of a real batch, the classes asked for there
        (B,), features (n, D) of the set, differentiable in its images, and its labels (n, K)."""
        mean, std, normalized = self._real
        real, classes = normalized.batch(generator(self.seed, "real_batch", iteration), self.batch)
        features = (head_input(self.net, synthetic.images()) - mean) / std
        labels = synthetic.labels()
        if labels.dim() == 1:
            weight = self.net.get_parameter(parameters_of(self.net, HEAD)[0])
            labels = F.one_hot(labels, len(weight))
        return real, self.objective.labels(classes), features, labels.to(real)

    @cached_property
    def _real(self) -> tuple[Tensor, Tensor, Split]:
        """One mean a feature, one deviation for all, and the real images' features normalized by
        them, in place of images."""
        features = features_of(self.net, self.split.images)
        mean = features.mean(0)
        std = (features - mean).square().mean().sqrt()
        return mean, std, Split((features - mean) / std, self.split.labels)


@dataclass(eq=False)
class RidgeRegression(LinearMethod):
    """The loss of ridge regression on the set, solved in closed form.

    Args:
        regularization: lambda, relative to the mean of the kernel's diagonal. The larger it is, the
            nearer is the solution to one gradient step from zero.
        criterion: "squared-error" or "cross-entropy".
        scale: of predictions as logits, for cross-entropy.
        net, split, ...: see `LinearMethod`.
    """

    regularization: float = 1.0
    criterion: str = "squared-error"
    scale: float = 10.0

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise UsageError(
                f"criterion is {self.criterion!r}; {suggest(self.criterion, CRITERIA)}"
            )
        _refuse_not_positive("regularization", self.regularization)
        _refuse_not_positive("scale", self.scale)
        super().__post_init__()

    def loss(self, synthetic: Synthetic, iteration: int) -> Float[Tensor, ""]:
        real, classes, features, labels = self.features(synthetic, iteration)
        k = labels.shape[1]
        found = predict_by_ridge(
            _append_one(real), _append_one(features), labels - 1 / k, self.regularization
        )
        if self.criterion == "cross-entropy":
            return F.cross_entropy(self.scale * found, classes)
        wanted = F.one_hot(classes, k) - 1 / k
        return (found - wanted).square().sum(1).mean() / 2


@dataclass(eq=False)
class LinearGradientMatching(LinearMethod):
    """The angle between the gradients of a random linear head on real images and on the set.

    Args:
        scale: deviation of a random head's logits, where a feature's is 1.
        net, split, ...: see `LinearMethod`.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        _refuse_not_positive("scale", self.scale)
        super().__post_init__()

    def loss(self, synthetic: Synthetic, iteration: int) -> Float[Tensor, ""]:
        real, classes, features, labels = self.features(synthetic, iteration)
        k, d = labels.shape[1], real.shape[1]
        head = torch.randn(k, d, generator=generator(self.seed, "random_head", iteration))
        head = head.to(real) * self.scale / d**0.5
        of_real = weight_gradient(head, real, F.one_hot(classes, k).to(real))
        of_set = weight_gradient(head, features, labels)
        return 1 - F.cosine_similarity(of_real.flatten(), of_set.flatten(), dim=0)


def _append_one(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d+1"]:
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)


def _refuse_not_positive(name: str, value: float) -> None:
    if not value > 0:
        raise UsageError(f"{name} of the method is {value}; give a number above 0")
