"""Source data: the images that a teacher is trained on, where they are not the student's.

Notation: D_src the teacher's data set, D_tgt the student's. Of each class of D_src, images are
ranked by their distance to the nearest training image of D_tgt, without its labels; `source_part`
names the ranks that the teacher sees. Ranks of a class of its own keep the classes as they are: all
classes of D_src stay, in their proportions.

Reference: Srinivas and Fleuret, Knowledge transfer with Jacobian matching, 2018,
https://arxiv.org/abs/1803.00443, section 5 (the choice of source images by the Hausdorff distance)
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

from datadistill.config import RunOptions
from datadistill.config.plans import DataPlan
from datadistill.data import RealData, Split, from_config
from datadistill.errors import DataError, UsageError
from datadistill.nets.spec import CUSTOM
from datadistill.runs.tensors import checksum
from kd_baselines.config import KdConfig
from kd_baselines.hausdorff import nearest_distances

__all__ = ["load_source", "load_target", "rank_part"]


def load_source(config: KdConfig, data: RealData, options: RunOptions) -> RealData:
    """The data that the teacher of a student's config is trained on: the `source`, on the device of
    the student's `data`, or these themselves."""
    if config.source is None:
        return data
    if config.source_part != (0, 1) and config.dataset in ("folder", CUSTOM):
        raise UsageError(
            f"source_part is {config.source_part}, by distances to the student's images, which are "
            "no named data set; choose with kd_baselines.hausdorff.choose_source in Python, and "
            "pass the teacher that was trained on them"
        )
    found = _load(config, config.source, options).to(data.device)
    if found.shape != data.shape:
        raise UsageError(
            f"images of the source {found.name} are {found.shape}, and {data.shape} those of "
            f"{data.name}; bring both to one form, such as --size {data.shape[1]} --channels "
            f"{data.shape[0]}"
        )
    return found


def load_target(config: KdConfig, options: RunOptions) -> RealData | None:
    """The data that the run of a teacher measures distances to; None where it sees all images."""
    return None if config.target is None else _load(config, config.target, options)


def _load(config: KdConfig, name: str, options: RunOptions) -> RealData:
    plan = DataPlan(name, config.size, config.channels, config.validation)
    seed, normalization = config.teacher_seed, config.normalization
    return _load_named(plan, options.data_root, options.download, seed, normalization)


@lru_cache(maxsize=2)
def _load_named(
    plan: DataPlan, root: str | None, download: bool, seed: int, normalization: str
) -> RealData:
    options = RunOptions(data_root=root, download=download)
    return from_config.load_data(plan, options, seed=seed, normalization=normalization)


_KEPT: dict[str, Tensor] = {}
"""The last distances, by the images they are of: students of several parts ask for the same."""


def _measure(source: Tensor, target: Tensor) -> Tensor:
    key = checksum({"source": source, "target": target})
    if key not in _KEPT:
        _KEPT.clear()
        _KEPT[key] = nearest_distances(source, target)
    return _KEPT[key]


def rank_part(split: Split, target: Split, part: tuple[float, float]) -> Int[Tensor, " kept"]:
    """The places of the images of each class whose rank, by distance to the nearest target image,
    lies between two shares; in the order of the split.

    Args:
        split: source images (N,C,H,W) with class numbers.
        target: images (M,C,H,W), in the same normalization; the labels are not read.
        part: lower and upper share, from 0 (nearest) to 1.

    Example:
        >>> images = torch.tensor([4.0, 1.0, 2.0, 3.0]).view(4, 1, 1, 1)
        >>> source = Split(images, torch.zeros(4, dtype=torch.int64))
        >>> rank_part(source, Split(torch.zeros(1, 1, 1, 1), torch.zeros(1)), (0, 0.5))
        tensor([1, 2])
    """
    distances = _measure(split.images, target.images.to(split.images.device))
    low, high = part
    kept = []
    for k in split.labels.unique():
        own = (split.labels == k).nonzero().flatten()
        own = own[distances[own].sort(stable=True).indices]
        chosen = own[round(low * len(own)) : round(high * len(own))]
        if not len(chosen):
            raise DataError(
                f"class {int(k)} has {len(own)} source images, of which none lies between the "
                f"shares {low:g} and {high:g}; widen --source-part"
            )
        kept.append(chosen)
    return torch.cat(kept).sort().values
