"""How images, labels and step sizes start, and in which order they are used."""

import pytest
import torch
from torch.nn.functional import softplus
from training_cases import loop

from datadistill.data import RealData
from datadistill.errors import DataError, UsageError


def learned(data, **changes):
    return loop(data, **changes).loop.synthetic


def images_of(data, **changes):
    return learned(data, **changes).images().detach()


def contains(rows, row):
    return bool((rows.flatten(1) == row.flatten()).all(1).any())


@pytest.fixture
def of_class(digits):
    return [digits.train.images[digits.train.labels == k] for k in range(10)]


def test_noise_is_unit_gaussian_and_the_seeds_own(digits):
    images = images_of(digits, ipc=20)
    assert images.shape == (200, 1, 8, 8)
    assert abs(float(images.mean())) < 0.05
    assert float(images.std()) == pytest.approx(1, abs=0.05)
    assert torch.equal(images, images_of(digits, ipc=20))
    assert not torch.equal(images, images_of(digits, ipc=20, seed=1))


def test_unit_noise_is_the_noise_scaled_to_length_one(digits):
    noise, unit = (images_of(digits, images_from=name) for name in ("noise", "unit-noise"))
    lengths = noise.flatten(1).norm(dim=1)[:, None, None, None]
    torch.testing.assert_close(unit, noise / lengths)


def test_real_images_are_of_their_class_and_all_different(digits, of_class):
    found = learned(digits, ipc=3, images_from="real")
    for image, k in zip(found.images().detach(), found.classes, strict=True):
        assert contains(of_class[k], image)
        assert not contains(of_class[(k + 1) % 10], image)
    assert len(found.images().detach().flatten(1).unique(dim=0)) == 30
    other = learned(digits, ipc=3, images_from="real", seed=1)
    assert not torch.equal(found.images(), other.images())


def test_learning_does_not_write_into_the_data(digits):
    before = digits.train.images.clone()
    studied = loop(digits, images_from="real")
    studied.advance()
    assert torch.equal(digits.train.images, before)


def test_one_mean_is_the_class_mean(digits, of_class):
    images = images_of(digits, images_from="mean")
    torch.testing.assert_close(images, torch.stack([x.mean(0) for x in of_class]))


def test_several_means_are_of_parts_of_the_class_that_make_it_up(digits, of_class):
    found = learned(digits, ipc=2, images_from="mean")
    for k, x in enumerate(of_class):
        a, b = found.images().detach()[found.classes == k]
        larger, smaller = (len(x) + 1) // 2, len(x) // 2
        torch.testing.assert_close(
            (larger * a + smaller * b) / len(x), x.mean(0), rtol=1e-4, atol=1e-5
        )
        assert not torch.allclose(a, b, atol=1e-2)


def test_kmeans_centres_are_the_means_of_what_is_nearest_to_them(digits, of_class):
    found = learned(digits, ipc=3, images_from="kmeans")
    for k, x in enumerate(of_class):
        centres = found.images().detach()[found.classes == k].flatten(1)
        nearest = torch.cdist(x.flatten(1), centres).argmin(1)
        means = torch.stack([x.flatten(1)[nearest == j].mean(0) for j in range(3)])
        torch.testing.assert_close(centres, means, rtol=1e-3, atol=1e-3)
    assert torch.equal(found.images(), images_of(digits, ipc=3, images_from="kmeans"))


@pytest.mark.parametrize("source", ["real", "mean", "kmeans"])
def test_more_images_than_a_class_has_are_refused(digits, of_class, source):
    smallest = min(map(len, of_class))
    k = [len(x) for x in of_class].index(smallest)
    with pytest.raises(
        DataError, match=f"class {digits.classes[k]} has {smallest} .*{smallest + 1} images .*noise"
    ):
        loop(digits, ipc=smallest + 1, images_from=source)
    assert len(loop(digits, ipc=smallest + 1).loop.synthetic.tensors["images"]) == 10 * (
        smallest + 1
    )


# --- labels and step sizes


def test_soft_labels_start_at_nine_tenths(digits):
    labels = learned(digits, labels="soft", ipc=2).labels().detach()
    assert labels.shape == (20, 10)
    expected = torch.full((20, 10), 0.1 / 9)
    expected[torch.arange(20), torch.arange(20) % 10] = 0.9
    torch.testing.assert_close(labels, expected)


def test_hard_labels_are_integers(digits):
    found = learned(digits, ipc=2)
    assert found.labels().tolist() == [*range(10), *range(10)]
    assert list(found.leaves()) == ["images", "step_sizes"]


@pytest.mark.parametrize(
    ("form", "shape"), [("per-step", (6,)), ("shared", (1,)), ("per-tensor", (6, 4))]
)
def test_every_step_size_starts_where_the_config_says(digits, form, shape):
    found = learned(digits, ipc=2, steps=2, epochs=3, step_sizes=form, step_size=0.07)
    assert found.rho.shape == shape
    torch.testing.assert_close(softplus(found.rho), torch.full(shape, 0.07))
    torch.testing.assert_close(
        found.step_sizes(), torch.full((6, 4) if form == "per-tensor" else (6,), 0.07)
    )


# --- order


@pytest.mark.parametrize(("ipc", "steps", "epochs"), [(1, 1, 3), (4, 2, 2), (6, 6, 1), (6, 3, 2)])
def test_every_step_sees_every_class_equally_often(digits, ipc, steps, epochs):
    found = learned(digits, ipc=ipc, steps=steps, epochs=epochs)
    assert len(found.schedule.order) == steps * epochs
    for index in found.schedule.order:
        assert torch.bincount(found.classes[index], minlength=10).tolist() == [ipc // steps] * 10
    one_epoch = torch.cat(found.schedule.order[:steps])
    assert sorted(one_epoch.tolist()) == list(range(10 * ipc)), "each image once an epoch"
    assert all(
        torch.equal(found.schedule.order[t], found.schedule.order[t % steps])
        for t in range(steps * epochs)
    )


def test_the_steps_of_training_are_those_of_the_set(digits):
    studied = loop(digits, ipc=4, steps=2, epochs=3, labels="soft")
    d = studied.snapshot()
    learning, replaying = studied.loop.synthetic.steps(), d.steps()
    assert len(learning) == len(replaying) == 6
    assert d.passes == 3
    for (x, y), (x_, y_) in zip(learning, replaying, strict=True):
        assert torch.equal(x, x_)
        assert torch.equal(y, y_)


# --- refused at the door


def tensors(counts, **options):
    labels = torch.cat([torch.full((n,), k) for k, n in enumerate(counts)])
    images = torch.rand(len(labels), 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return RealData.from_tensors(images, labels, test_images=images, test_labels=labels, **options)


def test_data_that_cannot_be_learned_from_is_refused():
    with pytest.raises(DataError, match=r"class b.*1, 0|b \(1\)"):
        loop(tensors([4, 0, 4], classes=("a", "b", "c")))
    with pytest.raises(DataError, match="leaves no image for model selection"):
        loop(tensors([4, 4], validation=0))


def test_a_module_that_does_not_fit_is_refused(digits):
    with pytest.raises(
        UsageError, match=r"makes \(2, 3\) .*, wanted \(2, 10\).*put a last layer of 10"
    ):
        loop(digits, torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)))
    with pytest.raises(UsageError, match="the net does not take images 1x8x8"):
        loop(digits, torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(63, 10)))
