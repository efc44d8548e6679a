"""Scores: counts, noise on pixels, and the shift of a class that was left out."""

import copy
import itertools

import pytest
import torch
from torch import nn

from datadistill.data import RealData
from datadistill.errors import DataError, NumericalError, UsageError
from datadistill.evaluation.accuracy import accuracy
from datadistill.runs.canonical import canonical_json, parse_json
from datadistill.streams import generator
from kd_baselines.evaluation import LeftOut, Scores, choose_shift, score
from kd_baselines.teachers import Teacher

CLASSES = ("a", "b", "c")


class Table(nn.Module):
    """Logits looked up by the first pixel of an image, 0 to 255; records the images it is shown."""

    def __init__(self, table, normalization):
        super().__init__()
        self.register_buffer("table", table)
        self.normalization, self.seen = normalization, []

    def forward(self, images):
        self.seen.append(images)
        pixel = self.normalization.inverse(images)[:, 0, 0, 0]
        return self.table[(255 * pixel).round().long().clamp(0, len(self.table) - 1)]


def data_of(labels, test_labels):
    """Image i is one grey value: i in the training part, i in the test part."""

    def images(n):
        return torch.arange(n, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)

    return RealData.from_tensors(
        images(len(labels)),
        torch.tensor(labels),
        test_images=images(len(test_labels)),
        test_labels=torch.tensor(test_labels),
        classes=CLASSES,
        validation=0.4,
    )


def right_of(logits, labels, k, s):
    shifted = logits.double().clone()
    shifted[:, k] += s
    return int((shifted.argmax(1) == labels).sum())


# --- the shift


@pytest.mark.parametrize("seed", range(8))
def test_no_shift_gets_more_right(seed):
    g = torch.Generator().manual_seed(seed)
    n, classes, k = 40, 2 + seed % 3, seed % 2
    logits = torch.randn(n, classes, generator=g, dtype=torch.float64) * (1 + seed)
    labels = torch.randint(classes, (n,), generator=g)
    s = choose_shift(logits, labels, k)
    found = right_of(logits, labels, k, s)
    others = logits.clone()
    others[:, k] = -torch.inf
    t = others.max(1).values - logits[:, k]
    best = max(
        right_of(logits, labels, k, float(x)) for x in [*(t - 1e-9), *(t + 1e-9), *range(-60, 61)]
    )
    assert found == best
    ends = [*t.sort().values.tolist()]
    documented = [
        0.0,
        ends[0] - 1,
        ends[-1] + 1,
        *((a + b) / 2 for a, b in itertools.pairwise(ends)),
    ]
    as_good = [x for x in documented if right_of(logits, labels, k, x) == best]
    assert s == min(as_good, key=abs)


def test_a_shift_that_changes_nothing_is_zero():
    logits = torch.eye(3) * 5
    assert choose_shift(logits, torch.arange(3), 1) == 0.0
    # t = 0 for all
    assert choose_shift(torch.zeros(4, 2), torch.ones(4, dtype=torch.long), 0) == -1.0


def test_the_shift_moves_with_the_logit():
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (60,), generator=g)
    logits = torch.randn(60, 3, generator=g, dtype=torch.float64) + 3 * nn.functional.one_hot(
        labels, 3
    )
    moved = logits - torch.tensor([0.0, 8.0, 0.0])
    a, b = choose_shift(logits, labels, 1), choose_shift(moved, labels, 1)
    assert b > 2 and right_of(moved, labels, 1, b) == right_of(logits, labels, 1, a)
    assert choose_shift(moved + 3.0, labels, 1) == pytest.approx(b)
    before = moved.clone()
    choose_shift(moved, labels, 1)
    assert torch.equal(before, moved)


@pytest.mark.parametrize(
    ("logits", "labels", "k", "error"),
    [
        (torch.zeros(3, 1), torch.zeros(3).long(), 0, UsageError),
        (torch.zeros(3, 2), torch.zeros(2).long(), 0, UsageError),
        (torch.zeros(3, 2), torch.zeros(3).long(), 2, UsageError),
        (torch.zeros(0, 2), torch.zeros(0).long(), 0, DataError),
    ],
)
def test_a_shift_of_what_does_not_fit_is_refused(logits, labels, k, error):
    with pytest.raises(error):
        choose_shift(logits, labels, k)


# --- scores


def test_counts_of_a_known_net():
    data = data_of([0, 1, 2] * 5, [0, 0, 1, 1, 1, 2])
    # test images 0 to 5: right, wrong, right, right, wrong, wrong
    net = Table(torch.eye(3)[[0, 1, 1, 1, 0, 0] + [0] * 10], data.normalization)
    found = score(net, data, batch=4)
    assert (found.images, found.errors, found.accuracy) == (6, 3, 50.0)
    assert found.per_class == (50.0, pytest.approx(200 / 3), 0.0)
    assert found.accuracy == accuracy(net, {}, data.test)
    assert [len(x) for x in net.seen[:2]] == [4, 2]


def test_a_class_without_a_test_image():
    data = data_of([0, 1, 2] * 5, [0, 1])
    net = Table(torch.eye(3)[[0, 1] + [0] * 13], data.normalization)
    assert score(net, data).per_class == (100.0, 100.0, None)
    with pytest.raises(DataError, match="no tested image is of class c"):
        score(net, data, missing=("c",))


