"""A run from start to end: its folder, stopping and going on, what it refuses."""

import copy
import warnings
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import datadistill.training.fit_loop as fit_module
from datadistill.config import RunOptions
from datadistill.data import load
from datadistill.errors import DatadistillError, DataError, NumericalError, UsageError
from datadistill.nets import build
from datadistill.nets.weights import read_weights
from datadistill.runs.tensors import pack, unpack
from kd_baselines.config import KdConfig
from kd_baselines.methods import METHODS
from kd_baselines.netfile import SavedNet
from kd_baselines.student_setup import Setup
from kd_baselines.teachers import Teacher
from kd_baselines.training import train

TINY = KdConfig(
    dataset="digits",
    method="soft-targets",
    net="mlp",
    net_args={"width": 8},
    epochs=2,
    lr=0.01,
    batch=64,
    teacher_net="mlp",
    teacher_args={"width": 16},
    teacher_epochs=2,
    teacher_lr=0.01,
    teacher_batch=64,
    per_class=30,
)
CNN = replace(
    TINY,
    net="thin-cnn",
    net_args={"width": 4, "depth": 3, "pools": 1},
    teacher_net="wide-cnn",
    teacher_args={"width": 4, "norm": "batch", "dropout": 0.5},
    method="fitnets",
    teacher_epochs=1,
    method_args={"guided": "convs.1", "hint": "convs.1", "hint_epochs": 1},
)
CNN = replace(CNN, net_args={"width": 4, "depth": 4, "pools": 2})

# a small config a method; a method without a line here fails the test below
ARGS = {
    "plain": {},
    "soft-targets": {},
    "fitnets-kd": {},
    "logits": {},
    "noisy-logits": {"sigma": 0.1},
    "fitnets": {"guided": "convs.1", "hint": "convs.0", "hint_epochs": 1},
    "fitnets-one-stage": {"guided": "convs.1", "hint": "convs.0"},
    "attention": {"layers": "convs.1:convs.0"},
    "jacobian": {"activation_weight": 0.1, "jacobian_weight": 0.1},
    "jacobian-norm": {"weight": 0.01},
    "input-noise": {"sigma": 0.1},
    "attention-jacobian": {"layers": "convs.1:convs.0"},
    "lwf": {"jacobian_weight": 0.1},
    "born-again": {"label_weight": 1.0},
    "cwtm": {},
    "dkpp": {"redraw": False},
    "dkd": {"warmup_epochs": 1},
    "dist": {},
    "logit-standardization": {},
    "crd": {"layers": "classifier:in=classifier:in", "negatives": 8, "dimension": 4},
    "gradient-attention": {},
    "mutual": {},
    "reviewkd": {"layers": "convs.1:convs.0,convs.2:convs.1", "warmup_epochs": 1},
    "rkd": {"layers": "classifier:in=classifier:in"},
    "similarity-preserving": {"layers": "convs.1:convs.0", "weight": 1.0},
}


def break_off(*args, **options):
    raise UsageError("stop here")


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kd") / "run"
    return folder, train(CNN, out=folder)


def test_the_folder_and_what_it_holds(straight):
    folder, trained = straight
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "environment.json", "metrics.jsonl", "student.safetensors"} <= names
    saved = SavedNet.load(folder)
    assert saved.scores == trained.scores.as_dict()
    assert saved.record["method"] == "fitnets" and saved.classes == tuple("0123456789")
    images = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(saved.net()(images), trained.student(images))
    teacher = SavedNet.load(folder, "teacher").net()
    torch.testing.assert_close(teacher(images), trained.teacher(images), rtol=1e-5, atol=1e-5)
    again = SavedNet.load(folder / "student.safetensors")
    assert again.fingerprint == saved.fingerprint == trained.saved.fingerprint


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_leaves_its_teacher_bit_identical(method):
    """A teacher with BatchNorm and dropout: parameters, buffers and modes are as they were."""
    from datadistill.nets import build

    net = build("wide-cnn", channels=1, size=8, classes=10, width=4, norm="batch", dropout=0.5)
    net(torch.randn(32, 1, 8, 8))  # statistics that are not the first ones
    before = {name: value.clone() for name, value in net.state_dict().items()}
    config = replace(
        CNN, method=method, method_args=ARGS[method], epochs=1, per_class=8, net_args=CNN.net_args
    )
    trained = train(config, teacher=Teacher(net))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training and all(m.training for m in net.modules())
    assert all(p.grad is None for p in net.parameters())
    assert torch.isfinite(trained.student(torch.randn(2, 1, 8, 8))).all()


@pytest.mark.parametrize("cache", [True, False])
def test_the_cache_changes_nothing(cache, straight):
    folder, trained = straight
    found = train(replace(CNN, cache=cache), teacher=folder)
    for name, value in found.saved.states[0].items():
        torch.testing.assert_close(value, trained.saved.states[0][name], rtol=1e-4, atol=1e-5)


