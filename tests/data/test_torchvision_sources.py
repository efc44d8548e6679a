"""Data sets that torchvision reads: found, missing, damaged, downloaded. No network is used."""

import bz2
import os
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from datadistill.data import data_roots, load
from datadistill.data.torchvision_sources import SETS
from datadistill.errors import DataError, ResourceError, Unavailable

HERE = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
PLACES = [
    Path(part) for part in os.environ.get("DATADISTILL_DATA", "").split(os.pathsep) if part
] + [HERE]


def present(name):
    """The first place that holds all files of a set, or skip."""
    for place in PLACES:
        if all((place / file).is_file() for file in SETS[name].files):
            return place
    pytest.skip(f"{name} is not in $DATADISTILL_DATA nor in ../shared/data")


@pytest.mark.parametrize(
    "name, counts, shape",
    [
        ("mnist", (55000, 5000, 10000), (1, 28, 28)),
        ("usps", (6562, 729, 2007), (1, 16, 16)),
        ("svhn-grey", (13336, 1482, 5000), (3, 32, 32)),
    ],
)
def test_real_files(name, counts, shape):
    data = load(name, root=present(name))
    assert (len(data.train), len(data.validation)) == counts[:2] and not data.test_was_read
    assert len(data.test) == counts[2] and data.shape == shape
    assert data.train.images[:1000].mean().abs() < 0.2
    shares = [torch.bincount(split.labels) / len(split) for split in (data.train, data.validation)]
    assert (shares[0] - shares[1]).abs().max() < 1 / counts[1]
    assert not {i.numpy().tobytes() for i in data.validation.images} & {
        i.numpy().tobytes() for i in data.test.images
    }


def fake_usps(root, train=7291, test=2007):
    """Files in USPS's format, with one value a row set."""
    for file, count in (("usps.bz2", train), ("usps.t.bz2", test)):
        values = " ".join(f"{i}:-1" for i in range(1, 256))
        lines = [f"{k % 10 + 1} {values} 256:{k % 7 / 6:.3f}" for k in range(count)]
        (root / file).write_bytes(bz2.compress("\n".join(lines).encode(), 1))


class FakeUSPS:
    """Stands for torchvision's class: small arrays of the right length."""

    opened: ClassVar[list] = []

    def __init__(self, root, train=True, download=False):
        self.opened.append((Path(root), train, download))
        if download:
            for file in SETS["usps"].files:
                (Path(root) / file).write_bytes(b"x")
        n = 7291 if train else 2007
        self.data, self.targets = (
            np.zeros((n, 16, 16), np.uint8) + np.arange(n)[:, None, None].astype(np.uint8),
            list(np.arange(n) % 10),
        )


@pytest.fixture
def fake(monkeypatch):
    datasets = pytest.importorskip("torchvision").datasets
    monkeypatch.setattr(datasets, "USPS", FakeUSPS)
    monkeypatch.setattr(FakeUSPS, "opened", [])
    return FakeUSPS


@pytest.mark.parametrize(
    "name, title", [("cifar10", "CIFAR-10"), ("usps", "USPS"), ("fashion-mnist", "Fashion-MNIST")]
)
def test_a_set_that_is_not_there_names_the_offline_default(tmp_path, name, title):
    with pytest.raises(Unavailable) as error:
        load(name, root=[tmp_path, tmp_path])
    sentence = str(error.value)
    assert sentence.startswith(f"{title} was not found under {tmp_path}, {tmp_path} and")
    for word in ("download=False", "data_root", "mnist5k"):
        assert word in sentence
    assert error.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []


def test_svhn_grey_cannot_be_fetched(tmp_path):
    with pytest.raises(Unavailable, match=r"cannot be fetched.*mnist5k"):
        load("svhn-grey", root=tmp_path, download=True)


def test_a_failed_download_leaves_nothing_behind(tmp_path, fake, monkeypatch):
    def broken(self, root, train=True, download=False):
        (Path(root) / "usps.bz2").write_bytes(b"half a fi")
        raise OSError("no route to host")

    monkeypatch.setattr(FakeUSPS, "__init__", broken)
    with pytest.raises(
        Unavailable,
        match=r"USPS was not found under .* could not be fetched \(OSError: no route.*mnist5k",
    ):
        load("usps", root=tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_resource_error(tmp_path, fake, monkeypatch):
    def full(self, root, train=True, download=False):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FakeUSPS, "__init__", full)
    with pytest.raises(ResourceError, match="full"):
        load("usps", root=tmp_path, download=True)


def test_a_download_goes_to_the_first_root(tmp_path, fake):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    data = load("usps", root=[first, second], download=True)
    assert sorted(path.name for path in first.iterdir()) == ["usps.bz2", "usps.t.bz2"]
    assert list(second.iterdir()) == [] and len(data.train) == 6562
    assert fake.opened[-1] == (first, True, False)
    assert len(data.test) == 2007 and fake.opened[-1] == (first, False, False)


def test_the_default_cache_folder_is_made_when_needed(tmp_path, fake, monkeypatch):
    monkeypatch.delenv("DATADISTILL_DATA", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    assert data_roots() == [tmp_path / "cache" / "datadistill"]
    load("usps", download=True)
    assert (tmp_path / "cache" / "datadistill" / "usps.bz2").is_file()


def test_the_second_root_is_searched_and_the_test_part_waits(tmp_path, fake):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    for file in SETS["usps"].files:
        (second / file).write_bytes(b"x")
    data = load("usps", root=[first, second], download=True)
    assert fake.opened == [(second, True, False)]
    assert len(data.test) == 2007 and fake.opened[1:] == [(second, False, False)]


def test_half_a_set_is_incomplete(tmp_path):
    (tmp_path / "usps.bz2").write_bytes(b"x")
    with pytest.raises(DataError, match=r"incomplete: usps\.bz2 is there, usps\.t\.bz2 is not"):
        load("usps", root=tmp_path)


def test_an_archive_that_was_not_unpacked(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"cifar-10-python\.tar\.gz is there, cifar-10-batches-py/data_batch_1"
    ):
        load("cifar10", root=tmp_path)


def test_a_truncated_file_is_damaged(tmp_path):
    pytest.importorskip("torchvision")
    fake_usps(tmp_path, 20, 20)
    path = tmp_path / "usps.bz2"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"USPS under .* is damaged.*delete its files"):
        load("usps", root=tmp_path)


def test_a_set_of_the_wrong_length_is_damaged(tmp_path):
    pytest.importorskip("torchvision")
    fake_usps(tmp_path, 20, 20)
    with pytest.raises(DataError, match=r"20 images.*train part; wanted 7,291"):
        load("usps", root=tmp_path)


def test_pickles_with_the_wrong_checksum_are_not_opened(tmp_path):
    pytest.importorskip("torchvision")
    canary = tmp_path / "canary"
    import pickle

    class Hostile:
        def __reduce__(self):
            return (canary.write_text, ("opened",))

    for file in SETS["cifar10"].files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(DataError, match="damaged"):
        load("cifar10", root=tmp_path)
    assert not canary.exists()


def test_roots(tmp_path, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    monkeypatch.setenv("DATADISTILL_DATA", os.pathsep.join([str(one), "", str(two)]))
    assert data_roots() == [one, two]
    assert data_roots(two) == [two] and data_roots([two, str(one)]) == [two, one]
    with pytest.raises(DataError, match=r"three does not exist.*given"):
        data_roots(tmp_path / "three")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DATADISTILL_DATA", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"is not a folder.*DATADISTILL_DATA"):
        data_roots()
