"""Class names from every container and wrapper, and test labels that go by name."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)
from torchvision.datasets import ImageFolder

from datadistill.data import RealData, load_folder
from datadistill.data.naming import class_names
from datadistill.errors import DataError, UsageError

NAMES = ("cat", "dog", "eel")
SHADE = {"cat": 0.0, "dog": 0.5, "eel": 1.0}
INDEX = {"dog": 1, "eel": 2, "cat": 0}


class Pets:
    """Images whose shade tells the class: 30 items whose labels are places in `names`."""

    def __init__(self, names=NAMES, **attributes):
        self.names = names
        for name, value in attributes.items():
            setattr(self, name, value)

    def __len__(self):
        return 30

    def __getitem__(self, i):
        label = i % len(self.names)
        change = getattr(self, "target_transform", None)
        return torch.full((1, 4, 4), SHADE[self.names[label]]), change(label) if change else label


def named(names=NAMES):
    return Pets(names, classes=list(names))


def right(data, split="test"):
    """Whether each image of a split has the label of its shade."""
    part = data.split(split)
    shades = data.normalization.inverse(part.images)[:, 0, 0, 0]
    wanted = torch.tensor([SHADE[data.classes[k]] for k in part.labels])
    return bool(((shades - wanted).abs() < 1e-3).all())


CONTAINERS = {
    "list": list(NAMES),
    "array": np.array(NAMES),
    "object array": np.array(NAMES, dtype=object),
    "generator": (name for name in NAMES),
    "names to labels": INDEX,
    "labels to names": {1: "dog", 2: "eel", 0: "cat"},
    "labels to names, numpy": {np.int64(1): "dog", np.int64(2): "eel", np.int64(0): "cat"},
    "keys of a dict": dict.fromkeys(NAMES).keys(),
    "bytes": [name.encode() for name in NAMES],
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_names_come_from_every_container(container):
    assert class_names(CONTAINERS[container]) == NAMES


def test_names_come_from_a_pandas_index():
    pandas = pytest.importorskip("pandas")
    assert class_names(pandas.Index(NAMES)) == class_names(pandas.Series(NAMES)) == NAMES


def test_a_number_of_classes_gives_numbers():
    assert class_names(3) == class_names(np.int64(3)) == ("0", "1", "2")


def test_synonyms_become_one_name():
    assert class_names([("tench", "Tinca tinca"), ("goldfish",)]) == (
        "tench, Tinca tinca",
        "goldfish",
    )


@pytest.mark.parametrize(
    "classes, words",
    [
        ("cat", "names in label order"),
        ({"cat", "dog"}, "names in label order"),
        ({"cat": 0, "dog": 2}, "each once"),
        ({"cat": 0, "dog": 0}, "each once"),
        (0, "1 or more"),
        (2.5, "names in label order"),
    ],
)
def test_what_names_no_classes_is_refused(classes, words):
    with pytest.raises(UsageError, match=words):
        class_names(classes)


x, y = torch.rand(30, 1, 4, 4), torch.arange(30) % 3


@pytest.mark.parametrize(
    "names, words",
    [
        (["cat", "dog", "cat"], "two classes of the name 'cat'"),
        (["caf\u00e9", "dog", "cafe\u0301"], "the same text"),
        (["cat", " ", "dog"], "empty name for class 1"),
        (["cat", "dog", "caf\udce9"], "no UTF-8"),
    ],
)
def test_equal_and_empty_names_are_refused(names, words):
    with pytest.raises(DataError, match=words):
        RealData.from_tensors(x, y, test_images=x, test_labels=y, classes=names)


def test_names_that_differ_in_case_only_are_two():
    data = RealData.from_tensors(x, y, test_images=x, test_labels=y, classes=["cat", "Cat", "CAT"])
    assert data.classes == ("cat", "Cat", "CAT")


def test_equal_folder_names_are_refused(tmp_path):
    for name in ("caf\u00e9", "cafe\u0301"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("L", (4, 4)).save(tmp_path / name / f"{i}.png")
    with pytest.raises(DataError, match="the same text"):
        load_folder(tmp_path)


# --- test labels go by name


@pytest.mark.parametrize(
    "names", [("eel", "dog", "cat"), ("cat", "eel"), ("eel",), ("dog", "eel", "cat")]
)
def test_test_labels_go_by_name(names):
    assert right(RealData.from_dataset(named(), named(names)))


def test_names_go_by_class_to_idx_where_there_is_one():
    test = Pets(("eel", "cat", "dog"), class_to_idx={"cat": 1, "dog": 2, "eel": 0})
    assert right(RealData.from_dataset(named(), test))


def test_class_to_idx_decides_over_a_list_in_another_order():
    test = Pets(
        ("eel", "cat", "dog"), classes=list(NAMES), class_to_idx={"cat": 1, "dog": 2, "eel": 0}
    )
    assert right(RealData.from_dataset(named(), test))


def test_names_given_for_display_do_not_change_the_mapping():
    data = RealData.from_dataset(named(), named(("eel", "cat")), classes=["Katze", "Hund", "Aal"])
    assert data.classes == ("Katze", "Hund", "Aal") and data.test.labels[:2].tolist() == [2, 0]


def test_given_names_are_compared_where_there_are_none():
    assert right(RealData.from_dataset(Pets(), named(("eel", "cat")), classes=NAMES))


def test_a_test_set_without_names_goes_by_number():
    assert right(RealData.from_dataset(named(), Pets()))


def test_accents_of_both_spellings_are_one_name():
    a, b = Pets(), Pets(("eel", "dog", "cat"))
    a.classes, b.classes = ["caf\u00e9", "dog", "eel"], ["eel", "dog", "cafe\u0301"]
    data = RealData.from_dataset(a, b)
    assert data.test.labels[:3].tolist() == [2, 1, 0]


def test_test_labels_of_tensors_go_by_name():
    data = RealData.from_tensors(
        x, y, test_images=x, test_labels=y, classes=NAMES, test_classes=("eel", "cat", "dog")
    )
    assert data.test.labels[:3].tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    "test, words",
    [
        (Pets(("eel", "cat"), classes=["yak", "cat"]), "item 0 is of class 'yak'.*cat, dog, eel"),
        (Pets(("eel", "cat"), classes=["yak", "gnu"]), "no name in common"),
        (Pets(NAMES, classes=["cat", "dog"]), "labels from 0 to 2 but"),
        (
            Pets(NAMES, classes=["dog", "eel"]),
            "item 2 has the label 2, but its data set names 2 classes",
        ),
    ],
)
def test_test_classes_that_are_unknown_are_refused(test, words):
    train = named(("cat", "dog")) if words.startswith("labels") else named()
    with pytest.raises(DataError, match=words):
        RealData.from_dataset(train, test)


def test_an_image_folder_lacking_a_class_has_right_labels(tmp_path):
    for part, names in (("train", NAMES), ("test", ("cat", "eel"))):
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(4):
                Image.new("L", (4, 4), round(255 * SHADE[name])).save(
                    tmp_path / part / name / f"{i}.png"
                )
    train, test = (ImageFolder(str(tmp_path / part)) for part in ("train", "test"))
    data = RealData.from_dataset(train, test, channels=1)
    assert data.classes == NAMES and data.test.labels.tolist() == [0] * 4 + [2] * 4 and right(data)


# --- through wrappers

WRAPPED = {
    "subset": lambda d: Subset(d, range(24)),
    "subset of a subset": lambda d: Subset(Subset(d, range(3, 30)), range(3, 24)),
    "random split": lambda d: random_split(d, [24, 6], torch.Generator().manual_seed(0))[0],
    "joined": lambda d: ConcatDataset([d, Subset(d, range(9))]),
    "loader": lambda d: DataLoader(d, batch_size=4, shuffle=True),
    "loader of a subset": lambda d: DataLoader(Subset(d, range(24)), batch_size=4),
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_names_come_through_wrappers(wrapper):
    data = RealData.from_dataset(WRAPPED[wrapper](named()), WRAPPED[wrapper](named(("eel", "cat"))))
    assert data.classes == NAMES and right(data) and right(data, "train")


def test_joined_sets_with_other_orders_get_one_list():
    joined = ConcatDataset([named(("cat", "dog")), Subset(named(("eel", "dog", "cat")), range(12))])
    data = RealData.from_dataset(joined)
    assert data.classes == ("cat", "dog", "eel")
    assert all(right(data, split) for split in ("train", "validation", "test"))


def test_a_sampler_of_a_subset_is_obeyed():
    loader = DataLoader(named(), batch_size=4, sampler=SubsetRandomSampler(range(0, 24)))
    data = RealData.from_dataset(loader)
    assert len(data.train) + len(data.validation) + len(data.test) == 24


@pytest.mark.parametrize(
    "loader, words",
    [
        (DataLoader(named(), collate_fn=lambda items: items), "collate_fn of its own"),
        (
            DataLoader(named(), sampler=WeightedRandomSampler([1.0] * 30, 30)),
            "WeightedRandomSampler",
        ),
    ],
)
def test_a_loader_that_changes_what_it_loads_is_refused(loader, words):
    with pytest.raises(UsageError, match=words):
        RealData.from_dataset(loader)


def test_names_follow_a_target_transform():
    turned = Pets(classes=list(NAMES), target_transform=lambda k: 2 - k)
    data = RealData.from_dataset(turned, named())
    assert data.classes == ("eel", "dog", "cat") and right(data) and right(data, "train")


def test_a_target_transform_that_joins_classes_joins_their_names():
    joined = Pets(classes=list(NAMES), target_transform=lambda k: k // 2)
    assert RealData.from_dataset(joined).classes == ("cat+dog", "eel")
    with pytest.raises(DataError, match="item 0 is of class 'cat'"):
        RealData.from_dataset(joined, named())


def test_the_placeholder_of_emnist_is_no_class():
    letters = Pets(target_transform=None, classes=["N/A", *NAMES])
    letters.__class__ = type(
        "Letters", (Pets,), {"__getitem__": lambda self, i: _from_one(self, i)}
    )
    data = RealData.from_dataset(letters, named())
    assert data.classes == NAMES and right(data) and right(data, "train")


def _from_one(self, i):
    image, label = Pets.__getitem__(self, i)
    return image, label + 1


def test_attributes_that_name_no_classes_are_passed_over():
    assert RealData.from_dataset(Pets(classes=None)).classes == ("0", "1", "2")
    assert RealData.from_dataset(Pets(classes=lambda: NAMES)).classes == ("0", "1", "2")
    assert RealData.from_dataset(TensorDataset(x, y)).classes == ("0", "1", "2")
