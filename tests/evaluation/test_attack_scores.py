"""The scores of an attack, on nets whose predictions are known."""

import functools

import pytest
import torch
from torch import nn

from datadistill.data import Split
from datadistill.errors import DataError, UsageError
from datadistill.evaluation.accuracy import accuracy
from datadistill.evaluation.attack import AttackScores, attack_scores, mean_and_std

THETA = {"1.weight": torch.eye(3)}


def reader():
    """Predicts the brightest of three pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False))


def seen_as(predictions, labels):
    images = torch.nn.functional.one_hot(torch.tensor(predictions), 3).float()
    return Split(images.view(-1, 3, 1, 1), torch.tensor(labels))


def test_each_score_counts_what_it_says():
    #          class 0: one right, two taken for 1, one for 2; class 1: right; class 2: one of two
    target = seen_as([0, 1, 1, 2, 1, 2, 0], [0, 0, 0, 0, 1, 2, 2])
    assert attack_scores(reader(), THETA, target, 0, 1) == AttackScores(
        attacked_accuracy=pytest.approx(100 / 4),
        attacked_to_target=pytest.approx(200 / 4),
        others_accuracy=pytest.approx(200 / 3),
        accuracy=pytest.approx(300 / 7),
        modified_accuracy=pytest.approx(400 / 7),
    )


def test_a_perfect_attack_and_no_attack():
    labels = [0, 0, 1, 2]
    done = attack_scores(reader(), THETA, seen_as([1, 1, 1, 2], labels), 0, 1)
    assert (done.attacked_to_target, done.others_accuracy, done.modified_accuracy) == (
        100,
        100,
        100,
    )
    assert (done.attacked_accuracy, done.accuracy) == (0, 50)
    none = attack_scores(reader(), THETA, seen_as(labels, labels), 0, 1)
    assert (none.attacked_accuracy, none.attacked_to_target, none.accuracy) == (100, 0, 100)
    assert none.modified_accuracy == 50


def test_the_other_direction_is_another_attack():
    target = seen_as([1, 0, 0, 2], [0, 0, 1, 2])
    assert attack_scores(reader(), THETA, target, 0, 1).attacked_to_target == 50
    assert attack_scores(reader(), THETA, target, 1, 0).attacked_to_target == 100
    assert attack_scores(reader(), THETA, target, 0, 2).attacked_to_target == 0


def test_it_agrees_with_accuracy_and_leaves_the_net_as_it_was():
    g = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(0.9), nn.Linear(9, 3))
    theta = {k: torch.randn(p.shape, generator=g) for k, p in net.named_parameters()}
    # more than one batch
    target = Split(torch.randn(2500, 1, 3, 3, generator=g), torch.arange(2500) % 3)
    measure = functools.partial(attack_scores, attack_class=2, target_class=0)
    found = measure(net, theta, target)
    assert net.training and all(m.training for m in net.modules())
    assert found.accuracy == accuracy(net, theta, target)
    assert found.accuracy == pytest.approx(
        (833 * found.attacked_accuracy + 1667 * found.others_accuracy) / 2500
    )
    relabelled = Split(target.images, torch.where(target.labels == 2, 0, target.labels))
    assert found.modified_accuracy == accuracy(net, theta, relabelled)


@pytest.mark.parametrize(
    ("attacked", "target", "words"),
    [(1, 1, "both 1"), (3, 0, "attack_class is 3"), (0, -1, "is -1")],
)
def test_classes_that_make_no_attack_are_refused(attacked, target, words):
    with pytest.raises(UsageError, match=words):
        attack_scores(reader(), THETA, seen_as([0, 1], [0, 1]), attacked, target)


@pytest.mark.parametrize("labels", [[1, 2], [0, 0]])
def test_images_of_no_or_only_the_attacked_class_are_refused(labels):
    with pytest.raises(DataError, match="of the attacked class 0"):
        attack_scores(reader(), THETA, seen_as([0, 1], labels), 0, 1)


def test_the_deviation_is_the_populations():
    mean, std = mean_and_std([AttackScores(10, 20, 30, 40, 50), AttackScores(20, 20, 36, 40, 0)])
    assert mean == AttackScores(15, 20, 33, 40, 25)
    assert std == AttackScores(5, 0, 3, 0, 25)
    assert mean_and_std([mean]) == (mean, AttackScores(0, 0, 0, 0, 0))
    with pytest.raises(UsageError, match="no scores"):
        mean_and_std([])


class Returns(nn.Module):
    """A net that makes something else of its images."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, images):
        return self.make(images.flatten(1))


MADE = [
    (lambda z: z[:, :, None], r"makes \(4, 3, 1\) of 4 images, wanted logits \(B, K\)"),
    (lambda z: z[:, 0], r"makes \(4,\) of 4 images"),
    (lambda z: z[:2], r"makes \(2, 3\) of 4 images"),
    (lambda z: z[:, :1], "one logit an image"),
    (lambda z: {"logits": z}, "makes a dict in evaluation mode"),
    (lambda z: (z, z), "makes a tuple in evaluation mode"),
    (lambda z: None, "makes a NoneType in evaluation mode"),
]


@pytest.mark.parametrize(
    "measure", [accuracy, functools.partial(attack_scores, attack_class=0, target_class=1)]
)
@pytest.mark.parametrize(("make", "said"), MADE)
def test_a_net_that_makes_no_logits_is_refused(measure, make, said):
    with pytest.raises(UsageError, match=said):
        measure(Returns(make), {}, seen_as([0, 1, 2, 2], [0, 0, 1, 2]))


LABELS = {
    "uint16": lambda y: y.to(torch.uint16),
    "uint64": lambda y: y.to(torch.uint64),
    "float": lambda y: y.float(),
    "column": lambda y: y[:, None],
    "one-hot": lambda y: nn.functional.one_hot(y, 3),
    "list": lambda y: y.tolist(),
    "numpy": lambda y: y.numpy(),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind_give_the_same_scores(kind):
    target = seen_as([0, 1, 2, 2], [0, 0, 1, 2])
    other = Split(target.images, LABELS[kind](target.labels))
    assert attack_scores(reader(), THETA, other, 0, 1) == attack_scores(
        reader(), THETA, target, 0, 1
    )
    assert accuracy(reader(), THETA, other) == 50


@pytest.mark.parametrize(
    ("labels", "error", "said"),
    [
        (torch.tensor([0, 3]), UsageError, "labels go from 0 to 3 and the net has 3 logits"),
        (torch.tensor([0, -1]), UsageError, "labels go from -1 to 0"),
        (torch.tensor([[0.5, 0.5, 0], [0, 0, 1]]), DataError, "not one-hot"),
        (torch.tensor([0]), DataError, "for 2 images"),
    ],
)
def test_labels_of_no_class_of_the_net_are_refused(labels, error, said):
    with pytest.raises(error, match=said):
        accuracy(reader(), THETA, Split(seen_as([0, 1], [0, 1]).images, labels))
