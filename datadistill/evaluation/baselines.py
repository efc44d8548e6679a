"""Sets of real images to compare a distilled set with.

    random-real      real images of each class, drawn at random
    optimized-real   the best of many such draws (chosen in compare.py)
    k-means          the centres of each class's k-means clusters
    average-real     the mean image of each class, the same in every step

A *combination* says how a net is trained on them: with the distilled set's own step sizes and
update rule, or with plain gradient descent and one fixed step size of the paper's grid; for 1, 3 or
5 epochs. Images and steps are laid out as in the distilled set: as many steps an epoch, as many
images of each class a step.

Reference: Wang et al. 2018, section 4 and table 1, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from datadistill.data import Split
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError, suggest
from datadistill.evaluation.attack import get_attack
from datadistill.innerloop import sgd
from datadistill.runs.signals import poll
from datadistill.streams import derive, generator

STEP_SIZES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
EPOCHS = (1, 3, 5)
Candidates = Literal["all", "grid", "learned"]
Maker = Callable[[Split, int, int, int, int], Tensor]


@dataclass(frozen=True)
class Combination:
    """The training of a net on real images.

    Args:
        step_size: one step size for all steps, with plain gradient descent; None: the distilled
            set's own step sizes and update rule. Of its T step sizes, fewer steps take the first
            ones; more begin again.
        epochs: passes over the steps.

    Example:
        >>> str(Combination(0.03, 5)), str(Combination(None, 1))
        ('step size 0.03, 5 epochs', 'learned step sizes, 1 epoch')
    """

    step_size: float | None
    epochs: int

    def __str__(self) -> str:
        sizes = "learned step sizes" if self.step_size is None else f"step size {self.step_size:g}"
        return f"{sizes}, {self.epochs} epoch{'s' if self.epochs != 1 else ''}"


def combinations(d: DistilledDataset, candidates: Candidates = "all") -> tuple[Combination, ...]:
    """The candidates: learned and fixed step sizes ("all"), or only one kind.

    An attacked set has one number of epochs, its own: how many gradient steps the victim takes is
    part of the threat, and not the attacker's to choose.
    """
    known: dict[str, tuple[float | None, ...]] = {
        "all": (None, *STEP_SIZES),
        "grid": STEP_SIZES,
        "learned": (None,),
    }
    if candidates not in known:
        raise UsageError(f"candidates is {candidates!r}; {suggest(candidates, known)}")
    epochs = EPOCHS if get_attack(d) is None else (d.passes,)
    return tuple(Combination(size, e) for size in known[candidates] for e in epochs)


# --- images


def random_real(
    split: Split, classes: int, ipc: int, seed: int, draw: int
) -> Float[Tensor, "k ipc c h w"]:
    """Real images of each class, without repetition: set number `draw` of the stream.

    Example:
        >>> split = Split(torch.arange(6.0).view(6, 1, 1, 1), torch.tensor([0, 0, 0, 1, 1, 1]))
        >>> random_real(split, classes=2, ipc=3, seed=0, draw=0).flatten(1).sort().values
        tensor([[0., 1., 2.],
                [3., 4., 5.]])
    """
    parts = []
    for k, index in enumerate(_index_by_class(split, classes, ipc)):
        order = torch.randperm(len(index), generator=generator(seed, "random_real", draw, k))
        parts.append(split.images[index[order[:ipc].to(index.device)]])
    return torch.stack(parts)


def k_means(
    split: Split, classes: int, ipc: int, seed: int, draw: int
) -> Float[Tensor, "k ipc c h w"]:
    """Centres of `ipc` k-means clusters of each class.

    Example:
        >>> split = Split(
        ...     torch.tensor([0.0, 2.0, 8.0, 10.0]).view(4, 1, 1, 1), torch.zeros(4).long()
        ... )
        >>> k_means(split, classes=1, ipc=2, seed=0, draw=0).flatten().sort().values
        tensor([1., 9.])
    """
    from sklearn.cluster import KMeans

    parts = []
    for k, index in enumerate(_index_by_class(split, classes, ipc)):
        poll()
        images = split.images[index]
        clusters = KMeans(ipc, n_init=1, random_state=derive(seed, "k_means", draw, k) % 2**32)
        centres = torch.from_numpy(clusters.fit(images.flatten(1).cpu().numpy()).cluster_centers_)
        parts.append(centres.float().view(ipc, *images.shape[1:]).to(images.device))
    return torch.stack(parts)


def average_real(
    split: Split, classes: int, ipc: int = 1, seed: int = 0, draw: int = 0
) -> Float[Tensor, "k 1 c h w"]:
    """The mean image of each class: one, whatever `ipc` is, and nothing is drawn."""
    return torch.stack(
        [split.images[index].mean(0, keepdim=True) for index in _index_by_class(split, classes, 1)]
    )


BASELINES: dict[str, Maker] = {
    "random-real": random_real,
    "k-means": k_means,
    "average-real": average_real,
}
"""Name -> maker(split, classes, ipc, seed, draw) -> images (K, ipc, C, H, W)."""


def _index_by_class(split: Split, classes: int, wanted: int) -> list[Tensor]:
    """Indices of the images of each class."""
    parts = [(split.labels == k).nonzero().flatten() for k in range(classes)]
    short = [(k, len(index)) for k, index in enumerate(parts) if len(index) < wanted]
    if short:
        raise DataError(
            f"class {short[0][0]} has {short[0][1]} training images, but the baselines take "
            f"{wanted} of each class, as many as the distilled set has; leave these baselines out"
        )
    return parts


# --- sets


def classes_of(d: DistilledDataset) -> Int[Tensor, " n"]:
    """The class that each image of a set stands for.

    That of a hard label. An image with a learned label has the class it started with: j % K for
    image j. In an attacked set whose images of class K carry label T, the images with label T are
    of T and of K in turn.
    """
    n, k = len(d.images), len(d.classes)
    if d.labels.is_floating_point():
        return torch.arange(n, device=d.images.device) % k
    classes, pair = d.labels.clone(), get_attack(d)
    if pair is not None and not bool((classes == pair[0]).any()):
        both = (classes == pair[1]).nonzero().flatten()
        # in the lower class first, as classes run from 0 to K - 1 in each step
        classes[both] = torch.tensor(sorted(pair), device=classes.device)[
            torch.arange(len(both), device=classes.device) % 2
        ]
    return classes


def real_set(
    d: DistilledDataset, maker: Maker, split: Split, seed: int, draw: int
) -> DistilledDataset:
    """One baseline set: real images in the places of the distilled ones, with hard labels, for one
    epoch with the distilled set's own step sizes; `give_training` makes the others. `maker` is a
    value of `BASELINES`; `seed` and `draw` say the stream and which set of it. An attacked set's
    images of class K carry label T."""
    classes, k = classes_of(d), len(d.classes)
    ipc = int(torch.bincount(classes, minlength=k).max())
    images = maker(split, k, ipc, seed, draw)
    labels = torch.arange(k, device=images.device)
    if (pair := get_attack(d)) is not None:
        labels[pair[0]] = pair[1]
    # the r-th image of class c, for the r-th image of class c in d; a mean image for all of them
    rank = torch.stack([(classes[:j] == classes[j]).sum() for j in range(len(classes))])
    place = (rank % images.shape[1]) * k + classes
    epoch = list(d.schedule.batches)
    used, index = torch.unique(place[torch.cat(epoch)], return_inverse=True)
    return DistilledDataset(
        images.transpose(0, 1).flatten(0, 1)[used].contiguous(),
        labels[used % k],
        d.step_sizes[: len(epoch)],
        list(index.split([len(i) for i in epoch])),
        classes=d.classes,
        normalization=d.normalization,
        net=d.net,
        update=d.update,
        tensors=d.tensors,
        norm=d.norm,
        start=d.start,
        objective=d.objective,
        data=d.data,
        origin=d.origin,
    )


def give_training(
    one_epoch: DistilledDataset, d: DistilledDataset, how: Combination
) -> DistilledDataset:
    """A set of `real_set` with the step sizes, the update rule and the epochs of a combination; `d`
    has the learned step sizes."""
    order = one_epoch.order * how.epochs
    if how.step_size is None:
        sizes, update = d.step_sizes[torch.arange(len(order)) % len(d.step_sizes)], d.update
    else:
        sizes, update = torch.full((len(order),), how.step_size, device=d.images.device), sgd()
    return DistilledDataset(
        one_epoch.images,
        one_epoch.labels,
        sizes,
        order,
        classes=d.classes,
        normalization=d.normalization,
        net=d.net,
        update=update,
        tensors=d.tensors,
        norm=d.norm,
        start=d.start,
        objective=d.objective,
        data=d.data,
        origin=d.origin,
    )


def stored_bytes(one_epoch: DistilledDataset, d: DistilledDataset, how: Combination | None) -> int:
    """The bytes that training by a combination takes: images, labels and step sizes, of which a
    fixed one is one number and learned ones count once. None: images and labels alone."""
    bare = one_epoch.bytes - 4 * one_epoch.step_sizes.numel()
    if how is None:
        return bare
    if how.step_size is not None:
        return bare + 4
    return bare + 4 * d.step_sizes[: len(one_epoch.order) * how.epochs].numel()
