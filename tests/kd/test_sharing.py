"""Layers shared with the teacher: byte-identical and frozen, in a function, in a run, and when it
goes on."""

import itertools

import pytest
from torch import nn

import datadistill.training.fit_loop as fit_module
from datadistill.config import RunOptions
from datadistill.data import load
from datadistill.errors import UsageError
from kd_baselines.config import KdConfig
from kd_baselines.netfile import SavedNet
from kd_baselines.sharing import parse_pairs, share_layers
from kd_baselines.student_setup import Setup
from kd_baselines.teacher_runs import build_untrained, teacher_config
from kd_baselines.teachers import Teacher
from kd_baselines.training import train

# a wide teacher and a student of another family: 10 output weights of the same 16 features
CONFIG = KdConfig(
    dataset="digits",
    method="born-again",
    per_class=10,
    epochs=2,
    batch=50,
    lr=0.01,
    weight_decay=0.1,
    net="mlp",
    net_args={"width": 16, "depth": 3},
    shared=("layers.0", "layers.6:layers.4"),
    teacher_net="mlp",
    teacher_args={"width": 16, "depth": 2},
    teacher_epochs=1,
    teacher_batch=256,
)
SHARED = {"layers.0": "layers.0", "layers.6": "layers.4"}


def digest(tensors):
    return {name: value.detach().contiguous().numpy().tobytes() for name, value in tensors.items()}


def net(*widths, bias=True):
    parts = [nn.Linear(a, b, bias=bias) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*parts)


def of_teacher(student, teacher):
    """Whether each shared tensor has the teacher's bytes."""
    mine, theirs = digest(student.state_dict()), digest(teacher.state_dict())
    names = [
        (f"{a}.{part}", f"{b}.{part}") for a, b in SHARED.items() for part in ("weight", "bias")
    ]
    return all(mine[a] == theirs[b] for a, b in names)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "run"
    return folder, train(CONFIG, out=folder)


# --- the function


def test_shared_values_are_the_teachers_and_frozen():
    student, teacher = net(4, 6, 6, 3), net(4, 6, 3)
    before, other = digest(teacher.state_dict()), digest(student[1].state_dict())
    share_layers(student, Teacher(teacher), {"0": "0", "2": "1"})
    for mine, theirs in ((0, 0), (2, 1)):
        assert digest(student[mine].state_dict()) == digest(teacher[theirs].state_dict())
        assert student[mine].weight.data_ptr() != teacher[theirs].weight.data_ptr()
    assert [name for name, p in student.named_parameters() if p.requires_grad] == [
        "1.weight",
        "1.bias",
    ]
    assert digest(student[1].state_dict()) == other
    assert digest(teacher.state_dict()) == before and all(
        p.requires_grad for p in teacher.parameters()
    )


class Net(nn.Module):
    def __init__(self, first=3):
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(1, first, 3), nn.BatchNorm2d(first)
        self.block = nn.Sequential(nn.Conv2d(first, first, 1), nn.ReLU())
        self.fc = nn.Linear(3, 2)


def same():
    module = Net()
    both = Net()
    both.conv1 = module.conv1
    return module, both


def test_an_unknown_layer_offers_a_few_that_can_be_shared():
    with pytest.raises(UsageError) as caught:
        share_layers(Net(), Net(), {"conv": "conv1"})
    assert str(caught.value).endswith(
        # not norm, block, block.1
        "did you mean conv1? (layers that can be shared: conv1, fc, block.0)"
    )
    deep = net(*40 * [2])
    with pytest.raises(UsageError, match=r"did you mean 38 or .* and 29 more\)$") as caught:
        share_layers(deep, net(2, 2), {"388": "0"})
    assert (
        str(caught.value).partition("shared: ")[2].startswith("38, ")
        and str(caught.value).count(", ") == 9
    )
    with pytest.raises(UsageError, match="it has none that can be shared"):
        share_layers(nn.Sequential(nn.BatchNorm1d(2)), net(2, 2), {"1": "0"})


REFUSED = [
    (
        Net(),
        Net(),
        {"conv": "conv1"},
        "the student has no layer 'conv' to share; did you mean conv1",
    ),
    (
        Net(),
        Net(),
        {"conv1": "cov1"},
        "the teacher has no layer 'cov1' to share; did you mean conv1",
    ),
    (Net(), Net(), {"": "conv1"}, "the student has no layer ''"),
    (
        Net(),
        Net(4),
        {"conv1": "conv1"},
        "weight is (3, 1, 3, 3) and (4, 1, 3, 3); give the student the teacher",
    ),
    (Net(), Net(), {"conv1": "fc"}, "weight is (3, 1, 3, 3) and (2, 3)"),
    (Net(), Net(), {"block": "conv1"}, "hold other tensors (0.weight, 0.bias; weight, bias)"),
    (net(3, 2, bias=False), net(3, 2), {"0": "0"}, "hold other tensors (weight; weight, bias)"),
    (Net(), Net().double(), {"fc": "fc"}, "weight is torch.float32 and torch.float64"),
    (
        Net(),
        Net(),
        {"norm": "norm"},
        "layer norm holds buffers (running_mean, running_var, num_batches_tracked)",
    ),
    (Net(), Net(), {"block.1": "block.1"}, "layer block.1 has no parameters"),
    (Net(), Net(), {"block.0": "block.0", "block": "block"}, "layer block.0 lies within block"),
    (net(3, 4, 2), net(3, 4, 2), {"0": "0", "1": "1"}, "every parameter of the student is frozen"),
    (*same(), {"conv1": "conv1"}, "are one and the same"),
    (Net(), Teacher(Net(), Net()), {"conv1": "conv1"}, "an ensemble of 2 nets"),
    (Net(), None, {"conv1": "conv1"}, "the method has none; take one with a teacher"),
]


