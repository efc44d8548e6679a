"""Images and labels of users as a `Split`, for `fit`, `score` and a cached teacher."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from datadistill.data import RealData, Split
from datadistill.data.user_split import float_images, split_of
from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError

__all__ = ["as_split", "check_real_data", "float_images", "labels_of", "refuse_distilled"]


def as_split(data: Any, what: str = "the data") -> Split:
    """The images and labels of anything that has both. Images are taken as they are, normalized as
    the net wants them.

    Args:
        data: what `datadistill.data.user_split.split_of` takes (a `Split`, a pair of tensors, a
            torch data set, a list of pairs, a DataLoader); a `RealData`, whose training part is
            taken; or a `DistilledDataset`, whose labels may be soft.
        what: named in errors.

    Example:
        >>> import torch
        >>> pairs = [(torch.zeros(1, 2, 2), 3), (torch.ones(1, 2, 2), 1)]
        >>> as_split(pairs).labels
        tensor([3, 1])
    """
    if isinstance(data, RealData):
        data = data.train
    if isinstance(data, DistilledDataset):
        data = (data.images, labels_of(data))
    return split_of(data, what)


def labels_of(d: DistilledDataset, which: str = "own") -> Tensor:
    """Labels of a distilled set to learn: its "own", class numbers or probabilities, or "hard", the
    class of the largest. Labels for a squared error are refused as its own."""
    if which == "hard":
        return d.labels.argmax(1) if d.labels.is_floating_point() else d.labels
    if d.label_kind == "raw":
        raise UsageError(
            "the distilled set's labels are numbers for a squared error, of which there is no "
            "cross-entropy; take the class of the largest (--data-labels hard, or in fit the pair "
            "(d.images, d.labels.argmax(1)))"
        )
    return d.labels


def refuse_distilled(data: Any, why: str) -> None:
    """UsageError for a distilled set where real images are needed, which ends with `why`."""
    if isinstance(data, DistilledDataset):
        raise UsageError(f"data is a DistilledDataset of {len(data.images)} learned images, {why}")


def check_real_data(data: object) -> None:
    """UsageError unless the data are a `RealData` or None."""
    if data is None or isinstance(data, RealData):
        return
    refuse_distilled(
        data,
        "and no test images to score a student on; pass real data here, and the set as data_from= "
        "of kd_baselines.train (its file in a config)",
    )
    raise UsageError(
        f"data is a {type(data).__name__}, wanted a RealData with training and test images; make "
        "one with RealData.from_dataset(data), or use kd_baselines.fit(net, data, ...)"
    )
