"""digits: the 1,797 handwritten digits of 8x8 pixels that ship with scikit-learn (values 0..16,
here 0..1).

The split is fixed, by a hash of the position in the file: 359 images (a fifth of every digit) are
held out.
"""

from __future__ import annotations

from pathlib import Path

import torch

from datadistill.data.class_names import DIGITS
from datadistill.data.source import Pixels, Reader, Source
from datadistill.data.splits import split_stratified_fixed


def _read(split: str) -> Pixels:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images).float().div(16).unsqueeze(1)
    labels = torch.from_numpy(data.target).long()
    learn, held_out = split_stratified_fixed(labels, 0.2, "digits")
    chosen = learn if split == "train" else held_out
    return images[chosen], labels[chosen]


def _find(roots: list[Path], download: bool) -> Reader:
    return _read


DIGITS_8X8 = Source(
    name="digits",
    title="scikit-learn's digits",
    classes=DIGITS,
    shape=(1, 8, 8),
    sizes=(1438, 359),
    about=(
        "1,438 of the 1,797 handwritten 8x8 digits that ship with scikit-learn to learn from, 359 "
        "held out, stratified; not MNIST"
    ),
    validation=0.1,
    statistics=None,
    find=_find,
)
