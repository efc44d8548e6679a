"""Sets of real images of the size of a distilled set: herding, and how many images there are."""

import itertools

import comparison_cases as cases
import pytest
import torch
from comparison_cases import SIZE, K

import datadistill as dd
from datadistill.data import Split
from datadistill.errors import DataError
from datadistill.evaluation.baselines import real_set
from datadistill.evaluation.coresets import BASELINES, coreset, herding, random_real
from datadistill.synthetic.decoders import DECODERS


@pytest.fixture
def train():
    return cases.real().train


def on_a_line(*values):
    return Split(torch.tensor(values).view(-1, 1, 1, 1), torch.zeros(len(values)).long())


@pytest.mark.parametrize(
    ("values", "taken"),
    [
        # mean 4: 4 itself; with 3 or 5 a mean of 3.5 or 4.5: the first; then 5 mends it
        ((1.0, 3.0, 4.0, 5.0, 7.0), [4.0, 3.0, 5.0, 1.0, 7.0]),
        # mean 3: 2 and 4 are as near, the first; 4 makes it 3; then 2 makes it 2.67, 8 4.67
        ((0.0, 2.0, 2.0, 4.0, 8.0, 2.0), [2.0, 4.0, 2.0, 2.0, 8.0, 0.0]),
    ],
)
def test_herding_of_numbers_by_hand(values, taken):
    found = herding(on_a_line(*values), 1, len(values)).flatten().tolist()
    assert found == taken


def test_each_image_of_a_herding_brings_the_mean_nearest(train):
    found = herding(train, K, 4)
    for k in range(K):
        own, taken = train.of_class(k).images, []
        for image in found[k]:
            left = [x for x in own if not any(torch.equal(x, y) for y in taken)]
            off = [float((torch.stack([*taken, x]).mean(0) - own.mean(0)).norm()) for x in left]
            chosen = float((torch.stack([*taken, image]).mean(0) - own.mean(0)).norm())
            assert chosen == pytest.approx(min(off), abs=1e-6)
            taken.append(image)
    assert torch.equal(herding(train, K, 2), found[:, :2])


def test_a_herding_is_nearer_to_the_mean_than_any_draw(train):
    means = torch.stack([train.of_class(k).images.mean(0) for k in range(K)])

    def distance(images):
        return float((images.mean(1) - means).norm())

    drawn = [distance(random_real(train, K, 3, 0, draw)) for draw in range(20)]
    assert distance(herding(train, K, 3)) < min(drawn)


# --- size


@pytest.mark.parametrize("name", BASELINES)
def test_a_coreset_has_the_images_of_the_set_and_hard_labels(train, name):
    d = cases.distilled(ipc=2, steps=2)
    found = coreset(d, BASELINES[name], train, 0, 0)
    each = 1 if name == "average-real" else 2
    assert found.labels.tolist() == [k for k, _ in itertools.product(range(K), range(each))]
    assert found.schedule.steps == 1 and found.loss == "cross-entropy"
    assert d.schedule.steps == 6


def test_a_class_has_as_many_images_as_in_the_set(train):
    d = cases.distilled(ipc=2, steps=1, labels=torch.tensor([0, 0, 0, 1, 1, 0]))
    assert torch.bincount(coreset(d, random_real, train, 0, 0).labels).tolist() == [4, 2]


class Halves:
    """Images of half the pixels, each once over."""

    def count(self, ipc, shape, classes):
        return 2 * ipc

    def init(self, start, generator):
        return {"halves": start[..., :1]}

    def images(self, tensors, index):
        return tensors["halves"][index].expand(-1, 1, SIZE, SIZE)

    def describe(self):
        return {"name": "halves"}


def test_decoded_images_are_counted_by_their_bytes(train, monkeypatch):
    monkeypatch.setitem(DECODERS, "halves", Halves)
    d = cases.distilled(ipc=2, steps=1)
    coded = {"halves": torch.rand(4 * K, 1, SIZE, 1)}  # the bytes of 4 K / 3 images
    made = dd.DistilledDataset(
        None,
        torch.arange(4 * K) % K,
        torch.ones(1),
        [torch.arange(4 * K)],
        classes=d.classes,
        normalization=d.normalization,
        net=d.net,
        update=d.update,
        decoder=Halves(),
        coded=coded,
    )
    found = coreset(made, random_real, train, 0, 0)
    laid_out = real_set(made, random_real, train, 0, 0)
    for real in (found, laid_out):
        assert torch.bincount(real.labels).tolist() == [1, 1, 1]
        assert real.decoder is None and real.bytes < made.bytes
    trained_on = laid_out.labels[laid_out.order[0]]
    assert torch.equal(trained_on, made.labels)  # each serves for the four decoded ones


def test_too_few_real_images_are_refused(train):
    few = Split(train.images[:5], train.labels[:5])
    with pytest.raises(DataError, match="training images, but the baselines take 2"):
        coreset(cases.distilled(), herding, few, 0, 0)
