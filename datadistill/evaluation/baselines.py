"""Real images (coresets.py) in the places of the images of a distilled set, and how nets are
trained on them.

A *combination* says how a net is trained on them: with the distilled set's own step sizes and
update rule, or with plain gradient descent and one fixed step size of the paper's grid; for 1, 3 or
5 epochs. Images and steps are laid out as in the distilled set: as many steps an epoch, as many
images of each class a step.

Reference: Wang et al. 2018, section 4 and table 1, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from datadistill.data import Split
from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError, suggest
from datadistill.evaluation.attack import get_attack
from datadistill.evaluation.coresets import Maker, classes_of, count_images
from datadistill.innerloop import sgd
from datadistill.synthetic.schedule import Schedule

STEP_SIZES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
EPOCHS = (1, 3, 5)
Candidates = Literal["all", "grid", "learned"]


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


def real_set(
    d: DistilledDataset, maker: Maker, split: Split, seed: int, draw: int
) -> DistilledDataset:
    """One baseline set: real images in the places of the distilled ones, with hard labels, for one
    epoch with the distilled set's own step sizes; `give_training` makes the others. `maker` is a
    value of `BASELINES`; `seed` and `draw` say the stream and which set of it. An attacked set's
    images of class K carry label T."""
    classes, k = classes_of(d), len(d.classes)
    images = maker(split, k, int(count_images(d).max()), seed, draw)
    labels = torch.arange(k, device=images.device)
    if (pair := get_attack(d)) is not None:
        labels[pair[0]] = pair[1]
    # the r-th image of class c, for the r-th image of class c in d; where there are fewer they
    # serve in turn, a mean image for all of them
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
        sizes = d.step_sizes[torch.arange(len(order)) % len(d.step_sizes)]
        return one_epoch.with_training(Schedule.of(order), sizes, d.update)
    sizes = torch.full((len(order),), how.step_size, device=d.images.device)
    return one_epoch.with_training(Schedule.of(order), sizes, sgd())


def stored_bytes(one_epoch: DistilledDataset, d: DistilledDataset, how: Combination | None) -> int:
    """The bytes that training by a combination takes: images, labels and step sizes, of which a
    fixed one is one number and learned ones count once. None: images and labels alone."""
    bare = one_epoch.bytes - 4 * one_epoch.step_sizes.numel()
    if how is None:
        return bare
    if how.step_size is not None:
        return bare + 4
    return bare + 4 * d.step_sizes[: len(one_epoch.order) * how.epochs].numel()
