"""The data sets that torchvision reads: MNIST, Fashion-MNIST, USPS, SVHN, CIFAR-10, CIFAR-100.

They differ by a line each (`SETS`): torchvision's class and the files it wants under a data root.
Files are searched for in every root; only where downloading is allowed and nothing was found are
they fetched, by torchvision, into the first root. CIFAR's pickles are read by `checked_files`,
after their MD5 check.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from datadistill.data.checked_files import read_cifar, read_svhn
from datadistill.data.class_names import CIFAR10, CIFAR100, DIGITS, FASHION
from datadistill.data.source import Pixels, Reader, Source
from datadistill.data.subsets import MADE_BY_HAND, subsets_of
from datadistill.errors import DataError, ResourceError, Unavailable, list_some
from datadistill.progress import announce

IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
MAT = ("train_32x32.mat", "test_32x32.mat")


@dataclass(frozen=True)
class TorchvisionSet:
    """A data set as torchvision reads it.

    Args:
        class_name: in `torchvision.datasets`.
        files: what must lie under the root, relative to it.
        archives: what the files are unpacked from; alone, they are an unfinished download.
        by_split: the class takes `split="train"|"test"` and not `train=True|False`.
        official: the files are the published ones: torchvision may fetch them, and its MD5 check
            stays on.
        folder: where under the root torchvision is sent.
    """

    class_name: str
    files: tuple[str, ...]
    archives: tuple[str, ...] = ()
    by_split: bool = False
    official: bool = True
    folder: str = "."

    def open(self, root: Path, split: str, download: bool = False) -> Any:
        """An object with the arrays `data` and `targets` (or `labels`) of a part; torchvision's
        class is imported here, not before."""
        from torchvision import datasets

        made = getattr(datasets, self.class_name)
        folder = root / self.folder
        if self.class_name.startswith("CIFAR"):
            if download:
                # fetched and unpacked alone: the class itself would unpickle what came
                dataset = made.__new__(made)
                dataset.root = str(folder)
                dataset.download()
            return read_cifar(made, folder, split)
        if self.class_name == "SVHN" and not download:
            return read_svhn(made, folder, split, self.official)
        chosen: dict[str, Any] = {"split": split} if self.by_split else {"train": split == "train"}
        if self.class_name in ("MNIST", "FashionMNIST"):
            # never torch files of old torchvisions, which lie beside without a checksum
            made = type(made.__name__, (made,), {"_check_legacy_exist": lambda self: False})
        return made(str(folder), download=download, **chosen)


SUBSETS = tuple(subsets_of("svhn").values())

SETS = {
    "mnist": TorchvisionSet("MNIST", tuple(f"MNIST/raw/{name}" for name in IDX)),
    "fashion-mnist": TorchvisionSet(
        "FashionMNIST", tuple(f"FashionMNIST/raw/{name}" for name in IDX)
    ),
    "usps": TorchvisionSet("USPS", ("usps.bz2", "usps.t.bz2")),
    "svhn": TorchvisionSet("SVHN", MAT, by_split=True),
    "cifar10": TorchvisionSet(
        "CIFAR10",
        tuple(f"cifar-10-batches-py/{name}" for name in BATCHES),
        ("cifar-10-python.tar.gz",),
    ),
    "cifar100": TorchvisionSet(
        "CIFAR100",
        tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta")),
        ("cifar-100-python.tar.gz",),
    ),
    # the official MD5 sums cannot hold for a subset, which lies in a folder of its own
    **{
        s.name: TorchvisionSet(
            *("SVHN", tuple(f"{s.folder}/{file}" for file in MAT)),
            by_split=True,
            official=False,
            folder=s.folder,
        )
        for s in SUBSETS
    },
}


def find(
    name: str, title: str, sizes: tuple[int, int], roots: list[Path], download: bool
) -> Reader:
    """Find a data set in a root; fetch it into the first where that is allowed. A part with other
    than `sizes` images is a damaged copy."""
    entry = SETS[name]
    where = next(
        (root for root in roots if all((root / file).is_file() for file in entry.files)), None
    )
    if where is None and download and entry.official:
        where = fetch(entry, title, roots)
    return partial(_read, entry, title, sizes, where or _explain(entry, title, roots))


def _explain(entry: TorchvisionSet, title: str, roots: list[Path]) -> NoReturn:
    """Say what is missing, and how to get it."""
    again = "fetch it again (leave --no-download out)" if entry.official else "complete it"
    for root in roots:
        there = [file for file in (*entry.files, *entry.archives) if (root / file).exists()]
        missing = [file for file in entry.files if not (root / file).exists()]
        if there:
            raise DataError(
                f"{title} under {root} is incomplete: {there[0]} is there, "
                f"{', '.join(missing) or 'a plain file'} is not; {again}, or take the part away"
            )
    if entry.official:
        reason, way = NOT_FETCHED, ALLOW
    else:
        reason, way = MADE_BY_HAND, ""
    raise Unavailable(describe_missing(title, roots, reason, way))


def _read(
    entry: TorchvisionSet, title: str, sizes: tuple[int, int], root: Path, split: str
) -> Pixels:
    wanted = sizes[split == "test"]
    try:
        images, labels = _tensors(entry.open(root, split))
    except ImportError as error:  # scipy, for SVHN
        raise Unavailable(
            f"{title} cannot be read here ({error}); pip install {error.name}"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        # parsers raise RuntimeError, ValueError, EOFError, OSError, zlib.error, ...
        raise DataError(
            f"{title} under {root} is damaged ({type(error).__name__}: {error}); delete its files "
            f"({list_some(entry.files, 1)}) and fetch it again"
        ) from error
    if len(images) != wanted or len(labels) != wanted:
        raise DataError(
            f"{title} under {root} has {len(images):,} images and {len(labels):,} labels in its "
            f"{split} part; wanted {wanted:,}: delete its files and fetch it again"
        )
    return images, labels


def fetch(entry: TorchvisionSet, title: str, roots: list[Path]) -> Path:
    """Download into a folder beside and move what is whole into place: no partial file is taken for
    data."""
    root = roots[0]
    announce(f"fetching {title} into {root}")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (
            contextlib.redirect_stdout(sys.stderr),
            timeout(30),
            tempfile.TemporaryDirectory(prefix=".download-", dir=root) as beside,
        ):
            # both parts now, so that a run cannot fail at its end for want of the test part
            for split in ("train", "test"):
                entry.open(Path(beside), split, download=True)
            for file in entry.files:
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(beside) / file, root / file)
    except MemoryError:
        raise
    except Exception as error:
        # no network, a server that is down, a wrong checksum, a read-only folder
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                f"{title} could not be fetched: {root} is full; free some space"
            ) from error
        reason = f"could not be fetched ({type(error).__name__}: {error})"
        raise Unavailable(describe_missing(title, roots, reason)) from error
    return root


NOT_FETCHED = "fetching it was not allowed"
ALLOW = "allow it (leave --no-download out), "


def describe_missing(title: str, roots: list[Path], reason: str, way: str = "") -> str:
    places = ", ".join(str(root) for root in roots)
    return (
        f"{title} was not found under {places} and {reason}; {way}put it there or pass its folder "
        "(--data-root, $DATADISTILL_DATA), or use the offline default: mnist5k"
    )


@contextlib.contextmanager
def timeout(seconds: float) -> Iterator[None]:
    """torchvision opens its connections without a limit: a network that swallows packets would hang
    it."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _tensors(dataset: Any) -> Pixels:
    """The arrays inside a torchvision data set, as (N,C,H,W) uint8 and (N,) int64."""
    images = torch.as_tensor(np.asarray(dataset.data))
    labels = torch.as_tensor(
        np.asarray(dataset.labels if hasattr(dataset, "labels") else dataset.targets)
    )
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.shape[1] != 3:  # CIFAR comes as (N,H,W,C)
        images = images.permute(0, 3, 1, 2)
    return images, labels.long()


