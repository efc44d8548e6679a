"""Parts of a distilled set with fewer images of each class: image j of K classes is of class j % K,
so that the first ipc * K images are the first ipc of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from datadistill.distilled_checks import check_set
from datadistill.errors import UsageError

if TYPE_CHECKING:
    from datadistill.distilled import DistilledDataset


def images_per_class(d: DistilledDataset) -> int:
    """The images of each class of a set whose image j is of class j % K.

    Raises:
        UsageError: images in another order. Of learned labels, the mean over the images of a class
            must be largest for that class.
    """
    k, n = len(d.classes), len(d.images)
    wanted = torch.arange(k, device=d.labels.device)
    if n % k:
        raise UsageError(
            f"the set has {n} images for {k} classes, wanted as many of each class in turn "
            "(image j of class j % K), as sets are learned here"
        )
    if d.labels.is_floating_point():
        in_order = torch.equal(d.labels.view(n // k, k, k).mean(0).argmax(1), wanted)
    else:
        in_order = bool((d.labels.view(n // k, k) == wanted).all())
    if not in_order:
        raise UsageError(
            f"the labels of the set do not run through its {k} classes again and again (image j of "
            "class j % K), so the first images are not those of every class; take a set that was "
            "learned here, without an attack"
        )
    return n // k


def take_prefix(d: DistilledDataset, ipc: int) -> DistilledDataset:
    """See `DistilledDataset.prefix`."""
    most = images_per_class(d)
    if type(ipc) is not int or not 1 <= ipc <= most:
        raise UsageError(f"the set has {most} images of each class, and ipc is {ipc}; choose fewer")
    if d.decoder is not None:
        raise UsageError(
            f"the images are made by the decoder {d.decoder.describe()['name']}, whose tensors are "
            "not cut; a prefix is of a set of pixels"
        )
    n = ipc * len(d.classes)
    schedule, steps = d.schedule.first(n)
    if d.schedule.minibatch is not None and not bool((d.step_sizes == d.step_sizes[0]).all()):
        raise UsageError(
            "the set has step sizes of their own for the steps of random minibatches, and fewer "
            "images have other steps; a prefix needs one for all (--step-sizes shared)"
        )
    found = d._replace(
        images=d.images[:n],
        labels=d.labels[:n],
        schedule=schedule,
        step_sizes=d.step_sizes[steps],
        accuracies={},  # they were those of all images
    )
    check_set(found)
    return found
