"""Ledgers from start to end on tiny images: bytes, records, going on, what is shared, what is
refused."""

import json

import pytest
import torch

from datadistill.data import Normalization, RealData
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError
from datadistill.innerloop import sgd
from datadistill.nets.spec import NetSpec
from datadistill.runs.canonical import parse_json
from datadistill.runs.timing import read_seconds, sum_sessions
from kd_baselines.ledger import ledger_study, rows, senders
from kd_baselines.ledger.config import LedgerConfig, distill_config
from kd_baselines.ledger.ledger_study import make_ledger
from kd_baselines.ledger.payload import Payload
from kd_baselines.ledger.plans import LEDGERS
from kd_baselines.ledger.rows import IMAGE_ROWS, NET_ROWS, Record
from kd_baselines.ledger.senders import net_config
from kd_baselines.ledger.table import ABOUT
from kd_baselines.netfile import SavedNet
from kd_baselines.training import train

G = torch.Generator().manual_seed(0)
CENTRES = torch.rand(3, 1, 4, 4, generator=G)
LABELS = torch.arange(90) % 3
IMAGES = (CENTRES[LABELS] + 0.3 * torch.randn(90, 1, 4, 4, generator=G)).clamp(0, 1)
DATA = RealData.from_tensors(IMAGES, LABELS, test_images=IMAGES, test_labels=LABELS, validation=12)
TINY = LedgerConfig(
    name="tiny",
    dataset="digits",
    per_class=2,
    student_net="mlp",
    student_args={"width": 4, "depth": 1},
    steps=6,
    batch=4,
    lr=0.05,
    teacher_net="mlp",
    teacher_args={"width": 6, "depth": 1},
    net_epochs=1,
    net_batch=26,
    net_lr=0.05,
    distill="digits-random",
    distill_changes={"iterations": 1, "epochs": 2, "nets": 1, "labels": "soft", "validate_nets": 1},
)
STUDENT = 16 * 4 + 4 + 4 * 3 + 3  # parameters
TEACHER = 16 * 6 + 6 + 6 * 3 + 3


def make(out, plan=TINY, seeds=2, data=DATA, **options):
    return make_ledger(plan, out=out, seeds=seeds, data=data, **options)


