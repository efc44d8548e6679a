"""k nearest neighbours: classify by the stored images alone, no net.

Distances l1 or l2 in pixel space, as normalized; K of 1 or 3 neighbours, each with one vote, ties
going to the lower class. Which of the four is chosen on training images. Wang et al. 2018 (table 1)
have it as a baseline, and on k-means images it beats their sets on MNIST.

Reference: Cover & Hart, Nearest neighbor pattern classification, 1967,
https://doi.org/10.1109/TIT.1967.1053964
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from datadistill.data import Split


@dataclass(frozen=True)
class Neighbours:
    """A distance and a number of neighbours."""

    distance: Literal["l1", "l2"]
    k: int

    def __str__(self) -> str:
        return f"{self.distance}, K {self.k}"


CANDIDATES = (Neighbours("l2", 1), Neighbours("l1", 1), Neighbours("l2", 3), Neighbours("l1", 3))


def neighbours_accuracy(
    images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"], target: Split, rule: Neighbours
) -> float:
    """Percent of `target` whose nearest stored images, at least `rule.k` and normalized as those of
    `target`, have its label.

    Example:
        >>> line = torch.tensor([0.0, 1.0, 5.0]).view(3, 1, 1, 1)
        >>> target = Split(line + 0.4, torch.tensor([0, 0, 1]))
        >>> neighbours_accuracy(line, torch.tensor([0, 0, 1]), target, Neighbours("l2", 1))
        100.0
    """
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(rule.k, p=int(rule.distance[1]), algorithm="brute")
    classifier.fit(images.flatten(1).cpu().numpy(), labels.cpu().numpy())
    found = classifier.predict(target.images.flatten(1).cpu().numpy())
    return 100.0 * float((found == target.labels.cpu().numpy()).mean())


def choose_neighbours(sets: Sequence[tuple[Tensor, Tensor]], target: Split) -> Neighbours:
    """The best of `CANDIDATES` by mean accuracy over some sets of stored images and labels. A
    training image of `target` that is itself stored is left out: it would find itself, and one
    neighbour would always look better than three."""
    fewest = min(len(images) for images, _ in sets)
    others = [_drop_stored(target, images) for images, _ in sets]

    def score(rule: Neighbours) -> float:
        return sum(neighbours_accuracy(*s, t, rule) for s, t in zip(sets, others, strict=True))

    # the first of equal ones
    return max((rule for rule in CANDIDATES if rule.k <= fewest), key=score)


def _drop_stored(target: Split, stored: Tensor) -> Split:
    """The images of `target` that are not stored; all of them where all are."""
    known = {image.numpy().tobytes() for image in stored.cpu()}
    mask = torch.tensor([image.numpy().tobytes() not in known for image in target.images.cpu()])
    mask = mask.to(target.labels.device)
    return Split(target.images[mask], target.labels[mask]) if bool(mask.any()) else target