# Mean and standard deviation: the values of the dataset-condensation literature (Zhao, Mopuri and
# Bilen 2021, https://arxiv.org/abs/2006.05929, and what followed), so that numbers can be compared.
# CIFAR-10's .2023, .1994, .2010 are the mean of the images' own deviations; over all pixels it is
# .2470, .2435, .2616.
MEAN_STD = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
}


def _source(
    name: str,
    title: str,
    classes: tuple[str, ...],
    shape: tuple[int, int, int],
    sizes: tuple[int, int],
    validation: int | float,
    about: str | None = None,
    subset_of: str | None = None,
) -> Source:
    if about is None:
        about = (
            f"{title}, its {sizes[0]:,} training images to learn from and its "
            f"{sizes[1]:,} test images"
        )
    search = partial(find, name, title, sizes)
    return Source(
        name, title, classes, shape, sizes, about, validation, MEAN_STD.get(name), search, subset_of
    )


TORCHVISION_SOURCES = {
    source.name: source
    for source in (
        _source("mnist", "MNIST", DIGITS, (1, 28, 28), (60000, 10000), 5000),
        _source("fashion-mnist", "Fashion-MNIST", FASHION, (1, 28, 28), (60000, 10000), 5000),
        _source("usps", "USPS", DIGITS, (1, 16, 16), (7291, 2007), 0.1),
        _source("svhn", "SVHN", DIGITS, (3, 32, 32), (73257, 26032), 0.1),
        *(
            _source(s.name, s.title, s.classes, (3, 32, 32), s.sizes, 0.1, s.about, s.of)
            for s in SUBSETS
        ),
        _source("cifar10", "CIFAR-10", CIFAR10, (3, 32, 32), (50000, 10000), 5000),
        _source("cifar100", "CIFAR-100", CIFAR100, (3, 32, 32), (50000, 10000), 5000),
    )
}
