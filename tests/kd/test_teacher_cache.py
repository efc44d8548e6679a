"""A cached teacher: the online teacher's answers, computed once, and refused for other images."""

import copy

import pytest
import torch
from teacher_cache_cases import Counted, N, asked, make_split, seen
from torch import nn

from datadistill.data import Split
from datadistill.errors import DataError, UsageError
from datadistill.runs.tensors import unpack
from datadistill.training.fit_plan import FitPlan
from kd_baselines.cache_rows import marks
from kd_baselines.distiller import Distiller
from kd_baselines.losses import CE, AttentionTransfer
from kd_baselines.teacher_cache import CachedTeacher
from kd_baselines.teachers import Teacher


@pytest.fixture
def split():
    return make_split()


@pytest.fixture
def teacher():
    return Teacher(Counted())


# --- the same answers


@pytest.mark.parametrize("augment", [(), ("crop", "flip")])
@pytest.mark.parametrize("layers", [(), ("bn",)])
def test_losses_are_those_of_the_online_teacher(split, teacher, augment, layers):
    cached = CachedTeacher(
        teacher, split, layers=layers, augment=augment, seed=3, number=1, batch=5
    )
    plan = FitPlan(epochs=3, batch=6, augment=augment)
    found, wanted = asked(cached, split, plan, seed=3, number=1)
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-6) and len(set(found)) == len(found)


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
def test_an_ensembles_members_serve_every_temperature(split, average):
    teacher = Teacher(Counted(0), Counted(1), average=average)
    index = torch.tensor([5, 0, 22])
    out = CachedTeacher(teacher, split).outputs(split.images[index], index=index)
    same = teacher.outputs(split.images[index])
    assert out.members.shape == (2, 3, 4)
    for T in (0.5, 1.0, 20.0):
        torch.testing.assert_close(out.at(T), same.at(T), rtol=1e-5, atol=1e-5)


def test_each_image_is_computed_once(split, teacher):
    cached = CachedTeacher(teacher, split, batch=5)
    before = seen(teacher)
    index = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    for part in (*index.split(6), *index.split(4)):
        out = cached.outputs(split.images[part], index=part)
        torch.testing.assert_close(
            out.logits, Teacher(copy.deepcopy(teacher.nets[0]))(split.images[part])
        )
    assert seen(teacher) - before == N
    assert cached.outputs(split.images[:2], logits=False, index=torch.arange(2)).logits is None


def test_with_augmentation_each_image_is_computed_once_a_view(split, teacher, tmp_path):
    path, plan = tmp_path / "cache", FitPlan(epochs=2, batch=6, augment=("flip",))
    online = Teacher(copy.deepcopy(teacher.nets[0]))
    options = {"augment": ("flip",), "seed": 1, "path": path}
    cached = CachedTeacher(teacher, split, **options)
    before = seen(teacher)
    first, _ = asked(cached, split, plan, seed=1, online=online)
    assert seen(teacher) - before == 2 * N
    # a second training with the same key
    again, _ = asked(cached, split, plan, seed=1, online=online)
    assert seen(teacher) - before == 2 * N and first == again and not path.exists()
    cached.save()
    read = CachedTeacher(teacher, split, **options)
    before = seen(teacher)
    third, _ = asked(
        read, split, FitPlan(epochs=3, batch=6, augment=("flip",)), seed=1, online=online
    )
    assert third[: len(first)] == first and seen(teacher) - before == N  # the third epoch alone


def test_of_a_view_that_is_partly_known_the_rest_is_computed(split, teacher):
    cached = CachedTeacher(teacher, split, augment=("flip",))
    before = seen(teacher)
    for part, new in (((0, 1, 2), 3), ((2, 7, 0, 9), 2), ((9, 7), 0)):
        index = torch.tensor(part)
        out = cached.outputs(split.images[index], index=index, view=4)
        assert seen(teacher) - before == new
        torch.testing.assert_close(out.logits, teacher(split.images[index]))
        before = seen(teacher)


def test_the_teacher_is_as_it_was_and_answers_for_other_images(split, teacher):
    cached = CachedTeacher(teacher, split, layers=("relu",))
    cached.outputs(split.images[:4], index=torch.arange(4))
    cached.check()
    assert cached.hash == teacher.hash and teacher.nets[0].training
    x = torch.zeros(2, 2, 8, 8, requires_grad=True)
    assert torch.equal(cached(x), teacher(x)) and cached(x).requires_grad
    assert all(p.grad is None for p in teacher.nets[0].parameters())


# --- what terms read of a layer


class Wide(nn.Module):
    """A layer of 64 channels."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.head = nn.Conv2d(2, 64, 3), nn.Linear(64 * 36, 4)

    def forward(self, x):
        return self.head(self.conv(x).relu().flatten(1))


def count_elements(path):
    """Numbers of layers in a cache's file."""
    tensors, _ = unpack(path, schema=1)
    return sum(rows.numel() for name, rows in tensors.items() if ".feature." in name)


