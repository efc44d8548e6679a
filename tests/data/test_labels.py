"""Labels of every type that holds class numbers, and those that hold none."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import TensorDataset

from datadistill.data import RealData
from datadistill.data.labels import class_number, class_numbers
from datadistill.errors import DataError

X = torch.randint(
    0, 256, (30, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
Y = torch.arange(30) % 3
WIDE = [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.uint64]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

FORMS = {
    **{str(dtype): Y.to(dtype) for dtype in (*WIDE, *FLOATS)},
    "column": Y[:, None],
    "float column": Y[:, None].double(),
    "one-hot integers": F.one_hot(Y, 3),
    "one-hot floats": F.one_hot(Y, 3).float(),
    "one-hot booleans": F.one_hot(Y, 3).bool(),
    "sparse one-hot": F.one_hot(Y, 3).to_sparse(),
    "array": Y.numpy(),
    "big-endian array": Y.numpy().astype(">i4"),
    "reversed array": Y.numpy()[::-1][::-1],
    "list": Y.tolist(),
    "list of floats": [float(y) for y in Y],
    "list of tensors": list(Y),
    "tuple of numpy integers": tuple(np.int16(y) for y in Y),
}


@pytest.mark.parametrize("form", FORMS)
def test_labels_of_every_form_are_the_same_class_numbers(form):
    found = class_numbers(FORMS[form], 30, "the training part")
    assert found.dtype == torch.int64 and torch.equal(found, Y)


def test_booleans_are_the_classes_0_and_1():
    assert class_numbers(Y == 1, 30, "the training part").tolist() == [int(y == 1) for y in Y]


@pytest.mark.parametrize("form", FORMS)
def test_tensors_with_labels_of_every_form_make_the_same_data(form):
    data = RealData.from_tensors(X, FORMS[form], test_images=X, test_labels=FORMS[form])
    plain = RealData.from_tensors(X, Y, test_images=X, test_labels=Y)
    assert data.fingerprint == plain.fingerprint and torch.equal(data.test.labels, Y)


@pytest.mark.parametrize("dtype", [*WIDE, *FLOATS])
def test_items_with_labels_of_every_type_make_the_same_data(dtype):
    data = RealData.from_dataset(TensorDataset(X, Y.to(dtype)))
    assert data.fingerprint == RealData.from_dataset(TensorDataset(X, Y)).fingerprint


@pytest.mark.parametrize("labels", [F.one_hot(Y, 3), F.one_hot(Y, 3).half(), Y[:, None]])
def test_items_with_vectors_for_labels_make_the_same_data(labels):
    data = RealData.from_dataset(TensorDataset(X, labels))
    assert data.fingerprint == RealData.from_dataset(TensorDataset(X, Y)).fingerprint


@pytest.mark.parametrize(
    "labels, words",
    [
        (Y + 0.5, "label 0.5 of image 0"),
        (torch.full((30,), torch.nan), "label nan of image 0"),
        (torch.full((30,), torch.inf), "label inf of image 0"),
        ([*Y[:-1].tolist(), 10**20], "to 100000000000000000000; .*renumber"),
        (np.array([*Y[:-1].tolist(), 2**64 - 1], np.uint64), "to 18446744073709551615; .*renumber"),
        (torch.full((30,), 1e30), "renumber"),
        (["cat"] * 30, "'cat'"),
        ([None] * 30, "None"),
        (F.one_hot(Y, 3) * 2, "not one-hot"),
        (torch.full((30, 3), 1 / 3), "not one-hot"),
        (torch.ones(30, 3), "not one-hot"),
        (Y.view(2, 15), r"shape \(2, 15\)"),
        (Y[:, None, None], r"shape \(30, 1, 1\)"),
        (torch.tensor(1), r"shape \(\)"),
        (Y + 0j, "complex64"),
        ([[0], [0, 1]] * 15, "make no array"),
        (Y[:7], r"shape \(7,\)"),
        (5, r"shape \(\)"),
    ],
)
def test_what_holds_no_class_numbers_is_refused(labels, words):
    with pytest.raises(DataError, match=words):
        class_numbers(labels, 30, "the training part")


@pytest.mark.parametrize(
    "label",
    ["1", b"1", None, 0.5, float("nan"), float("inf"), 10**20, [1, 1], torch.zeros(3), {}, 1j],
)
def test_one_label_that_is_no_class_number(label):
    assert class_number(label) is None


@pytest.mark.parametrize(
    "label", [True, 1, 1.0, np.uint16(1), torch.tensor([1]), np.array([0, 1]), [0.0, 1.0]]
)
def test_one_label_that_is_a_class_number(label):
    assert class_number(label) == 1
