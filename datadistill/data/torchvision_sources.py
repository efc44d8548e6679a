"""The data sets that torchvision reads: MNIST, Fashion-MNIST, USPS, SVHN, CIFAR-10, CIFAR-100.

They differ by a line each (`SETS`): torchvision's class and the files it wants under a data root. Files are
searched for in every root; only where downloading is allowed and nothing was found are they fetched, by
torchvision, into the first root. CIFAR's pickles are read only after torchvision's MD5 check.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datadistill.data.source import DIGITS, Pixels, Reader, Source
from datadistill.errors import DataError, Unavailable

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
MAT = ("train_32x32.mat", "test_32x32.mat")


@dataclass(frozen=True)
class TorchvisionSet:
    """How torchvision reads a data set.

    Args:
        class_name: in `torchvision.datasets`.
        files: what must lie under the root, relative to it.
        archives: what a download leaves there beside them; alone, they are an unfinished download.
        by_split: the class takes `split="train"|"test"` and not `train=True|False`.
        checked: torchvision compares MD5 sums; False turns that off, for files that are not the official ones.
        folder: where under the root torchvision is sent.
    """

    class_name: str
    files: tuple[str, ...]
    archives: tuple[str, ...] = ()
    by_split: bool = False
    checked: bool = True
    folder: str = "."

    def read(self, root: Path, split: str, download: bool = False) -> Any:
        """The torchvision data set; its class is imported here, not before."""
        from torchvision import datasets

        made = getattr(datasets, self.class_name)
        if not self.checked:
            made = type(made.__name__, (made,), {"_check_integrity": lambda self: True})
        chosen: dict[str, Any] = {"split": split} if self.by_split else {"train": split == "train"}
        return made(str(root / self.folder), download=download, **chosen)


SETS = {
    "mnist": TorchvisionSet("MNIST", tuple(f"MNIST/raw/{name}" for name in IDX)),
    "fashion-mnist": TorchvisionSet("FashionMNIST", tuple(f"FashionMNIST/raw/{name}" for name in IDX)),
    "usps": TorchvisionSet("USPS", ("usps.bz2", "usps.t.bz2")),
    "svhn": TorchvisionSet("SVHN", MAT, by_split=True),
    # rebuilt in grey from part of SVHN's test pictures, so the official MD5 sums cannot hold
    "svhn-grey": TorchvisionSet(
        "SVHN", tuple(f"svhn_grey/{name}" for name in MAT), by_split=True, checked=False, folder="svhn_grey"
    ),
    "cifar10": TorchvisionSet(
        "CIFAR10", tuple(f"cifar-10-batches-py/{name}" for name in BATCHES), ("cifar-10-python.tar.gz",)
    ),
    "cifar100": TorchvisionSet(
        "CIFAR100", tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta")), ("cifar-100-python.tar.gz",)
    ),
}


def find(name: str, title: str, sizes: tuple[int, int], roots: list[Path], download: bool) -> Reader:
    """Look for a data set in every root; fetch it into the first where that is allowed.

    Args:
        name: a key of `SETS`.
        title: for sentences.
        sizes: images in the training and the test part; anything else is a damaged copy.
        roots: from `data_roots`.
        download: whether torchvision may fetch it.

    Raises:
        Unavailable: it is in no root and was not, or could not be, fetched.
        DataError: part of it is there.
    """
    entry = SETS[name]
    where = next((root for root in roots if all((root / file).is_file() for file in entry.files)), None)
    if where is None and download and entry.checked:
        where = _fetch(entry, title, roots)
    if where is None:
        for root in roots:
            there = [f for f in (*entry.files, *entry.archives) if (root / f).exists()]
            missing = [f for f in entry.files if not (root / f).exists()]
            if there:
                raise DataError(
                    f"{title} under {root} is incomplete: {there[0]} is there, {missing[0]} is not; fetch it again "
                    f"with --download (download=True), or take the part away"
                )
        way = "allow it with --download (download=True), " if entry.checked else ""
        reason = "fetching it was not allowed" if entry.checked else "it cannot be fetched, as it is rebuilt from parts"
        raise Unavailable(_absent(title, roots, reason, way))
    root_found = where

    def read(split: str) -> Pixels:
        wanted = sizes[split == "test"]
        try:
            images, labels = _tensors(entry.read(root_found, split))
        except Exception as error:  # parsers raise what they like: RuntimeError, ValueError, EOFError, OSError, zlib.error
            raise DataError(
                f"{title} under {root_found} is damaged ({type(error).__name__}: {error}); delete its files "
                f"({entry.files[0]}, ...) and fetch it again"
            ) from error
        if len(images) != wanted or len(labels) != wanted:
            raise DataError(
                f"{title} under {root_found} has {len(images):,} images and {len(labels):,} labels in its {split} part; "
                f"wanted {wanted:,}: delete its files and fetch it again"
            )
        return images, labels

    return read


def _fetch(entry: TorchvisionSet, title: str, roots: list[Path]) -> Path:
    root = roots[0]
    try:
        root.mkdir(parents=True, exist_ok=True)
        # both parts now, so that a run cannot fail at its end for want of the test part
        with contextlib.redirect_stdout(sys.stderr), _timeout(30):
            for split in ("train", "test"):
                entry.read(root, split, download=True)
    except Exception as error:  # no network, a server that is down, a full disk, a wrong checksum
        raise Unavailable(
            _absent(title, roots, f"could not be fetched ({type(error).__name__}: {error})")
        ) from error
    return root


def _absent(title: str, roots: list[Path], reason: str, way: str = "") -> str:
    places = ", ".join(str(root) for root in roots)
    return (
        f"{title} was not found under {places} and {reason}; {way}put it there or pass --data-root "
        "(root=, $DATADISTILL_DATA), or use the offline default: mnist5k"
    )


@contextlib.contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """torchvision opens its connections without a limit: a network that swallows packets would hang it."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _tensors(dataset: Any) -> Pixels:
    """The arrays inside a torchvision data set, as (N,C,H,W) uint8 and (N,) int64."""
    images = torch.as_tensor(np.asarray(dataset.data))
    labels = torch.as_tensor(np.asarray(getattr(dataset, "labels", None) if hasattr(dataset, "labels") else dataset.targets))
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.shape[1] != 3:  # CIFAR comes as (N,H,W,C)
        images = images.permute(0, 3, 1, 2)
    return images, labels.long()


