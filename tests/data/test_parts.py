"""The parts of a folder, and of a data set, are found again by content."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from datadistill.data import RealData, load_folder
from datadistill.data.parts import Parts
from datadistill.errors import DataError

PARTS = ("train", "validation", "test")


@pytest.fixture
def birds(tmp_path):
    noise = np.random.default_rng(0)
    for name in ("jay", "wren"):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for i in range(20):
            pixels = noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "birds" / name / f"{i:03}.png")
    return tmp_path / "birds"


def again(folder, first):
    """The folder as it is now, in the parts of then."""
    return load_folder(folder, normalization=first.normalization, parts=first.parts.as_dict())


def equal(a, b):
    return all(
        torch.equal(a.split(part).images, b.split(part).images)
        and torch.equal(a.split(part).labels, b.split(part).labels)
        for part in PARTS
    )


def rename(birds):
    (birds / "jay" / "000.png").rename(birds / "jay" / "zzz.png")


def rename_all(birds):
    for n, path in enumerate(sorted(birds.glob("*/*.png"), key=lambda path: path.read_bytes())):
        path.rename(path.with_name(f"x{n}.png"))


def swap(birds):
    one, other, aside = (birds / "jay" / name for name in ("000.png", "019.png", "aside"))
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def nothing(birds):
    pass


@pytest.mark.parametrize("change", [nothing, rename, rename_all, swap])
def test_renamed_files_stay_in_their_parts_and_order(birds, change):
    first = load_folder(birds, size=8)
    assert first.test is not None  # read before the files change
    change(birds)
    assert equal(again(birds, first), first)


def add_copy(birds):
    shutil.copy(birds / "jay" / "000.png", birds / "jay" / "000a.png")


def add_other(birds):
    Image.new("RGB", (8, 8)).save(birds / "wren" / "000a.png")


def add_to_all(birds):
    for name in ("jay", "wren"):
        for i in range(7):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(birds / name / f"00{i}a.png")


@pytest.mark.parametrize("change, count", [(add_copy, 1), (add_other, 1), (add_to_all, 14)])
def test_newer_files_are_left_out_with_a_warning(birds, change, count):
    first = load_folder(birds, size=8)
    change(birds)
    with pytest.warns(UserWarning, match=rf"^{count} image\(s\).*left out"):
        found = again(birds, first)
    assert equal(found, first) and f"{count} newer left out" in found.description


def edit(path):
    Image.new("RGB", (8, 8), "white").save(path)


def remove(path):
    path.unlink()


def move(path):
    other = {"jay": "wren", "wren": "jay"}[path.parent.name]
    path.rename(path.parent.parent / other / f"moved-{path.name}")


@pytest.mark.parametrize("change", [edit, remove, move])
@pytest.mark.parametrize("count", [1, 4])
def test_images_that_are_gone_are_counted(birds, change, count):
    first = load_folder(birds, size=8)
    for path in sorted((birds / "jay").iterdir())[:count]:
        change(path)
    with pytest.raises(DataError, match=rf"^{count} of the 40 images"):
        again(birds, first)


def test_a_file_changed_before_the_test_part_is_read_is_named(birds):
    data = load_folder(birds, size=8)
    for path in birds.glob("*/*.png"):
        edit(path)
    with pytest.raises(DataError, match=r"\.png has changed since"):
        _ = data.test


def test_equal_files_are_in_as_many_parts_as_before(birds):
    for i in range(1, 6):
        shutil.copy(birds / "jay" / "000.png", birds / "jay" / f"00{i}.png")
    first = load_folder(birds, size=8)
    assert equal(again(birds, first), first)


def test_the_record_names_no_file_and_comes_back(birds):
    parts = load_folder(birds, size=8).parts
    assert Parts.from_dict(parts.as_dict()) == parts
    assert {name: len(text) for name, text in parts.as_dict().items()} == {
        "train": 29 * 8,
        "validation": 3 * 8,
        "test": 8 * 8,
    }
    moved = shutil.copytree(birds, birds.parent / "elsewhere")
    assert load_folder(moved, size=8).parts == parts


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {"train": ""},
        {"train": "", "validation": "", "test": "", "more": ""},
        {"train": "short", "validation": "", "test": ""},
        {"train": 5, "validation": "", "test": ""},
        {"train": "abcdefg\x1b", "validation": "", "test": ""},
        {"train": "abcdefg\n", "validation": "", "test": ""},
    ],
)
def test_a_record_that_is_none_is_refused(values):
    with pytest.raises(DataError, match="record"):
        Parts.from_dict(values)


# --- data sets from Python

X = torch.rand(40, 1, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40) % 2
FIRST = RealData.from_dataset(TensorDataset(X, Y))


def seen(dataset, part="test", **options):
    other = RealData.from_dataset(dataset, **options)
    return FIRST.parts.count_seen(getattr(other.parts, part), part)


def test_the_same_data_set_leaks_nothing():
    assert [seen(TensorDataset(X, Y), part) for part in ("test", "validation")] == [0, 0]


def test_a_grown_data_set_may_hold_out_learned_images():
    grown = ConcatDataset([TensorDataset(torch.rand(1, 1, 6, 6), Y[:1]), TensorDataset(X, Y)])
    other = RealData.from_dataset(grown)
    same = FIRST.normalization(other.normalization.inverse(other.test.images).clamp(0, 1))
    learned = torch.cat([FIRST.train.images, FIRST.validation.images])
    near = torch.cdist(same.flatten(1), learned.flatten(1))
    assert seen(grown) == int((near.min(1).values < 0.1).sum()) > 0


def test_another_seed_holds_out_images_that_were_learned_from():
    assert seen(TensorDataset(X, Y), seed=1) > 0


def test_an_image_of_another_class_is_another_image():
    assert seen(TensorDataset(X, 1 - Y), seed=1) == 0


def test_a_part_of_the_held_out_images_leaks_nothing():
    tested = {image.numpy().tobytes() for image in FIRST.test.images}
    held_out = [i for i, x in enumerate(X) if FIRST.normalization(x).numpy().tobytes() in tested]
    assert seen(Subset(TensorDataset(X, Y), held_out), holdout=0.5) == 0


def test_rounding_makes_no_other_image():
    assert FIRST.parts == RealData.from_dataset(TensorDataset((X.double() + 1e-9).float(), Y)).parts


def test_a_test_set_of_its_own_needs_no_record():
    assert RealData.from_dataset(TensorDataset(X, Y), TensorDataset(X, Y)).parts is None
    assert RealData.from_tensors(X, Y, test_images=X, test_labels=Y).parts is None
