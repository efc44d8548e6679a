"""Teachers whose answer for an image depends on the other images of its batch: none can be kept by
image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from datadistill.errors import UsageError
from kd_baselines.teachers import Teacher

__all__ = ["DependsOnBatch", "refuse_batch_dependence", "refuse_other_answer"]


class DependsOnBatch(UsageError):
    """A teacher's answer for an image is another one among other images."""


def refuse_batch_dependence(teacher: Teacher) -> None:
    """Refuse a teacher in the mode "batch_stats", or with a BatchNorm layer without running
    statistics."""
    if teacher.mode != "eval":
        raise DependsOnBatch(
            f"the teacher's mode is {teacher.mode}, in which an answer depends on the whole batch, "
            "so none can be kept by image; take the mode eval, or use the teacher "
            "itself (cache=False)"
        )
    for net in teacher.nets:
        for name, module in net.named_modules():
            if isinstance(module, _BatchNorm) and module.running_mean is None:
                raise DependsOnBatch(
                    f"layer {name!r} of the teacher has no running statistics, so an answer "
                    "depends on the whole batch and none can be kept by image; use the teacher "
                    "itself (cache=False)"
                )


def refuse_other_answer(what: str, alone: Tensor, among: Tensor) -> None:
    """Refuse an answer for an image alone that is not the one for the same image among others.

    Sums in another order differ by a few eps of the largest summand, layer after layer; the answers
    of a net that mixes images by far more. The limit between them is sqrt(eps) of the largest
    number of the answer, eps the distance from 1 to the next number: 3e-4 in float32.
    """
    eps = torch.finfo(alone.dtype).eps
    if alone.is_cuda and alone.dtype == torch.float32:
        eps = 2.0**-10  # products of 10 bits, where TF32 is on
    found, wanted = alone.double(), among.double()
    away = float((found - wanted).abs().max()) if found.numel() else 0.0
    if away > eps**0.5 * float(wanted.abs().max()):
        raise DependsOnBatch(
            f"the teacher's {what} of an image alone are up to {away:.2g} from those of the same "
            "image among others: it mixes the images of a batch, or draws random numbers, so none "
            "can be kept by image; use the teacher itself (cache=False)"
        )
