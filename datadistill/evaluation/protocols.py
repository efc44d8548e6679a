"""Evaluation protocols: how nets are trained on the images of a set before they are tested.

    own     the set's own schedule, step sizes and update rule
    plain   300 epochs without augmentation
    dc      as DC tests its sets: MNIST for 1,000 epochs with crops, stretches and turns, other
            data as plain
    dsa     1,000 epochs with DSA's strategy, without mirror images of digits

All but `own` are an ordinary training of E epochs: shuffled minibatches of 256, SGD with momentum
0.9 and weight decay 5e-4, step size 0.01, from epoch E // 2 + 1 on (counted from 0) 0.001. Nets are
drawn by PyTorch's own initialization, whatever the set was learned with, since another scheme moves
accuracies by several points. The
accuracy is that after the last epoch. A set keeps the loss that goes with its labels:
cross-entropy, or the squared error of raw labels.

Deviations from the authors' code: there E means E + 1 epochs, the step size falls one epoch later,
and the momentum is forgotten when it does.

References: Zhao et al., Dataset condensation with gradient matching, 2021,
https://arxiv.org/abs/2006.05929; Zhao and Bilen, Dataset condensation with differentiable siamese
augmentation, 2021, https://arxiv.org/abs/2102.08259; code:
https://github.com/VICO-UoE/DatasetCondensation
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from datadistill.config.strategies import DC_STRATEGY, DSA_STRATEGY, DSA_STRATEGY_OF_DIGITS
from datadistill.data.augmentation import check_augmentations
from datadistill.data.class_names import DIGIT_SETS
from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError, suggest
from datadistill.features import FeatureNormalization
from datadistill.innerloop import momentum
from datadistill.synthetic.schedule import Schedule

__all__ = ["OWN", "PROTOCOLS", "Protocol", "describe_training", "find_protocol"]

OWN = "own"


@dataclass(frozen=True)
class Protocol:
    """An ordinary training on a set of images, in place of the set's own.

    Args:
        name: for the output.
        epochs: passes over the images.
        augment: augmentations of a minibatch, a draw for each image; see `data.augment`.
        minibatch: images of a step.
        step_size: of the epochs up to epochs // 2; a tenth of it in the others.
        beta, weight_decay: of the update rule `momentum`.
        init: the initialization scheme of the nets; see `datadistill.nets.INITIALIZATIONS`.

    Example:
        >>> [round(float(eta), 4) for eta in Protocol("short", epochs=4).step_sizes(images=10)]
        [0.01, 0.01, 0.01, 0.001]
    """

    name: str
    epochs: int
    augment: tuple[str, ...] = ()
    minibatch: int = 256
    step_size: float = 0.01
    beta: float = 0.9
    weight_decay: float = 5e-4
    init: str = "default"

    def __post_init__(self) -> None:
        for field in ("epochs", "minibatch"):
            if getattr(self, field) < 1:
                raise UsageError(
                    f"{field} of the protocol {self.name} is {getattr(self, field)}, but it must "
                    "be at least 1"
                )

    def schedule(self, images: int) -> Schedule:
        """The minibatches of so many images."""
        return Schedule.shuffled(images, self.minibatch, self.epochs, self.augment)

    def step_sizes(self, images: int) -> Float[Tensor, " T"]:
        """The step sizes of a training on so many images."""
        schedule = self.schedule(images)
        found = torch.full((schedule.steps,), self.step_size)
        found[(self.epochs // 2 + 1) * schedule.steps_per_epoch :] *= 0.1
        return found

    def apply(self, d: DistilledDataset) -> DistilledDataset:
        """The set with this training in place of its own; images, labels, loss and the use of
        BatchNorm stay.

        Raises:
            UsageError: augmentation of features, which are no images.
            DataError: images too small for an augmentation.
        """
        if self.augment and isinstance(d.normalization, FeatureNormalization):
            raise UsageError(
                f"the protocol {self.name} augments images, and the set has features in their "
                "place; take the protocol plain or own"
            )
        shape = tuple(d.images.shape[1:])
        check_augmentations(self.augment, shape, dataset_of(d), stacklevel=3)
        n = len(d.images)
        return d.with_training(
            self.schedule(n),
            self.step_sizes(n).to(d.images),
            momentum(self.beta, weight_decay=self.weight_decay),
        )

    def __str__(self) -> str:
        """The training in words.

        >>> str(Protocol("short", 1)), str(Protocol("turned", 20, ("dsa:rotate",)))
        ('1 epoch of SGD without augmentation', '20 epochs of SGD with dsa:rotate')
        """
        what = f"with {', '.join(self.augment)}" if self.augment else "without augmentation"
        return f"{self.epochs} epoch{'s' if self.epochs != 1 else ''} of SGD {what}"


def plain(dataset: str = "") -> Protocol:
    """As DC tests sets of most data."""
    return Protocol("plain", 300)


def dc(dataset: str) -> Protocol:
    """As DC tests sets of a data set."""
    if dataset in ("mnist", "mnist5k"):
        return Protocol("dc", 1000, (DC_STRATEGY,))
    return replace(plain(), name="dc")


def dsa(dataset: str) -> Protocol:
    """As DSA, and DM after it, test sets of a data set."""
    strategy = DSA_STRATEGY_OF_DIGITS if dataset in DIGIT_SETS else DSA_STRATEGY
    return Protocol("dsa", 1000, (strategy,))


PROTOCOLS: dict[str, Callable[[str], Protocol]] = {"plain": plain, "dc": dc, "dsa": dsa}
"""Name -> the protocol for a data set, by its name; "own" is none of them."""


def find_protocol(
    name: str | Protocol, d: DistilledDataset, epochs: int | None = None
) -> Protocol | None:
    """The protocol of a name for the data of a set; None for "own", which changes nothing.

    Args:
        name: "own", or a name in `PROTOCOLS`; or a protocol of your own, which is returned.
        d: the set.
        epochs: another number of epochs than the published one.

    Raises:
        UsageError: an unknown name, or epochs of the set's own training.
    """
    if name == OWN:
        if epochs is not None:
            raise UsageError(
                f"epochs is {epochs}, but the protocol own trains as the set was learned to; "
                f"choose a protocol of {', '.join(PROTOCOLS)}"
            )
        return None
    if isinstance(name, str):
        if name not in PROTOCOLS:
            known = (OWN, *PROTOCOLS)
            raise UsageError(f"there is no protocol {name!r}; {suggest(name, known)}")
        name = PROTOCOLS[name](dataset_of(d))
    return name if epochs is None else replace(name, epochs=epochs)


def describe_training(d: DistilledDataset, protocol: Protocol | None) -> str:
    """The training of a set by a protocol, None for its own, in words."""
    if protocol is None:
        steps = d.schedule.steps
        return f"its own {steps} step{'s' if steps != 1 else ''}"
    said = str(protocol)
    if protocol.name in PROTOCOLS:
        published = PROTOCOLS[protocol.name](dataset_of(d))
        if protocol.epochs != published.epochs:
            said += f", where the protocol has {published.epochs}"
    if d.label_kind == "raw":
        said += ", with the squared error of its raw labels"
    return said


def dataset_of(d: DistilledDataset) -> str:
    """The published name of a set's data; "" for a folder and unknown data."""
    return "" if d.data.is_folder else d.data.dataset or ""