@pytest.mark.parametrize(
    "student, teacher, pairs, said",
    REFUSED,
    ids=[f"{i}: {row[3]}" for i, row in enumerate(REFUSED)],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(student, teacher, pairs, said):
    before = digest(student.state_dict())
    fine = {"fc": "fc", **pairs} if hasattr(student, "fc") and teacher is not None else pairs
    for tried in (pairs, fine):  # also behind a pair that would fit
        with pytest.raises(UsageError) as refused:
            share_layers(student, teacher, tried)
        assert said in str(refused.value)
    assert digest(student.state_dict()) == before and all(
        p.requires_grad for p in student.parameters()
    )


def test_pairs_as_texts():
    assert parse_pairs(()) == {}
    assert parse_pairs(("a.1:b", "c"), prefix="trunk.") == {"trunk.a.1": "b", "trunk.c": "c"}
    for wrong in (("a:b:c",), ("",), (":b",), ("a", "a:b")):
        with pytest.raises(UsageError, match="shared layers is"):
            parse_pairs(wrong)


# --- a run


def test_in_a_run_shared_layers_stay_and_the_others_move():
    data = load("digits")
    untrained = build_untrained(CONFIG, data, RunOptions())
    teacher = train(teacher_config(CONFIG), data=data).student
    setup = Setup(CONFIG, data, Teacher(teacher), RunOptions())
    loop, found, first = setup.loop(), [], digest(setup.student.state_dict())
    while not loop.is_done:
        held = {id(p) for group in loop.fit.optimizer.param_groups for p in group["params"]}
        found.append(of_teacher(setup.student, teacher))
        shared = [p for name in SHARED for p in setup.student.get_submodule(name).parameters()]
        assert not held & {id(p) for p in shared} and not any(p.requires_grad for p in shared)
        loop.advance()
    assert found == [True] * 4 and of_teacher(setup.student, teacher)
    assert not of_teacher(setup.student, untrained.nets[0]), (
        "the trained values, not the first ones"
    )
    last = digest(setup.student.state_dict())
    moved = [name for name in last if last[name] != first[name]]
    assert moved == ["layers.2.weight", "layers.2.bias", "layers.4.weight", "layers.4.bias"]


def test_a_convolution_keeps_the_bytes_in_any_memory_layout():
    shape = {"width": 4, "depth": 3, "pools": 1}
    config = CONFIG.with_changes(
        net="thin-cnn",
        net_args={**shape, "depth": 4},
        teacher_net="thin-cnn",
        teacher_args=shape,
        shared=("convs.0", "classifier"),
        method="dkpp",
        method_args={"label_weight": 0.5},
    )
    trained = train(config)
    mine, theirs = trained.student, trained.teacher.nets[0]
    for name in ("convs.0", "classifier"):
        own = digest(mine.get_submodule(name).state_dict())
        assert own == digest(theirs.get_submodule(name).state_dict()) and own


def test_in_the_files_too(straight):
    folder, trained = straight
    student, teacher = SavedNet.load(folder).net(), SavedNet.load(folder, "teacher").net()
    assert of_teacher(student, teacher) and of_teacher(trained.student, trained.teacher.nets[0])


def test_with_a_teacher_from_a_file_and_from_python(straight):
    folder, trained = straight
    from_file = train(CONFIG, teacher=folder)
    assert from_file.saved.fingerprint == trained.saved.fingerprint
    assert of_teacher(from_file.student, SavedNet.load(folder, "teacher").net())
    assert (
        train(CONFIG, teacher=Teacher(trained.teacher.nets[0])).saved.fingerprint
        == trained.saved.fingerprint
    )


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"method": "plain"}, "the method has none"),
        ({"teachers": 2}, "an ensemble of 2 nets"),
        (
            {"shared": ("layer.0",)},
            "the student has no layer 'layer.0' to share; did you mean layers.0",
        ),
        ({"shared": ("layers.6",)}, "the teacher has no layer 'layers.6'"),
        ({"net_args": {"width": 8, "depth": 3}}, r"weight is \(8, 64\) and \(16, 64\)"),
        (
            {"net_args": {"width": 16, "depth": 1}, "shared": ("layers.0", "layers.2:layers.4")},
            "is frozen",
        ),
        ({"shared": ("layers.0", "layers.0:layers.4")}, "twice"),
    ],
)
def test_refused_before_a_teacher_is_trained(changes, said, monkeypatch):
    monkeypatch.setattr(fit_module.Fit, "advance", lambda self: pytest.fail("a step was taken"))
    with pytest.raises(UsageError, match=said):
        train(CONFIG.with_changes(**changes))
