"""The sets of real images, the combinations, and k nearest neighbours."""

import comparison_cases as cases
import pytest
import torch
from comparison_cases import CLASSES, K

import datadistill as dd
from datadistill.data import Split
from datadistill.errors import DataError, UsageError
from datadistill.evaluation.baselines import (
    EPOCHS,
    STEP_SIZES,
    Combination,
    combinations,
    give_training,
    real_set,
    stored_bytes,
)
from datadistill.evaluation.coresets import (
    BASELINES,
    average_real,
    classes_of,
    k_means,
    random_real,
)
from datadistill.evaluation.neighbours import (
    CANDIDATES,
    Neighbours,
    choose_neighbours,
    neighbours_accuracy,
)
from datadistill.innerloop import momentum, sgd


@pytest.fixture
def train():
    return cases.real().train


def is_among(image, images):
    return bool((images == image).flatten(1).all(1).any())


def each_is_of_its_class(found, train):
    pairs = zip(found.images, found.labels, strict=True)
    return all(is_among(x, train.of_class(int(y)).images) for x, y in pairs)


# --- images


def test_random_images_are_real_distinct_and_of_their_class(train):
    found = random_real(train, K, 5, 0, 0)
    assert found.shape == (K, 5, 1, 3, 3)
    for k in range(K):
        own = train.of_class(k).images
        assert all(is_among(image, own) for image in found[k])
        assert len(found[k].unique(dim=0)) == 5
    assert torch.equal(found, random_real(train, K, 5, 0, 0))
    assert not torch.equal(found, random_real(train, K, 5, 0, 1))
    assert not torch.equal(found, random_real(train, K, 5, 1, 0))


def test_the_average_is_the_mean_of_its_class(train):
    found = average_real(train, K, 5, 0, 0)
    assert found.shape == (K, 1, 1, 3, 3)
    for k in range(K):
        assert torch.allclose(found[k, 0], train.images[train.labels == k].mean(0), atol=1e-6)


def test_centres_of_well_separated_blobs_are_their_means():
    g = torch.Generator().manual_seed(0)
    middles = torch.tensor([0.0, 10.0, 20.0]).repeat_interleave(8).view(24, 1, 1, 1)
    images = middles + torch.rand(24, 1, 2, 2, generator=g)
    split = Split(torch.cat([images, images + 100]), torch.tensor([0] * 24 + [1] * 24))
    found = k_means(split, 2, 3, 0, 0)
    wanted = images.view(3, 8, 1, 2, 2).mean(1)
    for k, shift in ((0, 0), (1, 100)):
        order = found[k].mean((1, 2, 3)).argsort()
        assert torch.allclose(found[k][order], wanted + shift, atol=1e-4)


def test_one_centre_is_the_average(train):
    assert torch.allclose(k_means(train, K, 1, 3, 4), average_real(train, K), atol=1e-5)


@pytest.mark.parametrize("name", ["random-real", "k-means", "herding"])
def test_too_few_images_of_a_class_are_refused(train, name):
    few = Split(train.images[:7], train.labels[:7])
    with pytest.raises(
        DataError, match=r"class \d has \d training images, but the baselines take 4"
    ):
        BASELINES[name](few, K, 4, 0, 0)


def test_a_class_without_an_image_has_no_average(train):
    some = train.labels != 1
    with pytest.raises(DataError, match="class 1 has 0 training images"):
        average_real(Split(train.images[some], train.labels[some]), K)


# --- layout


def test_a_set_has_the_distilled_ones_layout(train):
    d = cases.distilled(ipc=4, steps=2, epochs=3)
    found = real_set(d, random_real, train, 0, 0)
    assert [i.tolist() for i in found.order] == [list(range(6)), list(range(6, 12))]
    assert torch.equal(found.labels, d.labels)
    assert torch.equal(found.step_sizes, d.step_sizes[:2])
    assert found.theta_0 is None and found.classes == CLASSES
    assert each_is_of_its_class(found, train)
    assert len(found.images.unique(dim=0)) == 12