def records(folder):
    """All of a ledger, but for what the clock said."""
    found = {
        path.name: parse_json(path.read_bytes()) for path in sorted((folder / "rows").iterdir())
    }
    return {
        name: {k: v for k, v in record.items() if k != "seconds"} for name, record in found.items()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A ledger of every row, and its folder."""
    folder = tmp_path_factory.mktemp("ledger") / "a"
    return make(folder), folder


def test_every_row_has_its_storages_and_exact_bytes(whole):
    found, folder = whole
    # a step size for each step and tensor
    images, hard, soft, steps = 6 * 16, 6, 6 * 3 * 4, 2 * 4 * 4
    wanted = {
        ("real-hard", "uint8"): images + 8 + hard,
        ("real-hard", "float32"): 4 * images + hard,
        ("real-soft", "uint8"): images + 8 + soft,
        ("real-soft", "float32"): 4 * images + soft,
        ("distilled", "uint8"): images + 8 + soft,
        ("distilled", "float32"): 4 * images + soft,
        ("distilled-own", "uint8"): images + 8 + soft + steps,
        ("distilled-own", "float32"): 4 * images + soft + steps,
        ("distilled-soft", "uint8"): images + 8 + soft,
        ("distilled-soft", "float32"): 4 * images + soft,
        ("teacher", "float32"): 4 * TEACHER,
        ("teacher", "float16"): 2 * TEACHER,
        ("student", "float32"): 4 * STUDENT,
        ("student", "float16"): 2 * STUDENT,
        ("born-again", "float32"): 4 * TEACHER,
        ("born-again", "float16"): 2 * TEACHER,
        ("full", "uint8"): 78 * 16 + 8 + 78,
    }
    assert {(e.row, e.storage): e.bytes for e in found.entries} == wanted
    assert tuple(dict.fromkeys(e.row for e in found.entries)) == tuple(ABOUT)
    for entry in found.entries:
        assert list(entry.values) == [0, 1] and entry.sender_seconds >= 0
        held = sorted((folder / "payloads").glob(f"{entry.row}-{entry.storage}*"))
        assert len(held) == {"f": 0, "d": 1}.get(entry.row[0], 2)
        for file in held:
            assert (
                file.stat().st_size == entry.file_bytes and Payload.load(file).bytes == entry.bytes
            )


def test_every_row_of_images_takes_the_same_steps(whole):
    steps = {entry.row: entry.steps for entry in whole[0].entries}
    assert {row: steps[row] for row in IMAGE_ROWS} == {
        **dict.fromkeys(IMAGE_ROWS, 6),
        "distilled-own": 2,
    }
    # 78 images in batches of 26
    assert all(steps[row] == 0 for row in NET_ROWS) and steps["full"] == 3


def test_soft_rows_hold_the_teachers_probabilities(whole):
    _, folder = whole
    teacher = SavedNet.load(folder / "nets/teacher-s0").net()
    for a, b in (
        ("real-hard-uint8-s1", "real-soft-uint8-s1"),
        ("distilled-uint8", "distilled-soft-uint8"),
    ):
        plain, soft = (Payload.load(folder / f"payloads/{name}.safetensors") for name in (a, b))
        assert torch.equal(plain.images(), soft.images())
        assert torch.allclose(soft.labels(), teacher(soft.images()).softmax(1), atol=1e-6)
    first, second = (
        Payload.load(folder / f"payloads/real-hard-uint8-s{s}.safetensors") for s in (0, 1)
    )
    assert first.labels().bincount().tolist() == [2, 2, 2] and not torch.equal(
        first.images(), second.images()
    )


def test_nets_are_those_of_the_runs(whole):
    found, folder = whole
    for seed in (0, 1):
        for which in NET_ROWS:
            saved = SavedNet.load(folder / f"nets/{which}-s{seed}")
            sent = Payload.load(folder / f"payloads/{which}-float32-s{seed}.safetensors").net()
            assert all(
                torch.equal(t, saved.states[0][name]) for name, t in sent.state_dict().items()
            )
            assert found.entry(which, "float32").values[seed] == saved.scores["accuracy"]
        taught = parse_json((folder / f"nets/born-again-s{seed}/environment.json").read_bytes())
        assert "teacher" in taught
    a, b = (net_config(TINY, which, 3) for which in ("teacher", "born-again"))
    assert a.seed != b.seed and (a.net, a.epochs, a.lr) == (b.net, b.epochs, b.lr)


def test_the_same_call_again_writes_the_same_bytes(whole, monkeypatch):
    found, folder = whole
    before = {path: path.read_bytes() for path in found.files}
    for module, name in ((senders, "train"), (senders, "distill"), (rows, "receive")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("made again"))
    assert make(folder) == found
    assert {path: path.read_bytes() for path in found.files} == before
    text = (folder / "ledger.md").read_text()
    assert "`kd-baselines ledger tiny --seeds 2`" in text and str(folder) not in text
    one = make(folder, seeds=(1,), rows=("real-hard",))  # the rows that are there stay in the table
    assert len(one.entries) == 17 and list(one.entries[0].values) == [1]


@pytest.mark.parametrize("row", ["distilled-own", "student"])
def test_one_row_alone_gives_the_same_record(row, whole, tmp_path):
    found = make(tmp_path / "one", seeds=1, rows=(row,))
    assert {entry.row for entry in found.entries} == {row}
    mine = records(tmp_path / "one")
    assert (
        mine == {name: record for name, record in records(whole[1]).items() if name in mine}
        and mine
    )
    assert found.break_even(found.entries[0]) is None  # without the row of all real data


def test_one_teacher_serves_all_seeds(tmp_path):
    found = make(
        tmp_path / "c", seeds=(4, 5), rows=("teacher", "student"), changes={"teachers": "one"}
    )
    assert sorted(p.name for p in (tmp_path / "c/nets").iterdir()) == [
        "student-s4",
        "student-s5",
        "teacher-s0",
    ]
    assert list(found.entry("teacher").values) == [0] and list(found.entry("student").values) == [
        4,
        5,
    ]


def test_given_nets_and_sets_are_used_and_their_seconds_told(whole, tmp_path):
    _, folder = whole
    found = make(
        tmp_path / "d",
        seeds=1,
        rows=("distilled", "real-soft", "teacher", "born-again"),
        distilled=folder / "distilled",
        teacher=folder / "nets/teacher-s1",
    )
    assert not (tmp_path / "d/distilled").exists()
    assert [p.name for p in (tmp_path / "d/nets").iterdir()] == ["born-again-s0"]
    saved = SavedNet.load(folder / "nets/teacher-s1")
    assert found.entry("teacher").values == {0: saved.scores["accuracy"]}
    assert found.entry("teacher").sender_seconds == read_seconds(folder / "nets/teacher-s1")
    assert found.entry("distilled").sender_seconds == read_seconds(folder / "distilled")
    text = (tmp_path / "d/ledger.md").read_text()
    assert "was not trained here" in text and "--teacher FILE" in text and str(folder) not in text
    copy = tmp_path / "set.safetensors"  # alone, it tells no seconds
    copy.write_bytes((folder / "distilled/distilled.safetensors").read_bytes())
    alone = make(tmp_path / "e", seeds=1, rows=("distilled",), distilled=copy)
    assert alone.entry("distilled").sender_seconds is None
    with pytest.raises(UsageError, match="holds another study"):
        make(tmp_path / "e", seeds=1, rows=("distilled",))


def test_the_sender_may_have_fewer_images(tmp_path):
    config = TINY.with_changes(real_per_class=5)
    found = make(tmp_path / "f", config, seeds=1, rows=("real-hard", "full"))
    assert found.entry("full").parts == {"images": 15 * 16, "range": 8, "labels": 15}
    sent = Payload.load(tmp_path / "f/payloads/real-hard-float32-s0.safetensors").images()
    data = senders.real_data(config, ledger_study.RunOptions(), DATA)
    assert all(any(torch.equal(x, y) for y in data.train.images) for x in sent)


# --- what is refused


def a_set(classes=("0", "1", "2"), size=4, mean=None):
    spec = NetSpec("mlp", {"channels": 1, "size": size, "classes": len(classes)})
    normalization = (
        DATA.normalization
        if mean is None
        else Normalization((mean,), (0.5,), size=size, channels=1)
    )
    return DistilledDataset(
        torch.zeros(len(classes), 1, size, size),
        torch.arange(len(classes)),
        torch.tensor([0.1]),
        [torch.arange(len(classes))],
        classes=classes,
        normalization=normalization,
        net=spec,
        update=sgd(),
    )


@pytest.mark.parametrize(
    ("made", "kind", "said"),
    [
        (
            a_set(("no", "yes")),
            UsageError,
            r"distilled set has 2 classes \(no, yes\), but custom has 3",
        ),
        (a_set(mean=0.25), DataError, "distilled set is of images normalized by"),
    ],
)
def test_a_set_of_other_classes_or_images_is_refused_first(made, kind, said, tmp_path):
    made.save(tmp_path / "set.safetensors")
    with pytest.raises(kind, match=said):
        make(tmp_path / "out", rows=("distilled",), distilled=tmp_path / "set.safetensors")
    assert not (tmp_path / "out").exists()


def test_a_teacher_of_other_classes_is_refused(tmp_path):
    train(net_config(TINY, "full", 0), out=tmp_path / "digits")  # ten classes
    with pytest.raises(UsageError, match="the teacher has 10 classes"):
        make(tmp_path / "out", teacher=tmp_path / "digits")
    with pytest.raises(DataError):
        make(tmp_path / "out", teacher=tmp_path / "nothing.safetensors")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rows": ("real-had",)}, "no row 'real-had'; did you mean real-hard"),
        ({"plan": "mnst"}, "no ledger 'mnst'; did you mean mnist"),
        ({"changes": {"step": 3}}, "no field 'step'; did you mean steps"),
        ({"changes": {"steps": 0}}, "steps is 0"),
        ({"changes": {"lr": -1.0}}, "lr is -1.0"),
        ({"changes": {"optimizer": "adm"}}, "optimizer is 'adm'; did you mean adam"),
        (
            {"changes": {"distill": "digits-randm"}},
            "no recipe 'digits-randm'; did you mean digits-random",
        ),
        (
            {"changes": {"distill_changes": {"ipc": 3}}},
            "distill_changes has ipc, .*; change per_class",
        ),
        (
            {"changes": {"distill_changes": {"iteration": 3}}},
            "no field 'iteration'; did you mean iterations",
        ),
        ({"changes": {"student_net": "mlpp"}}, "no net called 'mlpp'; did you mean mlp"),
        ({"changes": {"net_storages": ()}}, "net_storages is"),
        (
            {"changes": {"real_per_class": 1}},
            "2 images of each class are sent, but the sender has 1",
        ),
    ],
)
def test_what_cannot_be_made_leaves_nothing(options, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        make(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_too_many_images_and_an_occupied_place_are_refused(whole, tmp_path):
    with pytest.raises(DataError, match="500 wanted of each; lower per_class"):
        make(tmp_path / "out", changes={"per_class": 500})
    with pytest.raises(UsageError, match=r"holds another study \(steps 6 -> 7\)"):
        make(whole[1], changes={"steps": 7})


# --- small parts


def test_seconds_add_up_over_sessions():
    one = [{"stage": "student", "epoch": e, "seconds": s} for e, s in ((1, 2.0), (2, 4.0))]
    assert sum_sessions(one) == 4.0 and sum_sessions([]) is None
    assert sum_sessions([*one, {"stage": "student", "epoch": 2, "seconds": 1.5}]) == 5.5
    assert (
        sum_sessions([*one, {"stage": "student", "epoch": 2, "seconds": 9.0}]) == 13.0
    )  # a slow second session


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps({"row": "full"}))
    with pytest.raises(DataError, match=r"r\.json is no record of a ledger"):
        Record.load(tmp_path / "r.json")


def test_named_ledgers_learn_their_set_for_their_own_student():
    for name, config in LEDGERS.items():
        found = distill_config(config)
        assert (
            config.name == name
            and found.ipc == config.per_class
            and found.dataset == config.dataset
        )
        assert (found.net, found.net_args, found.init) == (
            config.student_net,
            config.student_args,
            config.student_init,
        )
        assert found.theta_0 == "random"
    assert distill_config(LEDGERS["cifar10"]).augment == ("flip",)
    assert net_config(TINY, "student", 2).method_args == {"temperature": 4.0}
