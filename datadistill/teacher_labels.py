"""Soft labels of a set's images by nets that were trained on real ones.

    q(x) = 1/M sum_m softmax(z_m(x) / T)        z_m(x): (K,) logits of teacher m for the image x

Whatever learned the images, such labels say more of them than a class. Random real images gain as
well, so a set is judged beside real images with labels of the same teachers (`evaluate_across`
with `teachers`).

References: Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, 2015, section 2,
https://arxiv.org/abs/1503.02531; in place of the labels of distilled sets Cui et al., Scaling up
dataset distillation to ImageNet-1K with constant memory, 2023, section 3.4,
https://arxiv.org/abs/2211.10586; Qin, Deng and Alvarez-Melis, A label is worth a thousand images in
dataset distillation, 2024, https://arxiv.org/abs/2406.10485
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError, list_some
from datadistill.features import FeatureNormalization
from datadistill.nets.head import logits_of
from datadistill.nets.spec import CUSTOM
from datadistill.objectives import Classification
from datadistill.pool import Pool
from datadistill.theta import put
from datadistill.torch_defaults import use_library_defaults

__all__ = ["TEMPERATURE", "agreement", "relabel"]

TEMPERATURE = 4.0
Teachers = nn.Module | Sequence[nn.Module] | Pool


@torch.no_grad()
@use_library_defaults()
def relabel(
    d: DistilledDataset, teachers: Teachers, *, temperature: float = TEMPERATURE
) -> DistilledDataset:
    """A copy of a set with soft labels of teachers in the place of its own.

    Args:
        d: a set of images, with the classes and the normalization that the teachers know.
        teachers: all nets of a pool after their last epoch; or one module or several, which take
            normalized images and return logits, and are called in evaluation mode.
        temperature: T above 0; the higher, the more alike the classes.

    Returns:
        The set with labels (N, K), probabilities; its accuracies were those of other labels, and
        its origin says who the teachers were.

    Raises:
        UsageError: no teacher, a temperature that is not above 0, a set of features, of raw labels
            or that attacks, or a pool of modules that only their owner can build.
        DataError: a pool of other classes or another normalization, or logits of another shape.

    Example:
        >>> import datadistill as dd
        >>> data = dd.load("digits")
        >>> images, labels = data.train.images[:10], data.train.labels[:10]
        >>> net = dd.NetSpec("mlp", {"channels": 1, "size": 8, "classes": 10})
        >>> d = DistilledDataset(
        ...     images,
        ...     labels,
        ...     torch.tensor([0.1]),
        ...     [torch.arange(10)],
        ...     classes=data.classes,
        ...     normalization=data.normalization,
        ...     net=net,
        ...     update=dd.sgd(),
        ... )
        >>> teacher = dd.fit(net.build(), data.train, dd.FitPlan(epochs=5))
        >>> relabel(d, teacher).labels.shape
        torch.Size([10, 10])
    """
    if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
        raise UsageError(f"temperature is {temperature!r}, wanted a number above 0, such as 4")
    if isinstance(d.normalization, FeatureNormalization):
        raise UsageError("the set is one of features, which no teacher takes; leave its labels")
    if d.loss != "cross-entropy":
        raise UsageError(
            f"the set trains by the loss {d.loss}, and labels of teachers go with cross-entropy; "
            "relabel a set that was learned with --labels hard or soft"
        )
    if not isinstance(d.objective, Classification):
        raise UsageError("the set attacks nets, and its labels serve that; leave them")
    found = [
        (_logits(d, net, number).double() / temperature).softmax(1)
        for number, net in enumerate(_nets_of(d, teachers))
    ]
    if not found:
        raise UsageError("there is no teacher; pass a trained net, or a pool of some")
    named = {"teachers": len(found), "temperature": float(temperature), **_record(teachers)}
    return d.with_labels(torch.stack(found).mean(0).to(d.images.dtype), labels_of=named)


def agreement(d: DistilledDataset, other: DistilledDataset) -> float:
    """Percent of the images whose likeliest class is the same by the labels of two sets."""
    first, second = (
        one.labels.argmax(1) if one.labels.is_floating_point() else one.labels for one in (d, other)
    )
    return 100.0 * float((first == second).float().mean())


def _logits(d: DistilledDataset, net: nn.Module, number: int) -> Float[Tensor, "n k"]:
    device = next((p.device for p in net.parameters()), d.images.device)
    found, wanted = logits_of(net, d.images.to(device)), (len(d.images), len(d.classes))
    if found.shape != wanted:
        raise DataError(
            f"teacher {number} returns {tuple(found.shape)}, wanted {wanted}: a logit for each "
            "image and class of the set"
        )
    if not bool(torch.isfinite(found).all()):
        raise DataError(f"teacher {number} returns logits that are not finite; pass another")
    return found.to(d.images.device)


def _nets_of(d: DistilledDataset, teachers: Teachers) -> Iterator[nn.Module]:
    if isinstance(teachers, nn.Module):
        yield teachers
        return
    if not isinstance(teachers, Pool):
        yield from teachers
        return
    if teachers.net.name == CUSTOM:
        raise UsageError(
            "the pool holds modules of your own, which only you can build; pass the modules"
        )
    if tuple(teachers.classes) != d.classes:
        raise DataError(
            f"the pool's nets know the classes {list_some(teachers.classes)}, the set has "
            f"{list_some(d.classes)}; pass a pool of the same classes"
        )
    if teachers.normalization != d.normalization:
        raise DataError(
            "the pool's nets take images of another normalization than the set has "
            f"({teachers.normalization} and {d.normalization}); pass a pool that was trained with "
            "--normalization SET_FILE"
        )
    for number in range(teachers.total):
        tensors = {name: p[number] for name, p in teachers.last.items()}
        yield put(teachers.net.build(), tensors)


def _record(teachers: Teachers) -> dict[str, Any]:
    if not isinstance(teachers, Pool):
        return {}
    return {
        "net": teachers.net.name,
        "net_args": dict(teachers.net.args),
        "dataset": teachers.dataset,
        "pool": teachers.fingerprint,
    }
