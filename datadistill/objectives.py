"""Objectives: the outer loss of theta_T on real images and labels. A new one is a class and a line
in `OBJECTIVES`.

    Classification   the paper's l(x_t, theta_T): cross-entropy on the true labels (Algorithm 1,
                     line 7)
    Attack(K, T)     the paper's l_{K->T}(x_t, theta_T): class K is to be taken for class T, the
                     others for what they are (section 3.6)

Reference: Wang et al. 2018, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from datadistill.config.choices import from_description
from datadistill.data import Split
from datadistill.data.labels import class_numbers
from datadistill.errors import DataError, UsageError
from datadistill.innerloop.attributes import keep_attributes, put_attributes, take_attributes
from datadistill.innerloop.net_mode import NetMode
from datadistill.innerloop.problem import stacked_nets
from datadistill.nets.functional import call_with
from datadistill.nets.logits import cross_entropy, refuse_labels_beyond, refuse_no_logits
from datadistill.runs.signals import poll
from datadistill.streams import global_stream
from datadistill.theta import Theta, in_channels_last, unstack


class Objective(Protocol):
    """The outer loss, and the labels it asks for."""

    def __call__(
        self, net: nn.Module, theta: Theta, images: Tensor, labels: Tensor, norm: str = "batch"
    ) -> Float[Tensor, ""]:
        """The outer loss on real images and labels; the mean over nets where theta_T stacks
        several. theta_T may hold the buffers of the trained net too
        (`innerloop.unroll_with_buffers`)."""

    def labels(self, labels: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """The labels that are asked for, of the true ones."""

    def describe(self) -> dict[str, Any]:
        """Name and arguments, as plain values; `objective_from` is the inverse."""


def logits_of(
    net: nn.Module, theta: Theta, images: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b k"]:
    """Outputs of one net at `theta`."""
    poll()
    return call_with(net, in_channels_last(theta), (images,))


def add_buffers(net: nn.Module, theta: Theta, nets: int = 1) -> Theta:
    """theta with a copy of each buffer: its own where it has one, else the net's, so that a forward
    pass that writes buffers writes neither. Several nets have a leading axis."""
    own = {k: b if nets == 1 else b.expand(nets, *b.shape) for k, b in net.named_buffers()}
    return {**theta, **{k: theta.get(k, b).clone() for k, b in own.items()}}


def classification(
    net: nn.Module,
    theta: Theta,
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"],
    norm: str = "batch",
) -> Float[Tensor, ""]:
    """Cross-entropy of the trained net or nets on real images, a mean over images and nets.

    Dropout is off; BatchNorm uses what `norm` says ("batch": statistics of these images).
    """
    # one net after the other: grouped convolutions over a large batch are slower than a loop on CPU
    nets = stacked_nets(net, theta, buffers=True) or 1
    with keep_attributes(net), NetMode(net, norm, training=False):
        theta = add_buffers(net, theta, nets)
        attributes = take_attributes(net) if nets > 1 else []
        losses = []
        # each starts from the same attributes, and has images of its own
        for one in unstack(theta, nets):
            put_attributes(attributes)
            mine = images.clone() if nets > 1 else images
            losses.append(cross_entropy(logits_of(net, one, mine), labels))
    loss = torch.stack(losses).mean()
    if (
        any(p.requires_grad for p in theta.values())
        and torch.is_grad_enabled()
        and not loss.requires_grad
    ):
        raise UsageError(
            "the net's outputs in evaluation mode have no gradient (no_grad or set_grad_enabled in "
            "its forward pass), so nothing can be learned through it; take that out of the net"
        )
    return loss


@torch.no_grad()
def evaluation_logits(
    net: nn.Module, theta: Theta, images: Float[Tensor, "n c h w"], batch: int = 1000
) -> Iterator[Float[Tensor, "b k"]]:
    """Logits of one net in evaluation mode, batch after batch; its parameters and buffers are not
    changed."""
    with NetMode(net, "frozen", training=False):
        theta = add_buffers(net, theta)
        for n, x in enumerate(images.split(batch)):
            # for a net that is noisy here too
            with global_stream(0, "evaluation", n, everything=True):
                logits = logits_of(net, theta, x.clone())  # a first layer may work in place
            yield logits


@torch.no_grad()
def predictions(
    net: nn.Module, theta: Theta, target: Split, batch: int = 1000
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], int]:
    """Predictions of one net in evaluation mode and labels, int64 on the device of the images, and
    the number of classes. Labels are taken as `data.labels.class_numbers` takes them; `batch`
    images go at once."""
    images = len(target.images)
    if not images:
        raise DataError("there is no image to test on; pass some")
    found, classes = [], 0
    for logits, x in zip(
        evaluation_logits(net, theta, target.images, batch), target.images.split(batch), strict=True
    ):
        refuse_no_logits(logits, len(x), "evaluation")
        found.append(logits.argmax(1))
        classes = logits.shape[1]
    labels = class_numbers(target.labels, images, "the tested split")
    refuse_labels_beyond(labels, classes)
    return torch.cat(found), labels.to(target.images.device), classes


@dataclass(frozen=True)
class Classification:
    """Accuracy on the true labels: `classification`."""

    def labels(self, labels: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        return labels

    def describe(self) -> dict[str, Any]:
        return {"name": "classification"}

    def __call__(
        self, net: nn.Module, theta: Theta, images: Tensor, labels: Tensor, norm: str = "batch"
    ) -> Float[Tensor, ""]:
        return classification(net, theta, images, labels, norm)


@dataclass(frozen=True)
class Attack:
    """Data poisoning, to be studied: cross-entropy with class K, `attacked`, relabelled T,
    `target`, the other classes kept.

    Reference: Wang et al. 2018, section 3.6, equation 10 (one gradient step on random pretrained
    nets).

    Example:
        >>> Attack(0, 1, classes=3).labels(torch.tensor([0, 1, 2]))
        tensor([1, 1, 2])
    """

    attacked: int
    target: int
    classes: int

    def __post_init__(self) -> None:
        for what, k in (("attack_class", self.attacked), ("target_class", self.target)):
            if not 0 <= k < self.classes:
                raise UsageError(
                    f"{what} is {k}, but there are {self.classes} classes: give 0 to "
                    f"{self.classes - 1}"
                )
        if self.attacked == self.target:
            raise UsageError(
                f"attack_class and target_class are both {self.target}; the attacked class must "
                "differ from the one it is to be taken for"
            )

    def labels(self, labels: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        return torch.where(labels == self.attacked, self.target, labels)

    def describe(self) -> dict[str, Any]:
        return {"name": "attack", "attacked": self.attacked, "target": self.target}

    def __call__(
        self, net: nn.Module, theta: Theta, images: Tensor, labels: Tensor, norm: str = "batch"
    ) -> Float[Tensor, ""]:
        """The outer loss: `classification` on the modified labels."""
        return classification(net, theta, images, self.labels(labels), norm)


OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "classification": Classification,
    "attack": Attack,
}
"""Name -> class. Of a config it is given attacked, target and classes, where its constructor takes
them."""


def objective_from(description: Mapping[str, Any], classes: int) -> Objective:
    """The objective, for so many classes, that `describe` described.

    >>> objective_from({"name": "attack", "attacked": 0, "target": 1}, classes=3)
    Attack(attacked=0, target=1, classes=3)
    """
    return from_description(OBJECTIVES, "objective", description, classes=classes)
