"""Real and synthetic images of one class, augmented alike, for the methods that match them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from jaxtyping import Float, Int
from torch import Tensor, nn

from datadistill.data import Split
from datadistill.data.augmentation import AUGMENTATIONS
from datadistill.data.batches import draw_distinct
from datadistill.data.siamese import apply_strategy
from datadistill.errors import UsageError
from datadistill.nets import has_batchnorm
from datadistill.objectives import Classification, Objective
from datadistill.streams import generator
from datadistill.synthetic import Synthetic

__all__ = ["ClassBatches", "check_matching"]


class ClassBatches:
    """Images of class k for iteration i: a random batch of the real ones, drawn from the stream
    (seed, "real_batch", i, k), and all synthetic ones. Both are augmented by one draw, from the
    stream (seed, "augment", i, k).

    Args:
        split: real images.
        size: of the real batch; everything, in order, where the class has no more.
        augment: strategies of siamese augmentation.
        seed: of both streams.
    """

    def __init__(self, split: Split, size: int, augment: Sequence[str], seed: int) -> None:
        self.split, self.size, self.augment, self.seed = split, size, augment, seed

    @cached_property
    def rows(self) -> tuple[Int[Tensor, " r"], ...]:
        """Of each class, its images' numbers in the split."""
        labels = self.split.labels
        return tuple((labels == k).nonzero().flatten() for k in range(int(labels.max()) + 1))

    def real(self, k: int, iteration: int) -> Float[Tensor, "b c h w"]:
        """Real images, without a graph."""
        rows = self.rows[k]
        if self.size < len(rows):
            draws = generator(self.seed, "real_batch", iteration, k)
            rows = rows[draw_distinct(len(rows), self.size, draws).to(rows.device)]
        return self._augment(self.split.images[rows], k, iteration)

    def synthetic(self, synthetic: Synthetic, k: int, iteration: int) -> Float[Tensor, "n c h w"]:
        """Images of the set, differentiable."""
        return self._augment(synthetic.of_class(k)[0], k, iteration)

    def _augment(self, images: Tensor, k: int, iteration: int) -> Tensor:
        draws = generator(self.seed, "augment", iteration, k)
        for strategy in self.augment:
            images = apply_strategy(images, strategy, draws)
        return images


def check_matching(
    net: nn.Module, norm: str, augment: Sequence[str], objective: Objective, labels: str
) -> None:
    """Refuse what the matching of classes has no place for.

    Args:
        net, norm, augment, objective: of the method.
        labels: of the set: "hard", "soft" or "raw".

    Raises:
        UsageError: BatchNorm with statistics of the batch, an augmentation with draws for each
            image, another objective than accuracy, or learned labels.
    """
    if has_batchnorm(net) and norm != "frozen":
        raise UsageError(
            f"norm is {norm}, and a batch of one class has other statistics in BatchNorm layers "
            "than the data; choose another norm layer (convnet has norm=instance), or pretrained "
            "nets with --norm frozen"
        )
    for name in augment:
        if name in AUGMENTATIONS:
            raise UsageError(
                f"augmentation {name!r} has a draw for each image, and real and synthetic images "
                f"are to be augmented alike; choose 'dsa:{name}'"
            )
    if not isinstance(objective, Classification):
        raise UsageError(
            "an attack asks for other labels than the true ones, and the method matches the real "
            "images of each class; choose the method unrolled"
        )
    if labels != "hard":
        raise UsageError(
            f"labels are {labels}, and the method learns images alone; choose labels hard, or "
            "the method unrolled"
        )
