"""The real data that a config names."""

from __future__ import annotations

from typing import Any

from datadistill import data
from datadistill.config import RunOptions
from datadistill.config.plans import DataPlan
from datadistill.data.folders import load_folder
from datadistill.data.normalization_names import Chosen
from datadistill.data.real import RealData

__all__ = ["load_data"]


def load_data(
    plan: DataPlan,
    options: RunOptions,
    *,
    seed: int,
    folder: str | None = None,
    normalization: Chosen = None,
    **split: Any,
) -> RealData:
    """The data that the fields of a `DataPlan` name, on the CPU. `seed` draws the validation
    images; `folder` holds the images of the data set "folder"; `normalization` is that of `load`;
    `split` is `holdout` and `skip_bad` of `load_folder`.

    >>> load_data(DataPlan(dataset="digits", size=16), RunOptions(), seed=0).shape
    (1, 16, 16)
    """
    shared: dict[str, Any] = {
        "size": plan.size,
        "channels": plan.channels,
        "validation": plan.validation,
        "seed": seed,
        "normalization": normalization,
    }
    if plan.dataset == "folder" and folder is not None:
        return load_folder(folder, **shared, **split)
    return data.load(
        plan.dataset, folder=folder, root=options.data_root, download=options.download, **shared
    )
