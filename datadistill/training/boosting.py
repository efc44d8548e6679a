"""Boosting: a set with some images of each class is grown to one with more, and each of them is a
good set of its size.

    1.  learn b1 images of each class
    2.  add b2 - b1 new ones, and learn all b2, the first b1 with a learning rate beta times theirs
    3.  from b2 on in the same way

beta = 0 keeps the first images as they are, beta = 1 learns all alike. The first b1 images of each
class stay the first in every later set, so the sets are prefixes of the last one
(`DistilledDataset.prefix`). Step sizes start at the learned ones of the set before, where both sets
have as many of them for the same update rule.

Reference: Feng, Vedantam and Kempe, Embarrassingly Simple Dataset Distillation, 2024,
https://arxiv.org/abs/2311.07025
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from datadistill.config import DistillConfig
from datadistill.data import RealData
from datadistill.distilled import DistilledDataset
from datadistill.distilled_prefix import images_per_class
from datadistill.errors import DataError, UsageError, list_some
from datadistill.evaluation.own_data import check_data
from datadistill.innerloop.step_sizes import softplus_inverse
from datadistill.innerloop.update_rules import UpdateRule
from datadistill.nets.spec import CUSTOM
from datadistill.synthetic import Synthetic


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
    if older.decoder is not None:
        raise UsageError(
            f"the images of {config.boost_from} are made by the decoder "
            f"{older.decoder.describe()['name']}, and boosting adds images to images of pixels; "
            "grow a set of pixels"
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
    then, is_named = older.data, older.data.fingerprint is None
    if is_named and config.dataset == CUSTOM:
        raise UsageError(
            f"{config.boost_from} was learned from data found by name ({then.dataset}), and data "
            "are given, so that other images may be held out; name the data set in the config, or "
            "grow a set that was learned from the data given"
        )
    if is_named and (then.seed, then.validation) != (config.seed, config.validation):
        raise UsageError(
            f"{config.boost_from} was learned with seed {then.seed} and validation "
            f"{then.validation}, and they are {config.seed} and {config.validation}, so that other "
            "images are held out; choose the same --seed and --validation"
        )
    ipc = images_per_class(older)
    if ipc >= config.ipc:
        raise UsageError(
            f"{config.boost_from} has {ipc} images of each class, and ipc is {config.ipc}; choose "
            "a larger --ipc to grow it to"
        )
    return older


def check_older(older: DistilledDataset, data: RealData) -> DistilledDataset:
    """The set on the device of the real data; DataError where it was learned from other data, or
    from images that are held out of these, or has other classes, shape or normalization."""
    if not older.data.is_folder and older.data.dataset not in (None, data.name):
        raise DataError(
            f"the set to grow was learned from {older.data.dataset}, and the data are {data.name}; "
            "grow it on its own data"
        )
    for split in ("test", "validation"):
        check_data(older, data, split)
    return older.to(data.device)


@torch.no_grad()
def continue_step_sizes(
    synthetic: Synthetic, older: DistilledDataset, update: UpdateRule, tensors: Sequence[str]
) -> str | None:
    """Let the step sizes of a larger set start at the older ones. Returns a line that says why not,
    where there are others of them, for other tensors or another update rule; else None."""
    wanted, found = synthetic.rho.shape, older.step_sizes
    if wanted == (1,) and bool((found == found[0]).all()):
        found = found[:1]  # one for all steps
    if (
        found.shape == wanted
        and older.update == update
        and (found.dim() == 1 or older.tensors == tuple(tensors))
    ):
        synthetic.rho.copy_(softplus_inverse(found))
        return None
    have, want = ("x".join(map(str, shape)) for shape in (found.shape, wanted))
    if found.dim() > 1 and (ours := older.tensors or ()) != tuple(tensors):
        have, want = (f"{n} ({list_some(names)})" for n, names in ((have, ours), (want, tensors)))
    return (
        f"the step sizes start anew: the set to grow has {have} for {older.update}, wanted {want} "
        f"for {update}"
    )