def test_any_order_and_unequal_classes_are_followed(train):
    labels = torch.tensor([2, 2, 0, 1, 2, 0])
    order = [torch.tensor([5, 0, 3]), torch.tensor([1, 2, 1])]  # image 1 twice, image 4 never
    d = cases.distilled(labels=labels, order=order * 3, steps=2)
    found = real_set(d, random_real, train, 0, 0)
    for mine, its in zip(found.order, order, strict=True):
        assert found.labels[mine].tolist() == labels[its].tolist()
    assert len(found.images) == 5
    assert found.order[1][0] == found.order[1][2]
    assert each_is_of_its_class(found, train)


def test_the_average_is_the_same_in_every_step_and_stored_once(train):
    d = cases.distilled(ipc=4, steps=2)
    found = real_set(d, average_real, train, 0, 0)
    assert len(found.images) == K and torch.equal(found.labels, torch.arange(K))
    (a, _), (b, _) = found.steps()
    assert torch.equal(a, b) and len(a) == len(d.order[0])


def test_learned_labels_become_hard(train):
    soft = torch.full((6, K), 1 / K)
    found = real_set(cases.distilled(labels=soft), random_real, train, 0, 0)
    assert torch.equal(found.labels, torch.arange(6) % K)
    assert torch.equal(classes_of(cases.distilled(labels=soft)), torch.arange(6) % K)


@pytest.mark.parametrize("pair", [(0, 2), (2, 0), (1, 2)])
@pytest.mark.parametrize("relabelled", [True, False])
def test_in_an_attack_images_of_its_class_carry_the_target(train, pair, relabelled):
    labels = torch.arange(6) % K
    if relabelled:
        labels[labels == pair[0]] = pair[1]
    d = cases.distilled(labels=labels, steps=1, epochs=1, attack=pair)
    assert torch.equal(classes_of(d), torch.arange(6) % K)
    found = real_set(d, random_real, train, 0, 0)
    own = [next(k for k in range(K) if is_among(x, train.of_class(k).images)) for x in found.images]
    assert sorted(own) == [0, 0, 1, 1, 2, 2]
    assert found.labels.tolist() == [pair[1] if k == pair[0] else k for k in own]
    mean = real_set(d, average_real, train, 0, 0)
    assert mean.labels.tolist() == [pair[1] if k == pair[0] else k for k in range(K)]


# --- combinations


def test_the_papers_grid_of_combinations():
    d = cases.distilled()
    every = combinations(d)
    assert set(every) == {Combination(s, e) for s in (None, *STEP_SIZES) for e in EPOCHS}
    assert {c.step_size for c in combinations(d, "learned")} == {None}
    assert {c.step_size for c in combinations(d, "grid")} == {0.001, 0.003, 0.01, 0.03, 0.1, 0.3}
    assert set(combinations(d, "grid")) | set(combinations(d, "learned")) == set(every)
    attack = cases.distilled(steps=1, epochs=1, attack=(0, 1))
    assert {c.epochs for c in combinations(attack)} == {1} and len(combinations(attack)) == 7
    with pytest.raises(UsageError, match="did you mean grid"):
        combinations(d, "gird")


@pytest.mark.parametrize("columns", [(), (4,)])
def test_learned_step_sizes_are_cut_or_repeated(train, columns):
    tensors = tuple(dict(cases.MLP.build().named_parameters())) if columns else None
    d = cases.distilled(columns=columns, tensors=tensors, update=momentum(0.9))
    base = real_set(d, random_real, train, 0, 0)
    for epochs in EPOCHS:
        found = give_training(base, d, Combination(None, epochs))
        assert torch.equal(found.step_sizes, torch.cat([d.step_sizes] * 2)[: 2 * epochs])
        assert len(found.order) == 2 * epochs and found.update == momentum(0.9)
        assert all(torch.equal(a, b) for a, b in zip(found.order, base.order * epochs, strict=True))


def test_a_fixed_step_size_goes_with_plain_gradient_descent(train):
    d = cases.distilled(update=momentum(0.9))
    found = give_training(real_set(d, random_real, train, 0, 0), d, Combination(0.03, 5))
    assert torch.equal(found.step_sizes, torch.full((10,), 0.03))
    assert found.update == sgd() and len(found.order) == 10