def test_an_ensemble_teaches():
    trained = train(replace(TINY, teachers=2, average="geometric"))
    assert len(trained.teacher.nets) == 2
    first, second = (net.state_dict()["layers.0.weight"] for net in trained.teacher.nets)
    assert not torch.equal(first, second)


def test_without_a_class_and_so_many_of_each():
    trained = train(
        replace(TINY, method="plain", method_args={}, without=("3",), per_class=20, epochs=8)
    )
    assert trained.scores.per_class[3] < 5 < trained.scores.accuracy
    assert "3" in trained.scores.missing
    assert trained.teacher is None


def test_seeds_share_a_teacher_and_not_images(tmp_path):
    from datadistill.data import load
    from kd_baselines.student_images import student_split

    data = load("digits")
    first, second = (student_split(replace(TINY, seed=seed), data) for seed in (0, 1))
    assert torch.equal(first.labels, second.labels) and not torch.equal(first.images, second.images)
    assert first.labels.bincount().tolist() == [30] * 10


@pytest.mark.parametrize(
    "changes, error, said",
    [
        ({"method": "soft-target"}, UsageError, "soft-targets"),
        ({"method_args": {"temp": 3.0}}, UsageError, "temperature"),
        ({"method_args": {"temperature": 0.0}}, UsageError, "temperature"),
        ({"method_args": {"soft_weight": -1.0}}, UsageError, "weight"),
        ({"net": "mpl"}, UsageError, "mlp"),
        ({"teacher_milestones": (1, 9)}, UsageError, "teacher_milestones are 1 9, but teacher_epo"),
        ({"teacher_nesterov": True}, UsageError, "teacher_nesterov is True, but teacher_optimiz"),
        ({"without": ("eleven",)}, UsageError, "eleven"),
        ({"per_class": 5000}, DataError, "training images"),
        ({"teacher_weights": "nowhere.pt"}, DataError, "does not exist"),
        (
            {"method_args": {"temperature": "hot"}},
            UsageError,
            "temperature is 'hot'; give a number",
        ),
        ({"without": ("3",), "validation": 0}, DataError, "validation images"),
        ({"lr": 1e30, "optimizer": "sgd", "epochs": 5}, NumericalError, "learning rate"),
    ],
)
def test_refused(changes, error, said):
    with pytest.raises(error, match=said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(replace(TINY, teacher_epochs=1).with_changes(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"method_args": {"guided": "convs.9", "hint": "convs.1"}},
        {"method_args": {"guided": "convs.3", "hint": "convs.0"}},  # the hint's map is larger
        {"teacher_args": {"width": 4, "classes": 7}, "method": "soft-targets", "method_args": {}},
        {"without": ("3",), "validation": 0},
    ],
)
def test_what_does_not_fit_is_refused_before_training(changes, monkeypatch):
    monkeypatch.setattr(fit_module.Fit, "advance", lambda self: pytest.fail("a step was taken"))
    with pytest.raises((UsageError, DataError)):
        train(CNN.with_changes(**changes))


def test_a_resumed_run_wants_the_same_file_of_teacher_weights(tmp_path, monkeypatch):
    from datadistill.nets import build

    state = build("mlp", channels=1, size=8, classes=10, width=16).state_dict()
    torch.save(state, tmp_path / "teacher.pt")
    config = replace(TINY, teacher_weights=str(tmp_path / "teacher.pt"))
    whole = train(config).saved.fingerprint
    with monkeypatch.context() as patch:
        patch.setattr("kd_baselines.image_training.score", break_off)
        with pytest.raises(UsageError, match="stop here"):
            train(config, out=tmp_path / "run")
    torch.save({name: 2 * value for name, value in state.items()}, tmp_path / "teacher.pt")
    with pytest.raises(UsageError, match=r"another teacher weight.*teacher_weights"):
        train(None, out=tmp_path / "run", resume=True)
    torch.save(state, tmp_path / "teacher.pt")
    assert train(None, out=tmp_path / "run", resume=True).saved.fingerprint == whole


def test_two_heads_without_a_term_for_the_second_are_one():
    args = {"activation_weight": 0.0}
    trained = train(replace(TINY, method="lwf", method_args=args, epochs=1))
    plain = train(replace(TINY, method="plain", method_args={}, epochs=1))
    assert trained.teacher is None and trained.saved.fingerprint == plain.saved.fingerprint


def test_a_teacher_of_other_classes_or_images_is_refused(tmp_path, straight):
    from datadistill.nets import build

    other = Teacher(build("mlp", channels=1, size=8, classes=7, width=8))
    with pytest.raises(UsageError, match="7"):
        train(TINY, teacher=other)
    with pytest.raises(DataError, match="normalization"):
        train(replace(TINY, size=16), teacher=straight[0])


# --- teachers and nets from elsewhere


def digits_net(width):
    torch.manual_seed(width)
    return build("mlp", channels=1, size=8, classes=10, width=width)


