"""A cached teacher: the online teacher's answers, computed once, and refused where they would be
another's."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datadistill.data import Split
from datadistill.errors import DataError, NumericalError, UsageError
from datadistill.runs.tensors import pack, unpack
from datadistill.training.fit_loop import Fit
from datadistill.training.fit_plan import FitPlan
from kd_baselines.cache_rows import marks
from kd_baselines.distiller import Distiller
from kd_baselines.losses import CE, AttentionTransfer
from kd_baselines.teacher_cache import CachedTeacher
from kd_baselines.teachers import Teacher

N = 23  # no multiple of a batch


class Counted(nn.Module):
    """BatchNorm, dropout and an activation in place; counts the images it sees."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.bn, self.relu = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(108, 4)
        self.bn.running_mean.normal_()
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return self.head(self.drop(self.relu(self.bn(self.conv(x)))).flatten(1))


@pytest.fixture
def split():
    stream = torch.Generator().manual_seed(0)
    return Split(torch.randn(N, 2, 8, 8, generator=stream), torch.arange(N) % 4)


@pytest.fixture
def teacher():
    return Teacher(Counted())


def seen(teacher):
    return sum(net.seen for net in teacher.nets)


def asked(cached, split, plan, *, seed=0, number=0, online=None):
    """Train on the cache's answers; return its and the online teacher's losses of every step."""
    online = (
        Teacher(*(copy.deepcopy(net) for net in cached.teacher.nets)) if online is None else online
    )
    found, wanted = [], []
    w = torch.zeros(4, requires_grad=True)

    def soft(out):
        return F.kl_div(
            F.log_softmax(w.expand_as(out.logits), 1),
            F.softmax(out.at(4.0) / 4, 1),
            reduction="batchmean",
        )

    def loss(batch):
        out = cached.outputs(batch.images, cached.layers, index=batch.index, view=fit.epoch)
        same = online.outputs(batch.images, cached.layers)
        hints = [f.square().sum() for o in (out, same) for f in o.features.values()]
        if hints:
            torch.testing.assert_close(hints[0], hints[1], rtol=1e-6, atol=0)
        found.append(soft(out).item())
        wanted.append(soft(same).item())
        return soft(out)

    fit = Fit({"w": w}, loss, split, plan, seed=seed, nets=number)
    while not fit.is_done:
        fit.advance()
    return found, wanted


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


def spoilt(bias=None, **layers):
    """The teacher with other layers, or another bias."""
    net = Counted()
    for name, layer in layers.items():
        setattr(net, name, layer)
    if bias is not None:
        net.head.bias.data[0] = bias
    return Teacher(net)


