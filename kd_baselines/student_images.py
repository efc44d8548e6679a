"""The training images that a student sees."""

from __future__ import annotations

from dataclasses import replace

import torch

from datadistill.data import RealData, Split
from datadistill.data.batches import draw_distinct
from datadistill.errors import DataError, UsageError, suggest
from datadistill.streams import generator
from kd_baselines.config import KdConfig
from kd_baselines.source_data import rank_part

__all__ = ["student_split"]


def student_split(config: KdConfig, data: RealData, target: RealData | None = None) -> Split:
    """The images that the student sees: without some classes, and so many of each other, drawn by
    the seed. A teacher sees those of its `source_part`, by distances to the training images of
    `target`."""
    if target is not None:
        part = rank_part(data.train, target.train, config.source_part)
        data = replace(data, train=Split(data.train.images[part], data.train.labels[part]))
    labels = data.train.labels.cpu()
    left_out = [_class(name, data) for name in config.without]
    index = torch.arange(len(labels))[
        ~torch.isin(labels, torch.tensor(left_out, dtype=labels.dtype))
    ]
    if config.per_class is not None:
        seed = config.seed if config.images_seed is None else config.images_seed
        chosen = []
        for k, name in enumerate(data.classes):
            own = index[labels[index] == k]
            if k in left_out:
                continue
            if len(own) < config.per_class:
                raise DataError(
                    f"class {name} has {len(own)} training images, {config.per_class} wanted of "
                    "each; lower --per-class"
                )
            stream = generator(seed, "student_images", k)
            chosen.append(own[draw_distinct(len(own), config.per_class, stream)].sort().values)
        index = torch.cat(chosen) if chosen else index[:0]
    index = index.to(data.train.labels.device)
    return (
        data.train
        if len(index) == len(labels)
        else Split(data.train.images[index], data.train.labels[index])
    )


def _class(name: str, data: RealData) -> int:
    if name not in data.classes:
        raise UsageError(f"{data.name} has no class {name!r}; {suggest(name, data.classes)}")
    return data.classes.index(name)
