"""The file of a cached teacher, and what no cache can answer."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from teacher_cache_cases import Counted, N, make_split, seen
from torch import nn

from datadistill.data import Split
from datadistill.errors import DataError, NumericalError, UsageError
from datadistill.runs.tensors import pack, unpack
from kd_baselines.teacher_cache import CachedTeacher
from kd_baselines.teachers import Teacher


@pytest.fixture
def split():
    return make_split()


@pytest.fixture
def teacher():
    return Teacher(Counted())


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
