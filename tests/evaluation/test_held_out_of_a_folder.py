"""A set learned from a folder, or from a data set of Python, is tested on images it was not learned
from."""

import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, TensorDataset

import datadistill as dd
from datadistill.data import RealData, load_folder
from datadistill.errors import DataError
from datadistill.evaluation.own_data import load_own_data

TINY = dd.DistillConfig(
    net="mlp",
    net_args={"width": 4},
    theta_0="random",
    init="default",
    ipc=1,
    epochs=1,
    iterations=1,
    batch=8,
    nets=1,
    validate_every=1,
    validate_nets=1,
)


@pytest.fixture(scope="module")
def folder_and_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "birds"
    draw = np.random.default_rng(0)
    for k, name in enumerate(("jay", "wren")):
        (folder / name).mkdir(parents=True)
        for i in range(15):
            pixels = (draw.integers(0, 128, (4, 4, 3)) + 100 * k).astype("uint8")
            Image.fromarray(pixels).save(folder / name / f"{i:03}.png")
    config = TINY.with_changes(dataset="folder", data=str(folder), size=4)
    return folder, dd.distill(config)


@pytest.fixture
def birds(folder_and_set, tmp_path):
    return shutil.copytree(folder_and_set[0], tmp_path / "birds"), folder_and_set[1]


def accuracy(d, folder):
    data = load_own_data(d, folder=folder)
    return dd.evaluate(d, data=data, nets=2, plain_nets=0).accuracy_mean, data.test.images


def add(folder):
    shutil.copy(folder / "jay" / "000.png", folder / "jay" / "zzz.png")


def rename(folder):
    (folder / "jay" / "000.png").rename(folder / "jay" / "zzz.png")


@pytest.mark.parametrize("change, said", [(add, 1), (rename, 0)])
def test_accuracy_stays_where_a_file_is_added_or_renamed(birds, change, said):
    folder, d = birds
    before, images = accuracy(d, folder)
    change(folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        after, now = accuracy(d, folder)
    assert after == before and torch.equal(images, now)
    assert sum("left out" in str(w.message) for w in caught) == said


def test_an_edited_file_is_refused_with_the_count(birds):
    folder, d = birds
    Image.new("RGB", (4, 4)).save(folder / "jay" / "000.png")
    with pytest.raises(DataError, match=r"^1 of the 30 images"):
        load_own_data(d, folder=folder)


def test_the_record_goes_through_the_file(birds, tmp_path):
    folder, d = birds
    d.save(tmp_path / "d.safetensors")
    loaded = dd.DistilledDataset.load(tmp_path / "d.safetensors")
    assert accuracy(loaded, folder)[0] == accuracy(d, folder)[0]
    assert (
        load_own_data(loaded, folder=folder).fingerprint == load_folder(folder, size=4).fingerprint
    )


def test_a_set_without_the_record_says_so(birds):
    folder, d = birds
    old = d.to("cpu")
    old.data = replace(old.data, parts=None)
    with pytest.warns(UserWarning, match="does not say which images of .* were held out"):
        data = load_own_data(old, folder=folder)
    assert torch.equal(data.test.images, load_own_data(d, folder=folder).test.images)


LEAK = r"\d+ of the 7 test images of birds are some that the set was learned from"


def test_a_folder_read_anew_is_refused_where_it_leaks(birds):
    folder, d = birds
    for i in range(3):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(folder / "jay" / f"00{i}a.png")
    data = load_folder(folder, normalization=d.normalization)
    net = d.net.build()
    refused = {
        "evaluate": lambda: dd.evaluate(d, data=data, nets=1, plain_nets=0),
        "compare": lambda: dd.compare(d, data=data, nets=1),
        "finetune": lambda: dd.finetune(d, net, data=data, reach=False),
    }
    for call in refused.values():
        with pytest.raises(DataError, match=LEAK):
            call()
    assert not data.test_was_read
    with pytest.raises(DataError, match="validation images of birds"):
        dd.evaluate(
            d, data=load_folder(folder, normalization=d.normalization), split="validation", nets=1
        )


def test_a_data_set_of_python_that_grew_is_refused():
    x = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    pairs = TensorDataset(x, torch.arange(30) % 2)
    first = RealData.from_dataset(pairs)
    d = dd.distill(TINY, data=first)
    assert dd.evaluate(d, data=first, nets=1, plain_nets=0).split == "test"
    grown = ConcatDataset([TensorDataset(torch.rand(1, 1, 4, 4), torch.tensor([0])), pairs])
    with pytest.raises(
        DataError, match="test images of custom are some that the set was learned from"
    ):
        dd.evaluate(d, data=RealData.from_dataset(grown), nets=1, plain_nets=0)


def test_the_same_run_gives_the_same_file(birds, tmp_path):
    folder, d = birds
    again = dd.distill(TINY.with_changes(dataset="folder", data=str(folder), size=4))
    for name, one in {"a": d, "b": again}.items():
        one.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_validation_images_of_other_tensors_are_refused():
    x, y = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    first = RealData.from_tensors(x, y, test_images=x, test_labels=y)
    grown = RealData.from_tensors(x[:38], y[:38], test_images=x, test_labels=y)
    d = dd.distill(TINY, data=first)
    for data, split in ((first, "validation"), (first, "test"), (grown, "test"), (grown, "train")):
        assert dd.evaluate(d, data=data, split=split, nets=1, plain_nets=0).split == split
    with pytest.raises(DataError, match="not the ones that the set was learned from"):
        dd.evaluate(d, data=grown, split="validation", nets=1, plain_nets=0)


def test_data_that_are_normalized_otherwise_are_refused():
    d = dd.distill(dd.recipe("digits-random").with_changes(iterations=1, device="cpu"))
    assert dd.evaluate(d, nets=1, plain_nets=0, data=dd.load("digits")).nets == 1
    with pytest.raises(DataError, match=r"normalized by mean \(0.1,\) and deviation \(0.9,\)"):
        dd.evaluate(d, nets=1, plain_nets=0, data=dd.load("digits", normalization="0.1/0.9"))
