"""The normalization that a config names: ImageNet's, that of torchvision's weights, a file's,
numbers, a kind of ZCA whitening."""

from __future__ import annotations

import os
from pathlib import Path

from datadistill.config import DistillConfig
from datadistill.config.mean_std import parse_mean_std
from datadistill.config.plans import NormalizationPlan
from datadistill.config.zca import ZCA_KINDS, parse_zca
from datadistill.data.normalization import Normalization, normalization_from
from datadistill.data.normalization_names import OWN, Chosen, MeanStd
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError, suggest
from datadistill.features import FeatureNormalization
from datadistill.nets.spec import NetSpec
from datadistill.nets.weights_file import statistics_of
from datadistill.pool import Pool
from datadistill.runs.artifact import take_tensors
from datadistill.runs.content import content_of
from datadistill.runs.file_kinds import FILE_KINDS, kind_of, mismatch, read_kind
from datadistill.runs.folder import RESULT_FILES
from datadistill.runs.tensors import unpack

NAMES = ("auto", OWN, "imagenet", *ZCA_KINDS)
NETS_WITH_ONE = ("net", "kd-net")
"""Kinds of our files that hold a net and its normalization."""
_ANY_SCHEMA = 10**6


def choose_normalization(plan: NormalizationPlan) -> Chosen:
    """What the field `normalization` names, as `datadistill.data.load` takes it; None for the data
    set's own way."""
    chosen = plan.normalization
    if chosen == "auto":
        return None
    if chosen in NAMES or parse_mean_std(chosen) or parse_zca(chosen):
        return chosen
    return read_normalization(chosen)


def choose_for_weights(config: DistillConfig) -> Chosen:
    """As `choose_normalization`; for torchvision's weights, "imagenet" is what they were trained
    with, and so is "auto" for a folder."""
    is_auto = config.normalization == "auto" and config.dataset == "folder"
    if config.weights == "imagenet" and (is_auto or config.normalization == "imagenet"):
        model = NetSpec(config.net, dict(config.net_args)).model
        return "imagenet" if model is None else MeanStd(*statistics_of(model), f"of {model}")
    return choose_normalization(config)


def read_normalization(path: str | os.PathLike[str]) -> Normalization:
    """The normalization in a file of a distilled set, a pool or a net, or in its run folder; that
    of the images, where the set is one of features."""
    place = _find(Path(path).expanduser())
    kind = read_kind(place)
    if kind == "distilled dataset":
        found = DistilledDataset.load(place).normalization
        return found.base if isinstance(found, FeatureNormalization) else found
    if kind == "pool":
        return Pool.load(place).normalization
    wanted = "a distilled set, a pool or an image classifier, which have a normalization"
    if kind is None and place.suffix.lower() != ".safetensors":
        raise DataError(
            f"{place} is no file of ours, from which normalization is taken; wanted {wanted} "
            "(.safetensors)"
        )
    tensors, stored = unpack(place, schema=_ANY_SCHEMA)
    if kind_of(stored) not in NETS_WITH_ONE:
        raise DataError(f"{place} holds {mismatch(stored, place, wanted)}")
    assert kind is not None
    with content_of(place, FILE_KINDS[kind][0]):
        take_tensors(["normalization"], tensors, stored)
        return normalization_from(stored.get("normalization"))


def _find(path: Path) -> Path:
    """The file itself, or the one in a run folder."""
    if path.is_dir():
        found = [path / name for name in RESULT_FILES if (path / name).is_file()]
        if not found:
            raise DataError(
                f"{path} is a folder without a finished set, pool or net, and normalization is to "
                "be that of one; pass its file, or the run folder of a finished run"
            )
        return found[0]
    if not path.exists():
        raise UsageError(
            f"normalization is '{path}', which is no file, and neither numbers (MEAN/STD, such as "
            f"0.5/0.25) nor a name; {suggest(str(path), NAMES)}"
        )
    return path
