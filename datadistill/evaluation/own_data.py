"""The real data that a set was learned from, with the images that were held out from it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

from datadistill.data import SOURCES, RealData, load, load_folder
from datadistill.data.folders import folder_classes
from datadistill.data.parts import Parts
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError, list_some
from datadistill.features import FeatureNormalization
from datadistill.real_features import to_features


def load_own_data(
    d: DistilledDataset,
    *,
    data_root: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> RealData:
    """The real data of a set, in its own normalization and with the run's own held-out images.
    `folder` is required for a set that was learned from one. Of a set of features these are the
    images; see `in_space_of`."""
    found, normalization = d.data, d.normalization
    if isinstance(normalization, FeatureNormalization):
        normalization = normalization.base
    if folder is not None:
        return load_folder(
            folder,
            holdout=0.2 if found.holdout is None else found.holdout,
            skip_bad=found.skip_bad,
            validation=found.validation,
            seed=found.seed,
            normalization=normalization,
            parts=_parts(d, folder),
        )
    if found.is_folder or found.dataset not in SOURCES:  # a folder may be called mnist
        raise UsageError(
            f"the set was learned from {found.dataset or 'unknown data'}, which is no data set "
            "that can be found by name; pass its folder (--data FOLDER)"
        )
    return load(
        found.dataset,
        root=data_root,
        normalization=normalization,
        seed=found.seed,
        validation=found.validation,
        download=download,
    )


def in_space_of(d: DistilledDataset, real: RealData) -> RealData:
    """Real data as the set has them: for a set of features, the images' features."""
    if isinstance(d.normalization, FeatureNormalization):
        return to_features(real, d.normalization)
    return real


def _parts(d: DistilledDataset, folder: str | os.PathLike[str]) -> Parts | None:
    """The parts of the folder's images; None in older files, which do not state them."""
    if d.data.parts is not None:
        _check_classes(d, os.fspath(folder), folder_classes(folder))
        return d.data.parts
    warnings.warn(
        f"the set does not say which images of {os.fspath(folder)} were held out (its file is "
        "older, or it has very many images): they are drawn again by place, which is right only if "
        "no file was added, renamed or taken away since",
        stacklevel=3,
    )
    return None


def check_data(d: DistilledDataset, real: RealData, split: str = "test") -> None:
    """Refuse real data of other classes or shapes than a set's, or with images in the split to test
    on that the set was learned from."""
    _check_classes(d, real.name, real.classes)
    if real.shape != tuple(d.images.shape[1:]):
        raise DataError(
            f"the set's images are {'x'.join(map(str, d.images.shape[1:]))}, those of {real.name} "
            f"are {'x'.join(map(str, real.shape))}; use its own data, loaded with its normalization"
        )
    then = d.data.fingerprint
    if split == "validation" and real.parts is None and then not in (None, real.fingerprint):
        raise DataError(
            f"the data {real.name} are not the ones that the set was learned from (their "
            "fingerprint differs), so that some of its validation images may have been learned "
            "from; pass those data, or test on the test split"
        )
    if real.parts is not None and d.data.parts is not None and split != "train":
        tested = getattr(real.parts, split)
        if seen := d.data.parts.count_seen(tested, split):
            raise DataError(
                f"{seen} of the {len(tested)} {split} images of {real.name} are some that the set "
                "was learned from or chosen by: other images are held out now, since some were "
                "added, edited or renamed; load the folder with parts=d.data.parts, or test on a "
                "data set of its own (test=)"
            )
    if not d.normalization.is_near(real.normalization):
        raise DataError(
            f"the images of {real.name} are normalized by {real.normalization.words}, those of the "
            f"set by {d.normalization.words}; load the data with normalization=d.normalization"
        )


def _check_classes(d: DistilledDataset, name: str, classes: Sequence[str]) -> None:
    if tuple(classes) != d.classes:
        raise DataError(
            f"the set has {len(d.classes)} classes ({list_some(d.classes)}), the data {name} has "
            f"{len(classes)} ({list_some(classes)}); use its own data"
        )
