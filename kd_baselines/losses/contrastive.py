"""Contrastive representation distillation (CRD): of all images, the student's vector of an image
goes best with the teacher's vector of the same image.

Notation: M images of the split, of which each has N negatives, images of other classes; heads g,
linear layers of their own for each net, whose outputs are divided by their norm; s and t the unit
vectors of one image in student and teacher; temperature tau. The critic

    h(s, t) = e^(s t / tau) / (e^(s t / tau) + c)          c = N / M in the paper

says how likely s and t are of the same image. Every image has a row in two banks, of both nets'
vectors, with which the other net's vectors are compared; after each step the rows of its images
become momentum * row + (1 - momentum) * vector, divided by its norm.

Reference: Tian et al., Contrastive Representation Distillation, ICLR 2020,
https://arxiv.org/abs/1910.10699
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from datadistill.errors import UsageError
from kd_baselines.losses.checks import (
    at_least_float32,
    check_draws,
    check_layers,
    check_temperature,
    flat_rows,
)
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["CRD", "crd_loss"]


def crd_loss(
    positive: Float[Tensor, " b"],
    negative: Float[Tensor, "b n"],
    noise: float | Float[Tensor, ""],
    temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """-log h(s, t) - sum_n log(1 - h(s, t_n)), mean over the batch (Tian et al. 2020).

    It is one of two sides: the student's vectors with the teacher's, or the other way round.

    Args:
        positive: s t, (B,), of vectors of the same image.
        negative: s t_n, (B,N), with N vectors of other images.
        noise: c, above 0; no gradient flows to it.
        temperature: tau, above 0.

    Example:
        >>> crd_loss(torch.zeros(1), torch.zeros(1, 3), noise=1.0)  # 4 log 2
        tensor(2.7726)
    """
    check_temperature(temperature)
    if positive.dim() != 1 or negative.dim() != 2 or len(positive) != len(negative):
        raise UsageError(
            f"the products are {tuple(positive.shape)} and {tuple(negative.shape)}; pass (B,) of "
            "the same images and (B,N) of others"
        )
    c = torch.as_tensor(noise, dtype=at_least_float32(positive).dtype, device=positive.device)
    if c.dim() or not 0 < float(c) < math.inf:
        raise UsageError(f"noise is {noise}; give one finite number above 0, such as N / M")
    log_c = c.detach().log()
    # log h = log sigmoid(x - log c) and log(1 - h) = log sigmoid(log c - x), which do not overflow
    alike = F.logsigmoid(at_least_float32(positive) / temperature - log_c)
    apart = F.logsigmoid(log_c - at_least_float32(negative) / temperature)
    return -(alike + apart.sum(1)).mean()


class CRD(Term):
    """`crd_loss` of both sides added up, of one layer of each net, the student's -> the teacher's.

    Heads and banks are the term's own: heads are trained with the student, banks are buffers, so
    that a resumed run has them. Negatives are drawn with replacement in each step, evenly from the
    images of other classes. The batch must come with its images' places in the split, as the
    plain loop's does, and `Distiller` with the whole split as its sample.

    With `normalize`, as in the authors' code, c is N times the mean of e^(s t / tau) over the first
    batch, so that a positive and N negatives start in balance; the usual weight 0.8 belongs to that
    form. Without it c is the paper's N / M, of which the loss starts orders of magnitude larger.
    (The code has tau = 0.07, the paper 0.1 on CIFAR-100.)

    Args:
        layers: one pair of layers, such as the inputs of both nets' last layers.
        negatives: N, at least 1.
        temperature: tau, above 0.
        momentum: of the banks, at least 0 and below 1.
        dimension: of the heads' outputs, at least 1.
        normalize: see above.
    """

    def __init__(
        self,
        layers: Mapping[str, str],
        negatives: int = 16384,
        temperature: float = 0.1,
        momentum: float = 0.5,
        dimension: int = 128,
        weight: Weight = 1.0,
        normalize: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, name)
        self.layers = check_layers(layers)
        if len(self.layers) != 1:
            raise UsageError(
                f"CRD compares one layer of each net, and there are {len(self.layers)} pairs; give "
                "one pair, or add a CRD for each"
            )
        check_draws("negatives", negatives)
        check_draws("dimension", dimension)
        check_temperature(temperature)
        if not 0 <= momentum < 1:
            raise UsageError(f"momentum is {momentum}; give a number from 0 to below 1")
        self.negatives, self.temperature, self.momentum = negatives, temperature, momentum
        self.dimension, self.normalize = dimension, normalize
        self.heads = nn.ModuleList()
        self.needs = Needs.layers(self.layers)

    def prepare(self, seen: Seen) -> None:
        labels = seen.split_labels
        if labels is None:
            raise UsageError(
                "CRD keeps a row for every image of the split, which is not known; pass the whole "
                "split as the sample: Distiller(student, objective, teacher, sample=split)"
            )
        if labels.dim() != 1 or labels.is_floating_point():
            raise UsageError(
                f"labels are {tuple(labels.shape)} {labels.dtype}, and CRD draws images of other "
                "classes; pass one class number an image"
            )
        if int(labels.min()) == int(labels.max()):
            raise UsageError("all images are of one class, so there are no images of other classes")
        rows = flat_rows(*self._outputs(seen))
        self.heads = nn.ModuleList(
            nn.Linear(side.shape[1], self.dimension).to(side.device, at_least_float32(side).dtype)
            for side in rows
        )
        like = rows[0].new_empty(0, dtype=at_least_float32(rows[0]).dtype)
        for side in ("student", "teacher"):
            # of norm 1 in the mean
            bank = like.new_empty(len(labels), self.dimension)
            bank = bank.uniform_(-1, 1) * math.sqrt(3 / self.dimension)
            self.register_buffer(f"{side}_bank", bank)
            self.register_buffer(f"{side}_mean", like.new_zeros(()))  # 0: not measured yet
        # images by class, and where in that order those of each image's class begin and end
        ordered, by_class = labels.sort(stable=True)
        self.register_buffer("by_class", by_class)
        self.register_buffer("first", torch.searchsorted(ordered, labels))
        self.register_buffer("last", torch.searchsorted(ordered, labels, right=True))

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        index = self._index(seen)
        rows = flat_rows(*self._outputs(seen))
        s, t = (
            F.normalize(head(at_least_float32(side)))
            for head, side in zip(self.heads, rows, strict=True)
        )
        others = self._draw(index, seen.generator("crd_negatives"))
        loss = self._side("student", s, "teacher", index, others)
        loss = loss + self._side("teacher", t, "student", index, others)
        if self.training:
            self._write("student", s, index)
            self._write("teacher", t, index)
        return loss

    def _outputs(self, seen: Seen) -> tuple[Tensor, Tensor]:
        (ours,), (theirs,) = seen.features_of(self.layers)
        return ours, theirs.detach()

    def _index(self, seen: Seen) -> Int[Tensor, " b"]:
        if not self.heads:
            raise UsageError(
                "CRD's heads are not made yet; call prepare(seen) once before training"
            )
        if seen.index is None:
            raise UsageError(
                "the places of the images in the split are not given, which name CRD's rows; pass "
                "batches (images, labels, places)"
            )
        images = len(self.get_buffer("by_class"))
        low, high = (int(end) for end in seen.index.aminmax())
        if low < 0 or high >= images:
            raise UsageError(
                f"the places of the images go from {low} to {high}, and CRD was made for a split "
                f"of {images} (0..{images - 1}); pass that split as the Distiller's sample"
            )
        return seen.index

    def _draw(self, index: Int[Tensor, " b"], generator: torch.Generator) -> Int[Tensor, "b n"]:
        """Places of images of other classes, drawn evenly, with replacement."""
        first, last = self.get_buffer("first")[index], self.get_buffer("last")[index]
        by_class = self.get_buffer("by_class")
        others = (len(by_class) - (last - first)).unsqueeze(1)
        shape = (len(index), self.negatives)
        # below 2^62, so that the remainders are even to 1e-12
        drawn = torch.randint(1 << 62, shape, generator=generator, device=index.device) % others
        drawn = torch.where(drawn < first.unsqueeze(1), drawn, drawn + (last - first).unsqueeze(1))
        return by_class[drawn]

    def _side(
        self,
        side: str,
        vectors: Float[Tensor, "b d"],
        other: str,
        index: Int[Tensor, " b"],
        others: Int[Tensor, "b n"],
    ) -> Float[Tensor, ""]:
        """The loss of one net's vectors with the other's bank."""
        # a copy: the backward pass wants the rows as they are now, before the step writes them
        products = vectors @ self.get_buffer(f"{other}_bank").clone().T
        positive = products.gather(1, index.unsqueeze(1)).squeeze(1)
        negative = products.gather(1, others)
        noise: Tensor | float = self.negatives / products.shape[1]
        if self.normalize:
            mean = self.get_buffer(f"{side}_mean")
            if not bool(mean):
                both = torch.cat([positive.unsqueeze(1), negative], 1).detach()
                mean = (both / self.temperature).exp().mean()
                if self.training:
                    self.get_buffer(f"{side}_mean").copy_(mean)
            noise = self.negatives * mean
        return crd_loss(positive, negative, noise, self.temperature)

    @torch.no_grad()
    def _write(self, side: str, vectors: Float[Tensor, "b d"], index: Int[Tensor, " b"]) -> None:
        bank = self.get_buffer(f"{side}_bank")
        mixed = self.momentum * bank[index] + (1 - self.momentum) * vectors
        bank[index] = F.normalize(mixed)