def test_a_class_left_out_before_and_after_its_shift():
    labels = [0, 1, 2] * 10
    data = data_of(labels, labels)
    # right everywhere but for class c, whose logit is 5 too low
    logits = torch.eye(3)[labels] * 4 - torch.tensor([0.0, 0.0, 5.0])
    net = Table(logits, data.normalization)
    found = score(net, data, missing=("c",))
    one = found.missing["c"]
    assert (one.images, one.accuracy, one.errors) == (10, 0.0, 10)
    assert found.accuracy == pytest.approx(200 / 3)
    # t = 0 - (4 - 5) = 1 on c, 4 + 5 = 9 elsewhere: the middle
    assert one.shift == 5.0
    assert (one.accuracy_after, one.errors_after, one.overall_after, one.overall_errors_after) == (
        100,
        0,
        100,
        0,
    )


def test_the_shift_is_chosen_on_validation_images_alone():
    labels = [0, 1, 2] * 10
    data = data_of(labels, labels)
    logits = torch.eye(3)[labels] * 4 - torch.tensor([0.0, 0.0, 5.0])
    validation = (
        (255 * data.normalization.inverse(data.validation.images)[:, 0, 0, 0]).round().long()
    )
    elsewhere = torch.ones(30, dtype=torch.bool)
    elsewhere[validation] = False
    # no shift below 100 is right on the other threes
    logits[elsewhere] = torch.tensor([0.0, 0.0, -100.0])
    found = score(Table(logits, data.normalization), data, missing=("c",)).missing["c"]
    assert found.shift == 5.0 and found.errors_after == 10 - int(
        (data.validation.labels == 2).sum()
    )


def test_noise_is_of_the_pixels_and_of_its_deviation_alone():
    data = data_of([0, 1, 2] * 40, [0, 1, 2] * 40)
    net = Table(torch.eye(3)[[0, 1, 2] * 40], data.normalization)
    found = score(net, data, noise=(0.0, 0.25), seed=5)
    assert found.noise[0.0] == found.accuracy == 100.0 > found.noise[0.25]
    noisy = data.normalization.inverse(net.seen[-1]) - data.normalization.inverse(data.test.images)
    unit = torch.randn(data.test.images.shape, generator=generator(5, "test_noise", 250_000))
    assert float((noisy - 0.25 * unit).abs().max()) < 1e-5
    alone = score(net, data, noise=(0.25,), seed=5, batch=7)
    assert alone.noise == {0.25: found.noise[0.25]}
    again = net.seen[-18:]
    torch.testing.assert_close(torch.cat(again), net.seen[2])  # the same images in other batches
    score(net, data, noise=(0.25,), seed=6)
    assert not torch.equal(net.seen[-1], net.seen[2])


def test_neither_net_nor_data_is_changed():
    data = data_of([0, 1, 2] * 20, [0, 1, 2])
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)
    )
    net[3].eval()
    state, modes = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    images = data.test.images.clone()
    first = score(net, data, noise=(0.1,), missing=("a",))
    assert first == score(net, data, noise=(0.1,), missing=("a",))
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(images, data.test.images) and all(p.grad is None for p in net.parameters())


def test_a_teacher_is_scored_as_its_nets():
    data = data_of([0, 1, 2] * 20, [0, 1, 2] * 30)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout(0.5))
    found = score(net, data, noise=(0.2,), missing=("b",))
    assert score(Teacher(net), data, noise=(0.2,), missing=("b",)) == found
    twice = score(Teacher(net, copy.deepcopy(net), average="geometric"), data, noise=(0.2,))
    assert (twice.accuracy, twice.noise) == (found.accuracy, found.noise)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"noise": (-0.1,)}, UsageError, "noise is -0.1"),
        ({"noise": (float("inf"),)}, UsageError, "noise is inf"),
        ({"missing": ("d",)}, UsageError, "has no class 'd'"),
        ({"split": "tset"}, UsageError, "did you mean test"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, error, said):
    data = data_of([0, 1, 2] * 5, [0, 1, 2])
    with pytest.raises(error, match=said):
        score(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), data, **options)


def test_a_net_that_does_not_fit_is_refused():
    data = data_of([0, 1, 2] * 5, [0, 1, 2])
    with pytest.raises(
        UsageError, match=r"makes \(3, 5\) of 3 images, but the data have 3 classes"
    ):
        score(nn.Sequential(nn.Flatten(), nn.Linear(4, 5)), data)
    broken = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    nn.init.constant_(broken[1].bias, float("nan"))
    with pytest.raises(NumericalError, match="not finite"):
        score(broken, data)


def test_scores_survive_a_file():
    left_out = LeftOut(10, 0.0, 10, 3.5, 98.0, 1, 97.0, 3)
    scores = Scores(
        90.0, 100, 10, (80.0, None), {0.1: 88.0, 0.3: 70.0}, {"3": left_out}, "validation"
    )
    stored = parse_json(canonical_json(scores.as_dict()))
    assert Scores.from_dict(stored) == scores
    assert scores.columns() == {
        "accuracy": 90.0,
        "with noise 0.1": 88.0,
        "with noise 0.3": 70.0,
        "of class 3": 0.0,
        "of class 3, shifted": 98.0,
        "all, 3 shifted": 97.0,
    }
    for damaged in (
        {},
        {**stored, "noise": 3},
        {**stored, "more": 1},
        {**stored, "missing": {"3": {"images": 1}}},
    ):
        with pytest.raises(DataError, match="no scores"):
            Scores.from_dict(damaged)
