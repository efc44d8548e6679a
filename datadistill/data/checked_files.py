"""CIFAR's pickled batches and SVHN's .mat files: read once, compared with their MD5, and those
bytes parsed.

torchvision compares a file by its path and opens it again, between which it can be swapped; and
what it opens is unpickled, so that a file in CIFAR's place can run code. Here the bytes that are
checked are the bytes that are used, and a pickle is read by a reader that knows nothing but what
CIFAR's batches hold: dicts, lists, numbers, texts and arrays of whole numbers.

Reference: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from datadistill.errors import DataError
from datadistill.runs.torchfile import read_bytes


def read_cifar(made: Any, root: Path, split: str) -> SimpleNamespace:
    """The part `split`, "train" or "test", of CIFAR-10 or CIFAR-100: `data`, (N,3,32,32) uint8, and
    `targets`, N integers. `made` is torchvision's class, which has the names and MD5 sums of the
    files."""
    data, targets = [], []
    for name, digest in made.train_list if split == "train" else made.test_list:
        path = root / made.base_folder / name
        entry = unpickle_batch(_read_checked(path, digest, "a batch of CIFAR"), path)
        labels = entry.get("labels", entry.get("fine_labels"))
        pixels = entry.get("data")
        if (
            not isinstance(pixels, np.ndarray)
            or pixels.dtype != np.uint8
            or pixels.shape[1:] != (3072,)
        ):
            raise DataError(f"{path} has no images of 3,072 bytes under 'data'; fetch it again")
        if not isinstance(labels, list) or not all(type(k) is int for k in labels):
            raise DataError(f"{path} has no list of whole numbers under 'labels'; fetch it again")
        data.append(pixels)
        targets += labels
    return SimpleNamespace(data=np.concatenate(data).reshape(-1, 3, 32, 32), targets=targets)


def read_svhn(made: Any, root: Path, split: str, official: bool) -> SimpleNamespace:
    """The part `split`, "train" or "test", of SVHN: `data`, (N,3,32,32) uint8, and `targets`, (N,)
    int64, where SVHN's label 10 is the digit 0. `official`: whether the file must be of its
    published MD5 sum."""
    from scipy.io import loadmat

    _, name, digest = made.split_list[split]
    path = root / name
    found = loadmat(
        io.BytesIO(_read_checked(path, digest if official else None, "a .mat file of SVHN"))
    )
    pixels, labels = found.get("X"), found.get("y")
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.shape[:3] != (32, 32, 3)
    ):
        raise DataError(f"{path} has no images of 32x32x3 bytes under 'X'; fetch it again")
    if (
        not isinstance(labels, np.ndarray)
        or labels.dtype.kind not in "iuf"
        or labels.size != pixels.shape[3]
    ):
        raise DataError(f"{path} has no label for each image under 'y'; fetch it again")
    targets = labels.astype(np.int64).reshape(-1)
    targets[targets == 10] = 0
    return SimpleNamespace(data=np.transpose(pixels, (3, 2, 0, 1)), targets=targets)


def unpickle_batch(data: bytes, source: object) -> dict[str, Any]:
    """The dict in a pickle of numbers, texts, lists, dicts and arrays of numbers; nothing else is
    made. Python 2 wrote CIFAR's, so bytes become texts in Latin-1."""
    try:
        found = _Batches(io.BytesIO(data), encoding="latin1").load()
    except DataError as error:
        raise DataError(f"{source} {error}") from None
    except MemoryError:
        raise
    except Exception as error:
        # UnpicklingError, EOFError, ValueError, ...: a pickle fails in many ways
        what = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise DataError(f"{source} is no whole pickle of images ({what}); fetch it again") from None
    if not isinstance(found, dict):
        raise DataError(f"{source} holds a {type(found).__name__}, wanted a dict; fetch it again")
    return {
        key: value.value if isinstance(value, _Array) else value for key, value in found.items()
    }


def _read_checked(path: Path, digest: str | None, wanted: str) -> bytes:
    data = read_bytes(path, wanted)
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if digest is not None and found != digest:
        raise DataError(f"{path} is damaged: its MD5 is {found}, wanted {digest}; fetch it again")
    return data


class _Dtype:
    """Stands for numpy.dtype, whose own reader believes whatever a pickle says of sizes and
    flags."""

    def __init__(self, code: Any, *flags: Any) -> None:
        if code not in ("u1", "i1", "i4", "i8", "b1"):
            raise ValueError(f"an array of {str(code)[:20]!r}, wanted whole numbers")
        self.code = code

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or state[1] not in ("|", "<", "="):
            raise ValueError("an array of another byte order")


class _Array:
    """Stands for numpy.ndarray until the bytes are there."""

    value: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or fortran not in (False, 0):
            raise ValueError("an array in another order")
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        self.value = np.frombuffer(data, dtype=dtype.code).reshape(shape).copy()


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if kind is not _Array or shape != (0,):
        raise ValueError("an array begins with a shape of its own")
    return _Array()


def _latin1(text: Any, encoding: Any) -> bytes:
    """Bytes in an old pickle, as Python 3 writes them."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes in another encoding")
    return text.encode("latin1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _latin1,
}


class _Batches(pickle.Unpickler):
    """Knows how an array of numbers is written, and no other object."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        raise DataError(
            f"is a pickle that wants the Python object {module[:60]}.{name[:60]}, which was not "
            "made: CIFAR's hold arrays, lists and texts alone; delete it and fetch it again"
        )