@pytest.mark.parametrize(("form", "p"), [("at_paper", 1), ("at_code", 2), ("jm", 3)])
def test_attention_transfer_keeps_maps_and_gives_the_same(split, tmp_path, form, p):
    teacher, objective = Teacher(Wide()), CE() + AttentionTransfer({"conv": "conv"}, form, p)
    read = objective.needs.teacher_features
    maps = CachedTeacher(teacher, split, layers=read, path=tmp_path / "maps")
    whole = CachedTeacher(teacher, split, layers=("conv",), path=tmp_path / "whole")
    index = torch.tensor([4, 0, 11])
    batch = (split.images[index], split.labels[index], index)
    losses, gradients = [], []
    for known in (teacher, maps, whole):
        student = Wide(1)
        distiller = Distiller(student, objective, known, sample=split)
        loss = distiller.step(batch)["loss"]
        losses.append(loss.detach())
        gradients.append(torch.autograd.grad(loss, student.conv.weight)[0])
    for loss, gradient in zip(losses, gradients, strict=True):
        torch.testing.assert_close(loss, losses[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-5, atol=1e-6)
    elements = count_elements(tmp_path / "whole"), count_elements(tmp_path / "maps")
    assert elements == (N * 64 * 36, N * 36)  # 64 channels of 36 pixels


def test_a_file_of_readings_is_not_one_of_layers(split, tmp_path):
    read = AttentionTransfer({"conv": "conv"}).needs.teacher_features
    path, index = tmp_path / "cache", torch.arange(2)
    wanted = CachedTeacher(Teacher(Wide()), split, layers=read, path=path).outputs(
        split.images[:2], read, index=index
    )
    again = CachedTeacher(Teacher(Wide()), split, layers=read, path=path)
    found = again.outputs(split.images[:2], read, index=index)
    (reading,) = read
    assert torch.equal(found.features[reading], wanted.features[reading])
    with pytest.raises(UsageError, match=r"conv are not in .*kept: conv \(attention map, p = 2"):
        again.outputs(split.images[:2], ["conv"], index=index)
    with pytest.raises(DataError, match=r"layers was \['conv \(atten.* and is \['conv'\]"):
        CachedTeacher(Teacher(Wide()), split, layers=("conv",), path=path)


# --- images that the rows are not of


def test_images_that_were_augmented_or_reordered_are_refused(split, teacher):
    cached, index = CachedTeacher(teacher, split), torch.arange(6)
    cached.outputs(split.images[:6], index=index)
    for other in (split.images[:6].flip(-1), split.images[:6].flip(0), split.images[:6] + 0.01):
        with pytest.raises(
            DataError, match=r"6 of 6 images are not those .*\(the first: place 0 of the split"
        ):
            cached.outputs(other, index=index)
    with pytest.raises(DataError, match="2 of 6 images are not those"):
        cached.outputs(split.images[:6], index=torch.tensor([0, 2, 1, 3, 4, 5]))
    with pytest.raises(DataError, match=r"images are \(2, 4, 8\)"):
        cached.outputs(split.images[:6, :, :4], index=index)


def test_the_views_of_another_training_are_refused(split, teacher):
    cached = CachedTeacher(teacher, split, augment=("crop",), seed=1)
    plan = FitPlan(epochs=1, batch=6, augment=("crop",))
    asked(cached, split, plan, seed=1)
    for other, seed, number in (
        (plan, 2, 0),
        (plan, 1, 1),
        (FitPlan(epochs=1, batch=5, augment=("crop",)), 1, 0),
    ):
        with pytest.raises(
            DataError, match="seed=1, number=0: make it anew with those of the training"
        ):
            asked(cached, split, other, seed=seed, number=number)


@pytest.mark.parametrize("place", [0, 1, 63, 64, 126, 127])
def test_an_image_changed_in_one_bit_is_refused(split, teacher, place):
    cached = CachedTeacher(teacher, split)
    cached.outputs(split.images[:2], index=torch.arange(2))
    other = split.images[:2].clone()
    number = other[1].view(-1)[place]
    number.copy_(torch.nextafter(number, torch.tensor(9.0)))
    with pytest.raises(DataError, match=r"1 of 2 images are not those .*the first: place 1"):
        cached.outputs(other, index=torch.arange(2))
    split.images[1] = other[1]  # in the split itself, after its row was computed
    with pytest.raises(DataError, match="1 of 2 images are not those"):
        cached.outputs(split.images[:2], index=torch.arange(2))


@torch.inference_mode()
def test_images_whose_changes_torch_does_not_count_are_told_by_marks():
    split, index = Split(torch.rand(4, 2, 8, 8), torch.arange(4)), torch.arange(2)
    cached = CachedTeacher(Teacher(Counted()), split)
    cached.outputs(split.images[:2], index=index)
    split.images[1] += 0.1
    with pytest.raises(DataError, match="1 of 2 images are not those"):
        cached.outputs(split.images[:2], index=index)


def test_marks_tell_signs_types_and_shapes_apart():
    image = torch.randn(1, 2, 4, 4)
    images = [image, -image, image.double(), image.view(1, 1, 8, 4), image.transpose(2, 3)]
    images += [
        image.flip(1),
        torch.zeros(1, 2, 4, 4),
        torch.zeros(1, 1, 4, 4),
        torch.zeros(1, 2, 4, 5),
    ]
    assert len({tuple(marks(x)[0].tolist()) for x in images}) == len(images)
    torch.testing.assert_close(
        marks(image.contiguous(memory_format=torch.channels_last)), marks(image)
    )