def test_distilled_images_as_a_baseline_train_the_same_net():
    d = cases.distilled(ipc=2, steps=2, epochs=3)
    itself = Split(d.images, d.labels)
    base = real_set(
        d, lambda s, k, ipc, *_: s.images.view(ipc, k, 1, 3, 3).transpose(0, 1), itself, 0, 0
    )
    ours, same = d.train(), give_training(base, d, Combination(None, 3)).train()
    x = cases.blobs(5, 2)[0]
    assert torch.equal(ours(x), same(x))


def test_bytes_count_what_is_stored(train):
    d = cases.distilled(ipc=2, steps=2, epochs=3)
    base = real_set(d, random_real, train, 0, 0)
    images, labels = 6 * 9 * 4, 6 * 8
    assert stored_bytes(base, d, None) == images + labels
    assert stored_bytes(base, d, Combination(0.1, 5)) == images + labels + 4
    assert [stored_bytes(base, d, Combination(None, e)) for e in EPOCHS] == [
        images + labels + 4 * number for number in (2, 6, 6)
    ]
    assert stored_bytes(base, d, Combination(None, 3)) == d.bytes
    assert stored_bytes(real_set(d, average_real, train, 0, 0), d, None) == K * (9 * 4 + 8)


# --- k nearest neighbours


def by_brute_force(images, labels, target, rule):
    hits = 0
    for x, y in zip(target.images, target.labels, strict=True):
        away = [float((x - s).abs().pow(int(rule.distance[1])).sum()) for s in images]
        votes = [int(labels[j]) for j in sorted(range(len(away)), key=away.__getitem__)[: rule.k]]
        hits += max(sorted(set(votes)), key=votes.count) == int(y)
    return 100 * hits / len(target)


@pytest.mark.parametrize("rule", CANDIDATES, ids=str)
def test_neighbours_against_brute_force(rule):
    g = torch.Generator().manual_seed(1)
    images, labels = torch.randn(12, 1, 3, 3, generator=g), torch.arange(12) % K
    target = Split(torch.randn(60, 1, 3, 3, generator=g), torch.randint(K, (60,), generator=g))
    found = neighbours_accuracy(images, labels, target, rule)
    assert found == pytest.approx(by_brute_force(images, labels, target, rule))
    assert 10 < found < 90


def test_the_two_distances_differ():
    # from 0: l1 6 and 5, l2 4.2 and 5
    images = torch.tensor([[3.0, 3.0], [0.0, 5.0]]).view(2, 1, 1, 2)
    target = Split(torch.zeros(1, 1, 1, 2), torch.tensor([0]))
    labels = torch.tensor([0, 1])
    assert neighbours_accuracy(images, labels, target, Neighbours("l2", 1)) == 100
    assert neighbours_accuracy(images, labels, target, Neighbours("l1", 1)) == 0
    assert choose_neighbours([(images, labels)], target) == Neighbours("l2", 1)
    assert choose_neighbours(
        [(images, labels)], Split(target.images, 1 - target.labels)
    ) == Neighbours("l1", 1)


def test_a_stored_image_does_not_vote_for_itself():
    """One neighbour is right about a stored outlier alone, three about all that lie near it."""
    line = torch.tensor([0.0, 1.0, 1.1, 2.0]).view(4, 1, 1, 1)
    labels = torch.tensor([0, 1, 0, 0])  # 1.0 is the outlier
    others = torch.tensor([0.9, 0.95, 1.04]).view(3, 1, 1, 1)
    target = Split(
        torch.cat([line[1:2].expand(5, 1, 1, 1), others]), torch.tensor([1] * 5 + [0] * 3)
    )
    assert choose_neighbours([(line, labels)], target).k == 3
    everything_is_stored = Split(line, labels)
    assert choose_neighbours([(line, labels)], everything_is_stored).k == 1


def test_no_more_neighbours_than_images():
    pair = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), torch.tensor([0, 1])
    assert choose_neighbours([pair], Split(pair[0] + 0.1, pair[1])).k == 1


def test_baselines_are_distilled_sets_that_can_be_saved(train, tmp_path):
    d = cases.distilled()
    found = give_training(real_set(d, k_means, train, 0, 0), d, Combination(0.1, 1))
    found.save(tmp_path / "k.safetensors")
    assert torch.equal(dd.DistilledDataset.load(tmp_path / "k.safetensors").images, found.images)
