"""What theta_T is asked for: the true labels, or one class relabelled."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datadistill.errors import UsageError
from datadistill.objectives import Attack, classification

NET = nn.Linear(4, 3)
THETA = {k: p.detach() for k, p in NET.named_parameters()}


def test_an_attack_is_cross_entropy_on_the_modified_labels():
    images = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 2, 1])
    modified = torch.tensor([2, 1, 2, 2, 2, 1])
    found = Attack(0, 2, classes=3)(NET, THETA, images, labels)
    assert torch.equal(
        found, F.cross_entropy(F.linear(images, THETA["weight"], THETA["bias"]), modified)
    )
    assert not torch.equal(found, classification(NET, THETA, images, labels))


def test_without_the_attacked_class_an_attack_asks_the_truth():
    images, labels = torch.ones(2, 4), torch.tensor([1, 2])
    assert torch.equal(
        Attack(0, 2, classes=3)(NET, THETA, images, labels),
        classification(NET, THETA, images, labels),
    )


def test_the_labels_given_stay_as_they_are():
    labels = torch.tensor([0, 1])
    Attack(0, 1, classes=2).labels(labels)
    assert labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ((3, 1), r"attack_class is 3, but there are 3 classes: give 0 to 2"),
        ((0, -1), r"target_class is -1"),
        ((1, 1), r"attack_class and target_class are both 1"),
    ],
)
def test_classes_that_cannot_be(pair, words):
    with pytest.raises(UsageError, match=words):
        Attack(*pair, classes=3)
