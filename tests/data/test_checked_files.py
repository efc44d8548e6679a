"""CIFAR's pickles and SVHN's .mat files: the bytes that are checked are those that are read; none
runs code."""

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from datadistill.data.checked_files import read_cifar, read_svhn, unpickle_batch
from datadistill.errors import DataError

datasets = pytest.importorskip("torchvision").datasets


def batch(n=4, **more):
    pixels = np.arange(n * 3072, dtype=np.int64).reshape(n, 3072).astype(np.uint8)
    return {"data": pixels, "labels": [k % 3 for k in range(n)], "filenames": ["a.png"] * n, **more}


def python_2(content):
    """A pickle as Python 2 wrote CIFAR's: texts and the bytes of arrays as byte strings."""
    data = content["data"]
    raw = data.tobytes()
    return (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85q\x05U\x01bq\x06\x87Rq\x07(K\x01"
        + b"M"
        + len(data).to_bytes(2, "little")
        + (
            b"M\x00\x0c\x86q\x08cnumpy\ndtype\nq\x09U\x02u1q\nK\x00K\x01\x87Rq\x0b(K\x03U\x01|q\x0cNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\rb\x89T"
        )
        + len(raw).to_bytes(4, "little")
        + raw
        + b"q\x0etq\x0fbU\x06labelsq\x10]q\x11("
        + b"".join(b"K" + bytes([k]) for k in content["labels"])
        + b"eu."
    )


def cifar(monkeypatch, root, contents):
    """torchvision's CIFAR10 with these files as its own."""
    folder = root / datasets.CIFAR10.base_folder
    folder.mkdir(parents=True)
    listed = []
    for name, data in contents.items():
        (folder / name).write_bytes(data)
        listed.append([name, hashlib.md5(data).hexdigest()])
    monkeypatch.setattr(datasets.CIFAR10, "train_list", listed)
    return datasets.CIFAR10


@pytest.mark.parametrize("write", [pickle.dumps, lambda c: pickle.dumps(c, protocol=2), python_2])
def test_a_batch_is_read_by_value(write, monkeypatch, tmp_path):
    content = batch()
    found = read_cifar(cifar(monkeypatch, tmp_path, {"one": write(content)}), tmp_path, "train")
    assert (
        np.array_equal(found.data.reshape(4, 3072), content["data"])
        and found.targets == content["labels"]
    )


def test_torchvision_itself_reads_the_same(monkeypatch, tmp_path):
    made = cifar(monkeypatch, tmp_path, {"one": python_2(batch()), "two": python_2(batch(2))})
    monkeypatch.setattr(made, "_check_integrity", lambda self: True)
    monkeypatch.setattr(made, "_load_meta", lambda self: None)
    theirs, ours = made(str(tmp_path)), read_cifar(made, tmp_path, "train")
    assert (
        np.array_equal(theirs.data.transpose(0, 3, 1, 2), ours.data)
        and theirs.targets == ours.targets
    )


def test_fine_labels_of_cifar100_are_read(monkeypatch, tmp_path):
    content = batch()
    content["fine_labels"] = content.pop("labels")
    found = read_cifar(
        cifar(monkeypatch, tmp_path, {"one": pickle.dumps(content)}), tmp_path, "train"
    )
    assert found.targets == content["fine_labels"]


class Canary:
    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_batch_that_runs_code_is_refused_unrun(monkeypatch, tmp_path, protocol):
    data = pickle.dumps(batch(canary=Canary(tmp_path / "hatched")), protocol=protocol)
    with pytest.raises(DataError, match=r"wants the Python object \w+\.mkdir, which was not made"):
        read_cifar(cifar(monkeypatch, tmp_path, {"one": data}), tmp_path, "train")
    assert not (tmp_path / "hatched").exists()
    pickle.loads(data)
    assert (tmp_path / "hatched").exists()  # the canary does hatch where it is let out


def test_a_file_swapped_after_its_check_is_not_read(monkeypatch, tmp_path):
    made = cifar(monkeypatch, tmp_path, {"one": pickle.dumps(batch())})
    path = tmp_path / made.base_folder / "one"
    read = Path.read_bytes

    def swap(self):
        data = read(self)
        self.write_bytes(pickle.dumps(batch(canary=Canary(tmp_path / "hatched"))))
        return data

    monkeypatch.setattr(Path, "read_bytes", swap)
    assert read_cifar(made, tmp_path, "train").targets == batch()["labels"]
    assert b"hatched" in read(path) and not (tmp_path / "hatched").exists()


def test_another_md5_is_refused_before_it_is_parsed(monkeypatch, tmp_path):
    made = cifar(monkeypatch, tmp_path, {"one": pickle.dumps(batch())})
    (tmp_path / made.base_folder / "one").write_bytes(b"other")
    with pytest.raises(DataError, match="is damaged: its MD5 is"):
        read_cifar(made, tmp_path, "train")


def _array_call(*arguments):
    class Made:
        def __reduce__(self):
            return np.ndarray, arguments

    return Made()


REFUSED = {
    "empty": b"",
    "cut": pickle.dumps(batch())[:200],
    "a list": pickle.dumps([1]),
    "an array that claims a terabyte": pickle.dumps({"data": _array_call((10**12,))}, protocol=2),
    "objects": pickle.dumps({"data": np.array([None])}, protocol=2),
    "a dtype with fields": pickle.dumps({"data": np.zeros(1, dtype=[("a", "u1")])}, protocol=2),
    "a shape of more than its bytes": pickle.dumps(batch(), protocol=2).replace(
        b"M\x00\x0c", b"M\xff\xff"
    ),
    "a builtin": pickle.dumps({"data": print}, protocol=2),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_anything_but_arrays_lists_and_texts_is_refused(data):
    with pytest.raises(DataError, match=r"^a batch .*(fetch it again|wanted a dict)"):
        unpickle_batch(data, "a batch")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": [1, 2]}, "no images of 3,072 bytes"),
        ({"data": np.zeros((4, 3071), dtype=np.uint8)}, "no images of 3,072 bytes"),
        ({"data": np.zeros((4, 3072), dtype=np.int64)}, "no images of 3,072 bytes"),
        ({"labels": "0123"}, "no list of whole numbers"),
        ({"labels": [0, 1, True, 2]}, "no list of whole numbers"),
    ],
)
def test_batches_that_hold_no_images_are_refused(monkeypatch, tmp_path, change, words):
    made = cifar(monkeypatch, tmp_path, {"one": pickle.dumps(batch(**change))})
    with pytest.raises(DataError, match=words):
        read_cifar(made, tmp_path, "train")


def test_svhn_is_read_by_value_and_checked(monkeypatch, tmp_path):
    from scipy.io import savemat

    pixels = np.arange(32 * 32 * 3 * 2).reshape(32, 32, 3, 2).astype(np.uint8)
    savemat(tmp_path / "train.mat", {"X": pixels, "y": np.array([[10], [4]], dtype=np.uint8)})
    digest = hashlib.md5((tmp_path / "train.mat").read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.SVHN, "split_list", {"train": ["", "train.mat", digest]})
    found = read_svhn(datasets.SVHN, tmp_path, "train", official=True)
    assert np.array_equal(found.data, pixels.transpose(3, 2, 0, 1)) and found.targets.tolist() == [
        0,
        4,
    ]
    theirs = datasets.SVHN(str(tmp_path))
    assert np.array_equal(theirs.data, found.data) and theirs.labels.tolist() == [0, 4]
    monkeypatch.setattr(datasets.SVHN, "split_list", {"train": ["", "train.mat", "0" * 32]})
    with pytest.raises(DataError, match="its MD5 is"):
        read_svhn(datasets.SVHN, tmp_path, "train", official=True)
    assert len(read_svhn(datasets.SVHN, tmp_path, "train", official=False).data) == 2