@pytest.mark.parametrize("name", ["t.pth", "t.safetensors", "t.pth.tar"])
def test_a_file_of_weights_is_a_teacher(name, tmp_path):
    teacher = digits_net(16)
    if name == "t.pth":
        torch.save(teacher.state_dict(), tmp_path / name)
    elif name == "t.pth.tar":
        named = {f"module.{k}": x for k, x in teacher.state_dict().items()}
        content = {"state_dict": named, "epoch": 3}
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=False)
    else:
        save_file(teacher.state_dict(), tmp_path / name)
    config = KdConfig(
        dataset="digits",
        method="soft-targets",
        net_args={"width": 4},
        teacher_args={"width": 16},
        epochs=1,
    )
    found = train(config, teacher=tmp_path / name)
    assert (
        found.student.state_dict().keys()
        == train(config, teacher=Teacher(teacher)).student.state_dict().keys()
    )
    for a, b in zip(found.teacher.nets[0].parameters(), teacher.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(DatadistillError, match=r"shape|width|fit"):
        train(replace(config, teacher_args={"width": 8}), teacher=tmp_path / name)


class Scripted(torch.nn.Module):
    def forward(self, x):
        return x


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda p: torch.save(Scripted(), p), "pickle that wants the Python object"),
        (lambda p: torch.jit.script(Scripted()).save(str(p)), "is TorchScript.*torch.jit.load"),
        (lambda p: torch.save(digits_net(7).state_dict(), p), "does not fit|shape"),
    ],
)
def test_weights_of_no_use_say_how_to_pass_a_module(write, said, tmp_path):
    write(tmp_path / "t.pth")
    with pytest.raises(DataError, match=f"{said}.*teacher_net.*Teacher\\(module\\)"):
        train(TINY, teacher=tmp_path / "t.pth")
    with pytest.raises(UsageError, match=r"net is a str; pass modules.*load_state_dict"):
        Teacher("t.pth")
    with pytest.raises(DataError, match=r"t\.pth is a file of torch\.save, which does not say"):
        SavedNet.load(tmp_path / "t.pth")


def test_a_students_file_is_a_state_dict(tmp_path):
    config = KdConfig(dataset="digits", method="soft-targets", net_args={"width": 4}, epochs=1)
    trained = train(config, teacher=Teacher(digits_net(8)), out=tmp_path / "run")
    plain = load_file(tmp_path / "run/student.safetensors")
    net = digits_net(4)
    net.load_state_dict(plain)
    for name, tensor in trained.student.state_dict().items():
        assert torch.equal(tensor, plain[name])
    tensors, meta = unpack(tmp_path / "run/student.safetensors", schema=2)
    older = tmp_path / "older.safetensors"
    older.write_bytes(pack({f"0.{k}": t for k, t in tensors.items()}, {**meta, "schema": 1}))
    saved = SavedNet.load(tmp_path / "run")
    assert SavedNet.load(older).fingerprint == saved.fingerprint == trained.saved.fingerprint
    for path in (older, tmp_path / "run/student.safetensors"):
        read = read_weights(path, net, download=False).fit(net)[0]
        assert all(torch.equal(tensor, plain[name]) for name, tensor in read.items())
    with pytest.raises(
        DataError, match="its teacher came from elsewhere; pass the file or the run of that"
    ):
        SavedNet.load(tmp_path / "run", "teacher")


def test_a_resumed_student_wants_the_teacher_it_had(tmp_path, monkeypatch):
    """Also where a later file of the same shapes lies in its place; the runs below keep their
    own."""
    small = replace(TINY, epochs=1, teacher_epochs=1)
    train(replace(small, teacher_seed=1), out=tmp_path / "other")
    with monkeypatch.context() as patch:
        patch.setattr("kd_baselines.image_training.score", break_off)
        with pytest.raises(UsageError, match="stop here"):
            train(small, out=tmp_path / "run")  # in the test of the teacher
    whole = train(small, out=tmp_path / "run", resume=True).saved.fingerprint
    assert whole == train(small).saved.fingerprint
    own, other = (tmp_path / name / "teacher.safetensors" for name in ("run", "other"))
    own.write_bytes(other.read_bytes())
    with pytest.raises(DataError, match="holds another teacher than that of the student so far"):
        train(None, out=tmp_path / "run", resume=True)


def test_a_state_of_an_earlier_version_is_read():
    """Of a run that trained no teacher; jobs were what stages are now."""
    config = replace(TINY, method="plain", method_args={}, epochs=1)
    data = load("digits")
    loop, again, ended = (Setup(config, data, None, RunOptions()).loop() for _ in range(3))
    loop.advance()
    state = copy.deepcopy(loop.state())  # which has the live tensors
    again.load({"job": state["stage"], "finished": [], **{k: state[k] for k in ("fit", "sums")}})
    while not loop.is_done:
        assert loop.advance() == again.advance()
    state = loop.state()
    ended.load({"job": 1, "finished": [state["net"]], **{k: state[k] for k in ("fit", "sums")}})
    for found in (again, ended):
        assert found.is_done
        assert all(
            torch.equal(x, found.net.state_dict()[k]) for k, x in loop.net.state_dict().items()
        )
