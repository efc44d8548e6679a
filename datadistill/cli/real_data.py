"""The real data a distilled set is tested on."""

from __future__ import annotations

from pathlib import Path

from datadistill.data import SOURCES, RealData, load, load_folder
from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError


def data_for(
    d: DistilledDataset, *, data_root: str | None = None, folder: Path | None = None, download: bool = True
) -> RealData:
    """What the set was learned from, in its own normalization and with the run's own held-out images.

    Args:
        d: the set.
        data_root: where named data sets lie.
        folder: your own folder of images; required for a set that was learned from one.
        download: whether a named data set may be fetched.

    Raises:
        UsageError: the set came from a folder, and none was given.
        DataError, Unavailable: the data are damaged, or not on this machine.
    """
    origin = d.origin
    name, seed, validation = origin.get("dataset"), origin.get("seed", 0), origin.get("validation")
    if folder is not None:
        return load_folder(
            folder, holdout=origin.get("holdout", 0.2), skip_bad=origin.get("skip_bad", False),
            validation=validation, seed=seed, normalization=d.normalization,
        )  # fmt: skip
    if "holdout" in origin or name not in SOURCES:
        raise UsageError(
            f"the set was learned from {name or 'unknown data'}, which is no data set that can be found by "
            "name; pass its folder with --data FOLDER"
        )
    return load(
        name, root=data_root, normalization=d.normalization, seed=seed, validation=validation, download=download
    )