_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_HUNDRED = tuple(
    (
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
        "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
        "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster "
        "man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck "
        "pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk "
        "skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger "
        "tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
    ).split()
)

# Mean and standard deviation: the values of the dataset-condensation literature (Zhao, Mopuri and Bilen 2021,
# https://arxiv.org/abs/2006.05929, and what followed), so that numbers can be compared. CIFAR-10's .2023 .1994 .2010
# are the mean of the images' own deviations; the deviation over all pixels is .2470 .2435 .2616.
_FACTS: tuple[tuple[Any, ...], ...] = (
    ("mnist", "MNIST", DIGITS, (1, 28, 28), (60000, 10000), 5000, ((0.1307,), (0.3081,))),
    ("fashion-mnist", "Fashion-MNIST", _CLOTHES, (1, 28, 28), (60000, 10000), 5000, ((0.2861,), (0.3530,))),
    ("usps", "USPS", DIGITS, (1, 16, 16), (7291, 2007), 0.1, None),
    ("svhn", "SVHN", DIGITS, (3, 32, 32), (73257, 26032), 0.1, ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))),
    ("svhn-grey", "SVHN in grey", DIGITS, (3, 32, 32), (14818, 5000), 0.1, None),
    ("cifar10", "CIFAR-10", _THINGS, (3, 32, 32), (50000, 10000), 5000, ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))),
    (
        *("cifar100", "CIFAR-100", _HUNDRED, (3, 32, 32), (50000, 10000), 5000),
        ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    ),
)
_ABOUT = {
    "svhn-grey": "14,818 digits to learn from and 5,000 held out, all cut from grey copies of SVHN's test pictures; "
    "not comparable with published SVHN numbers",
}


def _source(name: str, title: str, classes: Any, shape: Any, sizes: Any, validation: Any, statistics: Any) -> Source:
    about = _ABOUT.get(name, f"{title}, its {sizes[0]:,} training images to learn from and its {sizes[1]:,} test images")
    return Source(name, title, classes, shape, sizes, about, validation, statistics, partial(find, name, title, sizes))


TORCHVISION_SOURCES = {facts[0]: _source(*facts) for facts in _FACTS}
