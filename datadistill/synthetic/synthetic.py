"""A synthetic set while it is learned: the leaves of the outer optimizer.

Learned labels are softmax(logits), or the numbers themselves (`LABELS`), step sizes softplus(rho)
(innerloop/step_sizes.py). Sets know no config.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from datadistill.errors import UsageError
from datadistill.innerloop import step_sizes
from datadistill.innerloop.steps import Pair, Steps, as_steps
from datadistill.synthetic.decoders import Decoder
from datadistill.synthetic.schedule import Schedule

__all__ = ["LABELS", "SOFT_START", "Synthetic", "raw_labels", "soft_logits"]

SOFT_START = 0.9
"""Probability of an image's class at which soft labels start."""


def soft_logits(classes: Int[Tensor, " n"], k: int, p: float = SOFT_START) -> Float[Tensor, "n k"]:
    """Logits whose softmax is p on the class, and the same elsewhere."""
    # softmax gives p on the class and (1 - p) / (k - 1) elsewhere for a logit of log(p (k - 1) / (1
    # - p))
    height = math.log(p * (k - 1) / (1 - p))
    return torch.nn.functional.one_hot(classes, k).float() * height


def raw_labels(classes: Int[Tensor, " n"], k: int) -> Float[Tensor, "n k"]:
    """One-hot rows less their mean, 1/k: what a squared error starts from.

    >>> raw_labels(torch.tensor([1]), 4)
    tensor([[-0.2500,  0.7500, -0.2500, -0.2500]])
    """
    return torch.nn.functional.one_hot(classes, k).float() - 1 / k


class LearnedLabels(NamedTuple):
    """Learned labels: the numbers (N, K) that they start from, of classes (N,) and K; the labels
    that numbers stand for; and numbers that stand for labels."""

    start: Callable[[Tensor, int], Tensor]
    labels: Callable[[Tensor], Tensor]
    numbers: Callable[[Tensor], Tensor]


LABELS = {
    "soft": LearnedLabels(
        soft_logits,
        lambda logits: logits.softmax(1),
        # log 0 is no logit that could be learned
        lambda labels: labels.clamp_min(torch.finfo(labels.dtype).tiny).log(),
    ),
    "raw": LearnedLabels(raw_labels, lambda numbers: numbers, lambda labels: labels),
}


