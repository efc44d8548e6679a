"""Boosting: a set with some images of each class is grown to one with more, and each of them is a
good set of its size.

    1.  learn b1 images of each class
    2.  add b2 - b1 new ones, and learn all b2, the first b1 with a learning rate beta times theirs
    3.  from b2 on in the same way

beta = 0 keeps the first images as they are, beta = 1 learns all alike. The first b1 images of each
class stay the first in every later set, so the sets are prefixes of the last one
(`DistilledDataset.prefix`).

Reference: Feng, Vedantam and Kempe, Embarrassingly Simple Dataset Distillation, 2024,
https://arxiv.org/abs/2311.07025
"""

from __future__ import annotations

from datadistill.config import DistillConfig
from datadistill.data import RealData
from datadistill.distilled import DistilledDataset
from datadistill.distilled_prefix import images_per_class
from datadistill.errors import UsageError
from datadistill.evaluation.own_data import check_data


def load_older(config: DistillConfig) -> DistilledDataset | None:
    """The set that a config grows; None where it grows none. Refuses one that does not fit the
    config; to be called before data are read, which may be fetched."""
    if config.boost_from is None:
        return None
    older = DistilledDataset.load(config.boost_from)
    if config.decoder != "pixels":
        raise UsageError(
            f"the decoder is {config.decoder}, and boosting adds images to images of pixels; leave "
            "the decoder out"
        )
    if older.label_kind != config.labels:
        raise UsageError(
            f"labels are {config.labels}, and those of {config.boost_from} are {older.label_kind}; "
            f"choose --labels {older.label_kind}"
        )
    if older.objective.describe()["name"] != config.objective:
        raise UsageError(
            f"the objective is {config.objective}, and {config.boost_from} was learned for "
            f"{older.objective.describe()['name']}; grow a set that was learned for the same"
        )
    if older.start.one or config.theta_0 != "random":
        raise UsageError(
            "the nets of a set for one initialization start from it alone, so another set cannot "
            "share its images; choose --theta-0 random, and grow a set that was learned so"
        )
    ipc = images_per_class(older)
    if ipc >= config.ipc:
        raise UsageError(
            f"{config.boost_from} has {ipc} images of each class, and ipc is {config.ipc}; choose "
            "a larger --ipc to grow it to"
        )
    return older


def check_older(older: DistilledDataset, data: RealData) -> DistilledDataset:
    """The set on the device of the real data; DataError where their classes, shape or normalization
    are others."""
    check_data(older, data, split="train")
    return older.to(data.device)
