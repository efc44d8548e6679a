"""Bytes of images and of one kind of knowledge about them, as the ledger counts.

    images      8-bit codes, their range, and labels: `ledger.Payload` of storage uint8
    knowledge   nothing for labels alone; else what takes fewer bytes: the teacher's outputs for
                these images, which the method reads, as float32 numbers, or its weights

The numbers of one image that a term reads are its K logits, the attention maps of its layers, or
the rows of its Jacobian, one of C x H x W numbers for the output "label" or "top" (and the logits
where the output or the form is chosen by them).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datadistill.data import RealData, Split
from kd_baselines.config import KdConfig
from kd_baselines.ledger.payload import Payload
from kd_baselines.losses import JacobianMatching
from kd_baselines.losses.term import Needs, Objective, Term
from kd_baselines.netfile import SavedNet
from kd_baselines.student_setup import make_stages

__all__ = ["Bytes", "count_bytes", "count_outputs"]

STORAGE = "uint8"
NUMBER = 4
"""Bytes of one of the teacher's numbers, float32."""


@dataclass(frozen=True)
class Bytes:
    """The bytes that a student takes.

    Args:
        parts: of the images: part -> bytes.
        outputs: of the teacher's stored numbers; None where they cannot be stored, and 0 for labels
            alone.
        teacher: of its weights; 0 for labels alone.
    """

    parts: Mapping[str, int]
    outputs: int | None = 0
    teacher: int = 0

    @property
    def carrier(self) -> str:
        """What carries the knowledge: "labels", "outputs" or "teacher"."""
        if not self.teacher:
            return "labels"
        return "teacher" if self.outputs is None or self.teacher < self.outputs else "outputs"

    @property
    def total(self) -> int:
        """Images, labels, and the smaller of outputs and teacher."""
        knowledge = self.teacher if self.outputs is None else min(self.outputs, self.teacher)
        return sum(self.parts.values()) + knowledge


def count_bytes(config: KdConfig, split: Split, real: RealData, teacher: SavedNet | None) -> Bytes:
    """The bytes of the images that a config's student sees and of what its method reads of the
    teacher; None where it has no teacher."""
    names: dict[str, Any] = {"classes": real.classes, "normalization": real.normalization}
    images = Payload.of_images(split.images, split.labels, storage=STORAGE, **names)
    if teacher is None:
        return Bytes(images.parts)
    weights = sum(
        Payload.of_net(state, teacher.spec, storage="float32", **names).bytes
        for state in teacher.states
    )
    numbers = count_outputs(config, split.images[:1], teacher)
    outputs = None if numbers is None else NUMBER * numbers * len(split)
    return Bytes(images.parts, outputs, weights)


@torch.no_grad()
def count_outputs(config: KdConfig, image: Tensor, teacher: SavedNet) -> int | None:
    """The numbers of one image, (1,C,H,W), that the method of a config reads of its teacher; None
    where it asks the teacher about other images (noisy ones)."""
    terms: list[Term] = []
    for stage in make_stages(config):
        found: Objective | Term = stage.objective
        terms += [found] if isinstance(found, Term) else list(found.terms)  # type: ignore[arg-type]
    jacobians = [term for term in terms if isinstance(term, JacobianMatching)]
    others = [term.needs for term in terms if not isinstance(term, JacobianMatching)]
    needs = Needs()
    for one in others:
        needs |= one
    if needs.teacher or needs.teacher_input_gradients:
        return None
    layers = sorted(needs.teacher_features, key=str)
    asked = teacher.to_teacher().to(image.device).outputs(image, layers)
    assert asked.logits is not None
    classes = asked.logits.shape[1]
    rows = max((1 if j.output in ("label", "top") else classes for j in jacobians), default=0)
    weighed = any(j.form == "cross-entropy" or j.output == "top" for j in jacobians)
    logits = classes if needs.teacher_logits or weighed else 0
    features = sum(math.prod(found.shape) for found in asked.features.values())
    return logits + features + rows * image.numel()
