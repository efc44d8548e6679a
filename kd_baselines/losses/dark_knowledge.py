"""Dark knowledge with permuted predictions: does it matter which wrong class is how likely?

Notation: logits z of the student and v of the teacher, (B,K); p = softmax(v); phi_s permutes all
entries of a row but the largest, another permutation for each sample (one for all would only rename
classes).

Whether the paper draws phi_s once or again and again is not told, and differs [derived]. Redrawn,
the expected target is max p at the argmax and (1 - max p) / (K-1) at every other class: label
smoothing by the teacher's confidence. Kept, each image has a ranking of its own, wrong and the same
in every epoch, that can be learned by heart.

Reference: Furlanello et al., Born-Again Neural Networks, ICML 2018,
https://arxiv.org/abs/1805.04770
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from datadistill.errors import UsageError
from datadistill.streams import generator as stream
from kd_baselines.losses.checks import (
    at_least_float32,
    check_generator,
    check_softmax,
    check_teacher_softmax,
)
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["DKPP", "dkpp_targets"]

CHUNK = 1024
"""Images whose fixed permutations are drawn from one stream."""


def dkpp_targets(
    teacher_logits: Float[Tensor, "b k"],
    generator: torch.Generator | None = None,
    *,
    keys: Shaped[Tensor, "b k-1"] | None = None,
) -> Float[Tensor, "b k"]:
    """phi_s(p_s): the largest probability of each row in its place, the others permuted.

    Furlanello et al. 2018, eq. 11. The numbers of a row stay the same to the bit; only their places
    change. The entry that keeps its place is the argmax of v (the first, where several are equal;
    an equal probability may then move before it).

    Args:
        teacher_logits: v, (B,K), K at least 2, of which 2 leave nothing to permute.
        generator: draws the permutations, on the logits' device; None: torch's global one.
        keys: (B,K-1), instead of a draw: of each row's other probabilities, in the order of the
            classes, the one with the smallest key goes to the first of the other places, and so on.

    Returns:
        (B,K), probabilities without gradient.

    Example:
        >>> v = torch.tensor([[0.1, 0.6, 0.2, 0.1]]).log()
        >>> # of 0.1, 0.2, 0.1 the second comes first
        >>> dkpp_targets(v, keys=torch.tensor([[2, 1, 3]]))
        tensor([[0.2000, 0.6000, 0.1000, 0.1000]])
    """
    if teacher_logits.dim() == 2 and teacher_logits.shape[1] == 1:
        raise UsageError(
            "the teacher has 1 class, so no other probability to permute; give at least 2 classes"
        )
    check_teacher_softmax(teacher_logits)
    v = at_least_float32(teacher_logits.detach())
    b, k = v.shape
    if keys is None:
        check_generator(generator, v)
        # float64, in which two of a row are never equal: every order is as likely as any other
        keys = torch.rand(b, k - 1, generator=generator, device=v.device, dtype=torch.float64)
    elif generator is not None:
        raise UsageError(
            "a generator and keys are given, which both decide the permutations; give one of them"
        )
    elif keys.shape != (b, k - 1):
        raise UsageError(f"keys are {tuple(keys.shape)} for logits {(b, k)}; give {(b, k - 1)}")
    top = v.argmax(1, keepdim=True)
    others = torch.arange(k - 1, device=v.device).expand(b, k - 1)
    others = others + (others >= top)
    order = torch.argsort(keys.to(v.device), dim=1, stable=True)
    source = (
        torch.arange(k, device=v.device).repeat(b, 1).scatter(1, others, others.gather(1, order))
    )
    return F.softmax(v, dim=1).gather(1, source)  # moved, never computed with


class DKPP(Term):
    """H(`dkpp_targets`, softmax(z)), mean over the batch.

    With `redraw` an image gets another permutation in each epoch, from the step's stream "dkpp".
    Without, each image of the split keeps one: a function of its sample id and of a seed, which is
    a buffer of this module. Then 2 (K-1) bytes an image are kept (4 from 32769 classes on), and a
    step needs the sample ids: train by `fit` or `train`, or pass (images, labels, places) to
    `Distiller.step`.
    """

    needs = Needs.both_logits()
    seed: Tensor

    def __init__(self, redraw: bool = True, weight: Weight = 1.0, name: str | None = None) -> None:
        super().__init__(weight, name)
        self.redraw = redraw
        self._shown: Seen | None = None  # what `prepare` was shown, until the first forward
        # (seed, K), keys of the first images
        self._kept: tuple[tuple[int, int], Tensor] | None = None
        if not redraw:
            self.register_buffer("seed", torch.zeros((), dtype=torch.int64))

    def prepare(self, seen: Seen) -> None:
        if not self.redraw:
            self.seed = torch.randint(2**62, (), device="cpu")
            self._shown, self._kept = seen, None

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        z, v = seen.require("student_logits"), seen.soften_teacher(1.0)
        check_softmax(z, v)
        z, v = at_least_float32(z), at_least_float32(v)
        if self.redraw:
            return F.cross_entropy(z, dkpp_targets(v, seen.generator("dkpp")))
        return F.cross_entropy(
            z, dkpp_targets(v, keys=self._keys(self._rank_places(seen, len(v)), v.shape[1]))
        )

    def _rank_places(self, seen: Seen, b: int) -> Int[Tensor, " b"]:
        shown, self._shown = self._shown, None
        if seen.index is None:
            if seen is shown:  # the trial right after `prepare`: any images, any places
                return torch.arange(b)
            raise UsageError(
                f"{self.name} keeps a permutation for each image, but the places of the images in "
                "the split are not given; pass (images, labels, places) to Distiller.step, or "
                "take redraw=True"
            )
        index = seen.index.cpu()
        if index.shape != (b,) or index.is_floating_point() or int(index.min()) < 0:
            found = f"{tuple(index.shape)} {index.dtype}"
            raise UsageError(f"the places are {found} for {b} images; pass int64 ({b},), 0 or more")
        return index

    def _keys(self, index: Int[Tensor, " b"], k: int) -> Int[Tensor, "b k-1"]:
        """Of these images: row i % CHUNK of the stream ("dkpp", i // CHUNK)."""
        seed = int(self.seed)
        if self._kept is None or self._kept[0] != (seed, k):
            self._kept = (
                (seed, k),
                torch.empty(0, k - 1, dtype=torch.int16 if k <= 2**15 else torch.int32),
            )
        table = self._kept[1]
        if (last := int(index.max())) >= len(table):
            new = range(len(table) // CHUNK, last // CHUNK + 1)
            drawn = [_permutations(seed, chunk, k - 1).to(table.dtype) for chunk in new]
            table = torch.cat([table, *drawn])
            self._kept = ((seed, k), table)
        return table[index]


def _permutations(seed: int, chunk: int, n: int) -> Int[Tensor, "chunk n"]:
    """On the CPU, so that they are the same wherever the images are."""
    draw = stream(seed, "dkpp", chunk)
    return torch.rand(CHUNK, n, generator=draw, dtype=torch.float64).argsort(dim=1, stable=True)
