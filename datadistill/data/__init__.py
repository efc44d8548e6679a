"""Real data: named sources, your own folders, tensors and data sets; splits, normalization,
augmentation.

    from datadistill.data import load
    data = load("mnist5k")                    # ships with a dependency: no download
    images, labels = data.train.batch(generator, 256)

`SOURCES` lists the names. To add one, write a file like `digits.py` and add its line here; a set
that torchvision reads needs a line in `torchvision_sources.py` only.
"""

from __future__ import annotations

import os
from functools import partial

import torch

from datadistill.data.augmentation import AUGMENTATIONS, augment
from datadistill.data.batches import Split
from datadistill.data.cub import CUB_SOURCES
from datadistill.data.digits import DIGITS_8X8
from datadistill.data.folders import load_folder
from datadistill.data.mnist5k import MNIST5K
from datadistill.data.normalization import Normalization
from datadistill.data.normalization_names import OWN, Chosen, read_choice
from datadistill.data.photos import Photos
from datadistill.data.real import RealData
from datadistill.data.roots import Root, data_roots
from datadistill.data.siamese import Strategy, apply_strategy, check_strategy
from datadistill.data.source import Source
from datadistill.data.torchvision_sources import TORCHVISION_SOURCES
from datadistill.data.voc import VOC_SOURCES
from datadistill.errors import UsageError, suggest
from datadistill.torch_defaults import use_library_defaults

__all__ = [
    "AUGMENTATIONS",
    "SOURCES",
    "Normalization",
    "RealData",
    "Source",
    "Split",
    "Strategy",
    "apply_strategy",
    "augment",
    "check_strategy",
    "data_roots",
    "load",
    "load_folder",
]

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (MNIST5K, DIGITS_8X8, *TORCHVISION_SOURCES.values(), *VOC_SOURCES, *CUB_SOURCES)
}


@use_library_defaults()
def load(
    name: str,
    *,
    root: Root = None,
    folder: str | os.PathLike[str] | None = None,
    size: int | None = None,
    channels: int | None = None,
    validation: int | float | None = None,
    seed: int = 0,
    download: bool = False,
    device: torch.device | str = "cpu",
    normalization: Chosen = None,
) -> RealData:
    """Load a data set by name. Its test part is not read before `.test` is asked for.

    Args:
        name: a key of `SOURCES`, or "folder" for your own images (see `load_folder`).
        root: where data sets lie; see `data_roots`.
        folder: the folder of images, with the name "folder".
        size: side of the square images; as stored by default (folders: 32, photos: 224). Bilinear,
            antialiased.
        channels: 1 or 3; as stored by default (folders: 3). Grey is repeated, RGB becomes BT.601
            luma.
        validation: held out of the training part for model selection: an int is a number, a float a
            share, 0 none. By default 400 of mnist5k, 5,000 of MNIST, Fashion-MNIST and CIFAR, a
            tenth of others.
        seed: decides which images; the test part of named sets does not depend on it.
        download: may fetch what torchvision can fetch.
        device: where the result lies.
        normalization: instead of the data set's own: an existing one (a distilled set's), which
            sets size and channels; "own" for one that is measured on the training part; "imagenet"
            for ImageNet's; numbers MEAN/STD, such as "0.5/0.25"; or a kind of ZCA whitening,
            "zca-kip" (or "zca"), "zca-frepo" or "zca-kornia", measured on the training part, with a
            regularization of 0.1, or another behind a colon: "zca:100".

    Returns:
        The data, normalized, in memory.

    Raises:
        UsageError: an unknown name, or options that contradict each other.
        DataError: files that are damaged, incomplete or do not fit.
        Unavailable: a set that is not on this machine and was not, or could not be, fetched.

    Example:
        >>> load("digits", size=16).shape
        (1, 16, 16)
    """
    if name == "folder":
        if folder is None:
            raise UsageError(
                "the data set 'folder' wants the path of a folder of images; give folder="
            )
        return load_folder(
            folder,
            size=size,
            channels=channels,
            validation=validation,
            seed=seed,
            normalization=normalization,
            device=device,
        )
    if folder is not None:
        raise UsageError(
            f"a folder was given with the data set {name!r}; drop it, or name the data set 'folder'"
        )
    if name not in SOURCES:
        raise UsageError(
            f"unknown data set {name!r}; "
            f"{suggest(name, [*SOURCES, 'folder'], 'datadistill doctor')}"
        )
    source = SOURCES[name]
    chosen = read_choice(normalization)
    read = source.find(data_roots(root), download)
    if isinstance(read, Photos):
        read = read.at(chosen.size if isinstance(chosen, Normalization) else size)
    return RealData.assemble(
        name,
        read("train"),
        partial(read, "test"),
        classes=source.classes,
        description=f"{name}: {source.about}",
        validation=source.validation if validation is None else validation,
        seed=seed,
        size=size,
        channels=channels,
        statistics=None if normalization == OWN else source.statistics,
        normalization=chosen,
        device=device,
    )