class Mixing(nn.Module):
    """Logits that depend on the other images of the batch, in one of several ways."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.how, self.head = how, nn.Linear(128, 4)

    def forward(self, x):
        x = self.head(x.flatten(1))
        return self.how(x)


MIXING = {
    "centred": lambda x: x - x.mean(0),
    "of the first": lambda x: x - x[0],
    "attention": lambda x: x + 0.1 * (x @ x.T).softmax(1) @ x,
    "batch norm": lambda x: F.batch_norm(x, None, None, training=True) if len(x) > 1 else x,
    "its size": lambda x: x / len(x),
    "random": lambda x: F.dropout(x, 0.5),
}


# --- the file


@pytest.mark.parametrize("augment", [(), ("flip",)])
def test_an_older_file_is_marked_anew(split, teacher, tmp_path, augment):
    path, index = tmp_path / "cache", torch.tensor([3, 7])
    cached = CachedTeacher(teacher, split, path=path, augment=augment)
    wanted = cached.outputs(split.images[index], index=index, view=0)
    cached.save()
    tensors, meta = unpack(path, schema=1)
    path.write_bytes(pack({**tensors, "0.mark": torch.zeros(N)}, meta))  # a number an image
    before = seen(teacher)
    read = CachedTeacher(teacher, split, path=path, augment=augment)
    found = read.outputs(split.images[index], index=index, view=0)
    torch.testing.assert_close(found.members, wanted.members)
    # rows of augmented images are computed again
    assert (seen(teacher) - before == 1) == (not augment)
    with pytest.raises(DataError, match="2 of 2 images are not those"):
        read.outputs(split.images[index] + 1, index=index, view=0)


def test_a_file_gives_the_same_answers_and_the_same_bytes(split, teacher, tmp_path):
    index = torch.tensor([7, 3])
    answers = []
    for seed, name in enumerate("ab"):  # which without augmentation is of no account
        cached = CachedTeacher(
            teacher, split, layers=("bn", "relu:in"), path=tmp_path / name, seed=seed
        )
        assert not (tmp_path / name).exists()
        answers.append(cached.outputs(split.images[index], ("bn",), index=index))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    before = seen(teacher)
    read = CachedTeacher(
        teacher, split, layers=("bn", "relu:in"), path=tmp_path / "a", seed=7, number=3
    )
    answers.append(read.outputs(split.images[index], ("bn",), index=index))
    assert seen(teacher) - before == 1  # one image, to see that everything fits
    assert all(torch.equal(answers[0].members, a.members) for a in answers)
    assert all(torch.equal(answers[0].features["bn"], a.features["bn"]) for a in answers)
    (tmp_path / "a").unlink()
    for each in (read, cached):
        each.save()  # nothing new
        assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]
    (tmp_path / "b").unlink()
    cached.save()
    assert not any(tmp_path.iterdir())


def ulp(teacher):
    net = copy.deepcopy(teacher.nets[0])
    net.bn.running_var[1] = torch.nextafter(net.bn.running_var[1], torch.tensor(9.0))
    return Teacher(net)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("teacher", lambda t, s, o: (ulp(t), s, o)),
        ("structure", lambda t, s, o: (spoilt(relu=nn.Tanh()), s, o)),
        ("split", lambda t, s, o: (t, Split(s.images + 1e-6, s.labels), o)),
        ("split", lambda t, s, o: (t, Split(s.images, s.labels.flip(0)), o)),
        ("layers", lambda t, s, o: (t, s, {**o, "layers": ("conv",)})),
        ("augment", lambda t, s, o: (t, s, {**o, "augment": ("flip", "crop")})),
        ("seed", lambda t, s, o: (t, s, {**o, "seed": 2})),
        ("number", lambda t, s, o: (t, s, {**o, "number": 5})),
    ],
)
def test_a_stale_file_is_refused_and_left_alone(split, teacher, tmp_path, field, change):
    path = tmp_path / "cache"
    options = {"layers": ("bn",), "augment": ("flip",), "seed": 1, "number": 4}
    cached = CachedTeacher(teacher, split, path=path, **options)
    cached.outputs(split.images[:3], index=torch.arange(3), view=0)
    cached.save()
    before = path.read_bytes()
    CachedTeacher(teacher, split, path=path, **options)  # is not stale
    teacher, split, options = change(teacher, split, options)
    with pytest.raises(
        DataError, match=rf"cache is stale: {field} was .* and is .*; delete it to compute"
    ):
        CachedTeacher(teacher, split, path=path, **options)
    assert path.read_bytes() == before


FILES = [  # what is in a file, of what was in it; words of the refusal
    (lambda t: {k: x[1:] for k, x in t.items()}, DataError, "not rows of this split"),
    (lambda t: {**t, "0.other": torch.zeros(N)}, DataError, "tensors are not rows"),
    (lambda t: {k.replace("0.", "-1."): x for k, x in t.items()}, DataError, "are not rows of"),
    (
        lambda t: {k: x + 0.1 if k == "0.members" else x for k, x in t.items()},
        UsageError,
        r"members of an image alone are up to 0\.1",
    ),
]


@pytest.mark.parametrize(("change", "kind", "words"), FILES)
def test_other_files_are_refused(split, teacher, tmp_path, change, kind, words):
    path = tmp_path / "cache"
    CachedTeacher(teacher, split, path=path).outputs(split.images[:1], index=torch.tensor([0]))
    tensors, meta = unpack(path, schema=1)
    assert json.loads(json.dumps(meta)) == meta and meta["kind"] == "teacher outputs"
    path.write_bytes(pack(change(tensors), meta))
    with pytest.raises(kind, match=words):
        CachedTeacher(teacher, split, path=path)


# --- what cannot be answered


def ask(teacher, split, *layers, index=None, view=None, augment=(), **more):
    cached = CachedTeacher(teacher, split, layers=("bn",), augment=augment)
    images = split.images[:3].clone().requires_grad_("input_gradients" in more)
    return cached.outputs(images, layers, index=index, view=view, **more)


FIRST, BARE = torch.arange(3), nn.BatchNorm2d(3, track_running_stats=False)
TWO = Teacher(Counted(), Counted())
REFUSED = [
    *(
        (
            lambda t, s, how=how: CachedTeacher(Teacher(Mixing(how)), s),
            UsageError,
            r"of an image alone are up to .* use the teacher itself",
        )
        for how in MIXING.values()
    ),
    (
        lambda t, s: CachedTeacher(Teacher(Counted(), mode="batch_stats"), s),
        UsageError,
        "batch_stats.*depends on the whole batch",
    ),
    (
        lambda t, s: CachedTeacher(spoilt(bn=BARE), s),
        UsageError,
        "'bn' of the teacher has no running stat",
    ),
    (
        lambda t, s: CachedTeacher(spoilt(bias=float("nan")), s),
        NumericalError,
        "teacher's members is not finite",
    ),
    (lambda t, s: CachedTeacher(t, s, augment=("flop",)), UsageError, "did you mean flip"),
    (lambda t, s: CachedTeacher(t, s, layers=("bm",)), UsageError, "no layer 'bm'"),
    (lambda t, s: CachedTeacher(TWO, s, layers=("bn",)), UsageError, "ensemble of 2 nets"),
    (lambda t, s: CachedTeacher(t, s, batch=0), UsageError, "batch is 0"),
    (lambda t, s: CachedTeacher(t, Split(s.images[:0], s.labels[:0])), DataError, "no image"),
    (
        lambda t, s: CachedTeacher(t, s, path="/no/folder").outputs(s.images[:3], index=FIRST),
        UsageError,
        "cannot write",
    ),
    (
        lambda t, s: ask(t, s, index=FIRST, input_gradients=True),
        UsageError,
        "gradients of the teacher to the images.*use the teacher itself",
    ),
    (
        lambda t, s: ask(t, s, "bn", "conv", index=FIRST),
        UsageError,
        r"layers conv are not in the teacher's cache \(kept: bn\)",
    ),
    (lambda t, s: ask(t, s), UsageError, "index=batch.index, or use the teacher itself"),
    *(
        (
            lambda t, s, wrong=wrong: ask(t, s, index=wrong),
            UsageError,
            r"for 3 images, wanted int64 \(3,\)",
        )
        for wrong in (FIRST[:2], FIRST.float(), FIRST[:, None])
    ),
    *(
        (lambda t, s, wrong=wrong: ask(t, s, index=wrong), UsageError, f"split has {N} images")
        for wrong in (FIRST - 1, FIRST + N - 2)
    ),
    *(
        (
            lambda t, s, view=view: ask(t, s, index=FIRST, view=view, augment=("flip",)),
            UsageError,
            f"view is {view}.*pass their epoch",
        )
        for view in (None, -1)
    ),
]


@pytest.mark.parametrize(("call", "kind", "words"), REFUSED)
def test_what_does_not_fit_is_refused_with_the_way_on(split, teacher, call, kind, words):
    with pytest.raises(kind, match=words):
        call(teacher, split)