class Synthetic:
    """Images, labels and step sizes that are learned.

    Args:
        decoder: makes the images.
        tensors: what it makes them of, from its `init`; each becomes a leaf.
        classes: (N,) class of each image, int64.
        logits: (N, K) of learned labels; None keeps the classes as labels.
        labels: what learned labels are: "soft", the softmax of logits, or "raw", these numbers.
        schedule: which images each step trains on.
        rho: free parameter of the step sizes, from `step_sizes.init`.
        older: the number of first images that were learned before (boosting). With some, every
            tensor of the decoder has a row an image.
        older_rate: what the learning rates of these images and their labels are multiplied by; at 0
            they stay.

    Example:
        >>> from datadistill.synthetic import Pixels
        >>> images = {"images": torch.zeros(4, 1, 8, 8)}
        >>> rho = step_sizes.init("per-step", 0.02, steps=2, tensors=1)
        >>> s = Synthetic(
        ...     Pixels(), images, torch.tensor([0, 1, 0, 1]), None, Schedule.equal(4, 2), rho
        ... )
        >>> [s.steps()(t)[0].shape[0] for t in range(2)], s.step_sizes().shape, list(s.groups())
        ([2, 2], torch.Size([2]), ['images', 'step_sizes'])
    """

    def __init__(
        self,
        decoder: Decoder,
        tensors: dict[str, Tensor],
        classes: Int[Tensor, " n"],
        logits: Float[Tensor, "n k"] | None,
        schedule: Schedule,
        rho: Tensor,
        labels: str = "soft",
        older: int = 0,
        older_rate: float = 0.0,
    ) -> None:
        for name, x in tensors.items():
            if name in ("labels", "step_sizes") or "." in name or not x.is_floating_point():
                raise UsageError(
                    f"the decoder {decoder.describe()} learns {name!r}, {x.dtype}; give it floats "
                    'by names without a dot, other than "labels" and "step_sizes"'
                )
        self.decoder, self.classes, self.schedule = decoder, classes, schedule
        self.tensors = {name: x.requires_grad_() for name, x in tensors.items()}
        self.logits = None if logits is None else logits.requires_grad_()
        self.to_labels = LABELS[labels].labels
        self.rho = rho.requires_grad_()
        self.older, self.older_rate = older, older_rate

    def leaves(self) -> dict[str, Tensor]:
        """Name -> leaf, in a fixed order: the decoder's tensors, "labels" (logits), "step_sizes"
        (rho)."""
        labels = {} if self.logits is None else {"labels": self.logits}
        return {**self.tensors, **labels, "step_sizes": self.rho}

    def groups(self) -> dict[str, list[Tensor]]:
        """The leaves by what they make: "images", "labels", "step_sizes", each with a learning
        rate."""
        labels = {} if self.logits is None else {"labels": [self.logits]}
        return {"images": list(self.tensors.values()), **labels, "step_sizes": [self.rho]}

    def older_rows(self) -> dict[str, Tensor]:
        """Name of a leaf -> its rows of the older images and labels, views without a graph; empty
        where there are none."""
        rows = {k: x.detach()[: self.older] for k, x in self.leaves().items() if k != "step_sizes"}
        return rows if self.older else {}

    def images(self, index: Int[Tensor, " b"] | None = None) -> Float[Tensor, "b c h w"]:
        """Decoded images, differentiable; all of them, or some."""
        if index is None:
            index = torch.arange(len(self.classes), device=self.classes.device)
        return self.decoder.images(self.tensors, index)

    def labels(self) -> Tensor:
        """(N,) integers or (N, K) numbers, differentiable."""
        return self.classes if self.logits is None else self.to_labels(self.logits)

    def steps(self, T: int | None = None, stream: int = 0) -> Steps:
        """The first T steps, differentiable; default: all of the schedule. `stream` seeds random
        minibatches and augmentation."""
        T = self.schedule.steps if T is None else T
        if not self.schedule.is_random:
            labels = self.labels()
            batches = [index.to(labels.device) for index in self.schedule.batches]
            # steps of several epochs on the same images share one pair
            pairs = [(self.images(index), labels[index]) for index in batches]
            return as_steps([pairs[t % len(pairs)] for t in range(T)])
        learned = {"labels": self.classes if self.logits is None else self.logits}
        return Steps({**self.tensors, **learned}, partial(self._pair, stream), T)

    def _pair(self, stream: int, tensors: Mapping[str, Tensor], t: int) -> Pair:
        labels = tensors["labels"]
        if self.logits is not None:
            labels = self.to_labels(labels)
        return self.schedule.pair(partial(self.decoder.images, tensors), labels, t, stream)

    def step_sizes(self, T: int | None = None) -> Float[Tensor, " T *P"]:
        """(T,) or (T, P) of the first T steps, differentiable and positive; more steps than the
        schedule has for a shared one alone."""
        T = self.schedule.steps if T is None else T
        eta = step_sizes.expand(self.rho, T)[:T]
        if len(eta) != T:
            raise UsageError(
                f"there are {len(eta)} step sizes for {T} steps; choose --step-sizes shared, or "
                "more epochs"
            )
        # softplus underflows to 0 for rho < -103: a step size stays above 0
        return eta.clamp_min(torch.finfo(eta.dtype).tiny)

    def of_class(self, k: int) -> Pair:
        """Images and labels of class k, differentiable."""
        index = (self.classes == k).nonzero().flatten()
        return self.images(index), self.labels()[index]

    @torch.no_grad()
    def set(self, tensors: dict[str, Tensor]) -> None:
        """Write values into the leaves, by name."""
        for name, leaf in self.leaves().items():
            leaf.copy_(tensors[name])
