"""Images in arrays, lists, other layouts and dtypes; torch's modes and defaults; pickling."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from datadistill.data import RealData, load, load_folder
from datadistill.errors import DataError, Unavailable, UsageError

X = torch.randint(
    0, 256, (30, 3, 6, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
Y = torch.arange(30) % 3
PLAIN = RealData.from_tensors(X, Y, test_images=X[:6], test_labels=Y[:6])
UNIT = X.float() / 255

SAME = {
    "array": X.numpy(),
    "reversed array": X.numpy()[::-1, :, ::-1][::-1, :, ::-1],
    "Fortran order": np.asfortranarray(X.numpy()),
    "list of tensors": list(X),
    "list of arrays": list(X.numpy()),
    "nested lists of floats": UNIT.tolist(),
    "float": UNIT,
    "double": X.double() / 255,
    "big-endian floats": UNIT.numpy().astype(">f4"),
    "channels-last memory": X.to(memory_format=torch.channels_last),
    "parameter": torch.nn.Parameter(UNIT),
    "sparse": X.to_sparse(),
}


@pytest.mark.parametrize("form", SAME)
def test_images_of_every_form_make_the_same_data(form):
    images = SAME[form]
    data = RealData.from_tensors(images, Y, test_images=images, test_labels=Y)
    assert data.fingerprint == PLAIN.fingerprint
    assert torch.equal(data.test.images[:6], PLAIN.test.images)
    assert not data.train.images.requires_grad


@pytest.mark.parametrize("dtype, error", [(torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
def test_half_images_agree_to_their_precision(dtype, error):
    data = RealData.from_tensors(
        UNIT.to(dtype), Y, test_images=X, test_labels=Y, normalization=PLAIN.normalization
    )
    assert data.train.images.dtype == torch.float32
    worst = (data.train.images - PLAIN.train.images).abs().max()
    assert worst <= error / min(PLAIN.normalization.std)


def test_items_that_are_arrays_are_read():
    data = RealData.from_dataset([(x.numpy(), y) for x, y in zip(X, Y, strict=True)])
    assert data.fingerprint == RealData.from_dataset(TensorDataset(X, Y)).fingerprint


@pytest.mark.parametrize(
    "images, error, words",
    [
        (
            X.permute(0, 2, 3, 1),
            DataError,
            r"\(30, 6, 8, 3\) look like \(height, width, channels\).*permute",
        ),
        (X.permute(0, 2, 3, 1).numpy(), DataError, "permute"),
        (X[:, :1].permute(0, 2, 3, 1), DataError, "permute"),
        (X.bool(), DataError, "torch.bool"),
        (X.short(), DataError, "torch.int16"),
        (X.numpy().astype(np.uint16), DataError, "torch.uint16"),
        (UNIT + 0j, DataError, "complex64"),
        ([X[0], X[1, :, :5]] * 15, DataError, "several shapes"),
        ([[1.0], [1.0, 2.0]], DataError, "make no array"),
        (np.array(["a"] * 30), UsageError, "<U1"),
        ("images", UsageError, "a str"),
        (None, UsageError, "a NoneType"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, error, words):
    with pytest.raises(error, match=words):
        RealData.from_tensors(images, Y, test_images=X, test_labels=Y)
    with pytest.raises(error, match=words):
        RealData.from_tensors(X, Y, test_images=images, test_labels=Y)


def test_items_with_channels_last_are_refused():
    with pytest.raises(DataError, match=r"item 0 .*\(6, 8, 3\) look like.*permute\(2, 0, 1\)"):
        RealData.from_dataset(TensorDataset(X.permute(0, 2, 3, 1), Y))


def test_many_channels_are_taken_where_they_are_said():
    images = torch.rand(30, 22, 50, 1)
    data = RealData.from_tensors(images, Y, test_images=images, test_labels=Y, channels=22)
    assert data.shape == (22, 50, 1)


@pytest.mark.parametrize("options", [{"size": 5}, {"channels": 1}])
def test_options_that_contradict_a_normalization_are_refused(options):
    options = {"normalization": PLAIN.normalization, **options}
    with pytest.raises(UsageError, match="contradict the normalization"):
        RealData.from_tensors(X, Y, test_images=X, test_labels=Y, **options)
    with pytest.raises(UsageError, match="contradict the normalization"):
        RealData.from_dataset(TensorDataset(X, Y), **options)


@pytest.mark.parametrize(
    "options, error, words",
    [
        (
            {"normalization": "mean-std"},
            UsageError,
            r"normalization is .*; wanted .*a Normalization, such as",
        ),
        ({"device": "nonsense"}, UsageError, "'nonsense' is unknown"),
        ({"device": "cuda:99"}, Unavailable, "cuda:99 is not on this machine"),
    ],
)
def test_options_of_no_sense_are_refused(options, error, words, tmp_path):
    doors = [
        lambda: RealData.from_tensors(X, Y, test_images=X, test_labels=Y, **options),
        lambda: RealData.from_dataset(TensorDataset(X, Y), **options),
        lambda: load_folder(folder(tmp_path), **options),
    ]
    for door in doors:
        with pytest.raises(error, match=words):
            door()


# --- torch's modes and defaults


def folder(tmp_path):
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.fromarray(X[4 * k + i].permute(1, 2, 0).numpy()).save(
                tmp_path / name / f"{i}.png"
            )
    return tmp_path


def made(tmp_path):
    """The same data by every door, each with its test part read."""
    directory = folder(tmp_path)
    return [
        load("digits"),
        load("mnist5k", size=8),
        load_folder(directory, size=8),
        RealData.from_tensors(X.clone(), Y, test_images=X.clone(), test_labels=Y),
        RealData.from_dataset(TensorDataset(X.clone(), Y.clone())),
        PLAIN.to("cpu"),
    ]


MODES = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


@pytest.mark.parametrize("mode", MODES)
def test_loaders_make_ordinary_tensors_under(mode, tmp_path):
    with MODES[mode]():
        for data in made(tmp_path):
            for split in (data.train, data.validation, data.test):
                assert not split.images.is_inference() and not split.labels.is_inference()
                assert not split.images.requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_loaders_make_the_same_data_under_a_default_dtype_of(dtype, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    plain = [data.fingerprint for data in made(tmp_path / "a")]
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        found = made(tmp_path / "b")
        assert [data.fingerprint for data in found] == plain
        assert {data.test.images.dtype for data in found} == {torch.float32}
    finally:
        torch.set_default_dtype(before)


# --- pickling


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data))])
def test_copies_are_the_same_data_with_the_test_part_unread(copied, tmp_path):
    for data in made(tmp_path):
        twin = copied(data)
        assert twin.test_was_read == data.test_was_read
        assert twin.fingerprint == data.fingerprint and twin.classes == data.classes
        assert torch.equal(twin.test.images, data.test.images)
        assert torch.equal(twin.test.labels, data.test.labels)


def test_data_of_a_data_set_that_cannot_be_pickled_can():
    images = [(x, y, lambda: None) for x, y in zip(X, Y, strict=True)]
    for data in (RealData.from_dataset(images), RealData.from_dataset(images, images)):
        twin = pickle.loads(pickle.dumps(data))
        assert torch.equal(twin.test.images, data.test.images)


def test_a_folder_is_read_from_another_working_directory(tmp_path, monkeypatch):
    folder(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    data = load_folder(tmp_path.name, size=8)
    monkeypatch.chdir("/")
    assert len(data.test) == 2


def _told(data, queue):
    queue.put((data.fingerprint, data.test.labels.tolist()))


def test_a_spawned_worker_gets_the_data():
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    worker = context.Process(target=_told, args=(PLAIN, queue))
    worker.start()
    found = queue.get()
    worker.join()
    assert found == (PLAIN.fingerprint, Y[:6].tolist())
