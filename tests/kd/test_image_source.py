"""Students of distilled sets and coresets: what they are trained on, by which steps, and what is
refused."""

import json
import signal

import pytest
import torch
import torch.nn.functional as F

import kd_baselines as kd
from datadistill import DistilledDataset, FitPlan, load
from datadistill.config import RunOptions
from datadistill.data import Normalization
from datadistill.errors import DatadistillError, DataError, Interrupted, UsageError
from datadistill.evaluation.coresets import herding
from datadistill.innerloop import adam, momentum, sgd
from datadistill.nets import build
from datadistill.nets.spec import NetSpec
from datadistill.synthetic.schedule import Schedule
from datadistill.training.fit_loop import Fit
from kd_baselines.cli import main

ARGS = {"width": 4, "depth": 2}
SIZES = {"channels": 1, "size": 8, "classes": 10}
CONFIG = kd.KdConfig(
    dataset="digits",
    net="convnet",
    net_args=ARGS,
    epochs=6,
    batch=8,
    lr=0.01,
    teacher_net="mlp",
    teacher_args={"width": 16},
    teacher_epochs=1,
)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def make_set(digits, **changes):
    """Two images of each class, with soft labels, in four steps of momentum."""
    stream = torch.Generator().manual_seed(0)
    labels = F.one_hot(torch.arange(20) % 10, 10) * 0.8 + 0.02
    first = torch.cat([digits.train.images[digits.train.labels == k][:2] for k in range(10)])
    values = {
        "images": first.view(10, 2, 1, 8, 8).transpose(0, 1).flatten(0, 1),
        "labels": labels,
        "step_sizes": 0.02 + 0.05 * torch.rand(4, generator=stream),
        "order": Schedule.equal(20, 2, epochs=2),
        "classes": digits.classes,
        "normalization": digits.normalization,
        "net": NetSpec("convnet", {**SIZES, **ARGS}),
        "update": momentum(0.9),
        **changes,
    }
    first_four = [values.pop(name) for name in ("images", "labels", "step_sizes", "order")]
    return DistilledDataset(*first_four, **values)


def own_net(norm="none"):
    torch.manual_seed(3)
    return build("convnet", **SIZES, **ARGS, norm=norm)


SETS = {
    "soft labels": {},
    "hard labels, Adam": {"labels": torch.arange(20) % 10, "update": adam()},
    "a step size for each tensor": {"step_sizes": torch.linspace(0.01, 0.1, 24).view(4, 6)},
    "augmented minibatches": {"order": Schedule.shuffled(20, 10, 2, ("crop",)), "update": sgd()},
}


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("which", SETS)
def test_own_steps_with_labels_alone_are_the_sets_own_training(which, norm, digits):
    net = own_net(norm)
    changes = dict(SETS[which])
    if "tensors" not in changes and changes.get("step_sizes", torch.ones(1)).dim() == 2:
        names = [name for name, _ in net.named_parameters()]
        changes |= {"step_sizes": torch.linspace(0.01, 0.1, 4 * len(names)).view(4, -1)}
        changes |= {"net": NetSpec("convnet", {**SIZES, **ARGS, "norm": norm}), "tensors": names}
    d = make_set(digits, **changes)
    config = CONFIG.with_changes(data_schedule="own", data_from="custom", seed=5)
    found, wanted = (
        kd.train(config, net=net, data_from=d, data=digits).student,
        d.train(net, seed=5),
    )
    # logits: a bias before BatchNorm has gradient 0 but for rounding, which Adam blows up
    x = digits.validation.images
    torch.testing.assert_close(found(x), wanted.eval()(x), rtol=1e-3, atol=1e-4)


def test_the_plain_schedule_is_fit_on_the_images_and_labels(digits):
    d, net = make_set(digits), own_net()
    trained = kd.train(CONFIG, net=net, data_from=d, data=digits)
    plan = FitPlan(epochs=6, batch=8, lr=0.01)
    fitted = kd.fit(net, d, kd.Stage("student", kd.CE(), plan)).state_dict()
    for name, value in fitted.items():
        torch.testing.assert_close(trained.student.state_dict()[name], value)
    assert trained.scores.images == len(digits.test)


KNOWLEDGE = {
    "plain": {},
    "soft-targets": {},
    "logits": {},
    "attention": {"layers": "features.0:features.0", "beta": 10.0},
    "jacobian": {"output": "top", "jacobian_weight": 0.1, "activation_weight": 0.1},
    "born-again": {},
    "dkpp": {"redraw": False},
    "input-noise": {},
}


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(9)
    return kd.Teacher(build("convnet", **SIZES, width=8, depth=2))


@pytest.mark.parametrize("method", KNOWLEDGE)
def test_every_kind_of_knowledge_is_learned_on_a_set(method, digits, teacher):
    """By a plain schedule and by the set's own, from the same first weights."""
    found = []
    for schedule in ("plain", "own"):
        changes = {"method": method, "method_args": KNOWLEDGE[method], "data_schedule": schedule}
        config = CONFIG.with_changes(**changes, data_from="custom")
        given = {"data_from": make_set(digits), "teacher": teacher, "data": digits}
        trained = kd.train(config, **given)
        assert trained.saved.record["data_from_images"] == 20
        assert all(torch.isfinite(p).all() for p in trained.student.parameters())
        found.append(trained.saved.fingerprint)
    assert found[0] != found[1]


def test_a_teacher_learns_from_the_real_images(digits):
    config = CONFIG.with_changes(method="soft-targets", epochs=1)
    found = [kd.train(c).teacher.hash for c in (config, config.with_changes(data_from="random:1"))]
    assert found[0] == found[1]
    few = kd.train(config.with_changes(teacher_images=2, data_from="random:1")).teacher.hash
    assert few != found[0]


@pytest.mark.parametrize("source", ["plain", "own", "k-means:1"])
def test_a_run_is_stopped_and_resumed_to_the_same_bytes(source, digits, tmp_path, monkeypatch):
    file = tmp_path / "set.safetensors"
    make_set(digits).save(file)
    changes = {"data_from": source}
    if source in ("plain", "own"):
        changes = {"data_from": str(file), "data_schedule": source}
    config = CONFIG.with_changes(**changes, method="soft-targets")
    kd.train(config, out=tmp_path / "whole")
    advance, steps = Fit.advance, []

    def interrupted(self):
        steps.append(1)
        if len(steps) == 15:  # of the student: the teacher takes 12
            signal.raise_signal(signal.SIGTERM)
        return advance(self)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="kd-baselines train --r"):
        patch.setattr(Fit, "advance", interrupted)
        kd.train(config, out=tmp_path / "run", options=RunOptions(quiet=True))
    kd.train(None, out=tmp_path / "run", resume=True)
    for name in ("student.safetensors", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    environment = json.loads((tmp_path / "run/environment.json").read_text())
    record = kd.SavedNet.load(tmp_path / "run").record
    assert environment["data_from"] == record["data_from_fingerprint"]
    assert record["data_from"] == (source if ":" in source else "set.safetensors")


def test_a_resumed_run_wants_the_same_set(digits, tmp_path):
    file = tmp_path / "set.safetensors"
    make_set(digits).save(file)
    kd.train(CONFIG, data_from=file, out=tmp_path / "run")
    make_set(digits, labels=torch.arange(20) % 10).save(file)
    with pytest.raises(UsageError, match=r"on another set of images .its fingerprint differs"):
        kd.train(None, out=tmp_path / "run", resume=True)
    kd.train(CONFIG, data_from=make_set(digits), out=tmp_path / "own")
    with pytest.raises(UsageError, match=r"data_from of your own .*data_from=\.\.\."):
        kd.train(None, out=tmp_path / "own", resume=True)
    with pytest.raises(UsageError, match="on another set of images"):
        again = make_set(digits, update=sgd())
        kd.train(None, out=tmp_path / "own", resume=True, data_from=again)


def test_a_coreset_is_that_of_the_real_training_images(digits):
    trained = kd.train(CONFIG.with_changes(data_from="herding:3"), data=digits)
    images = herding(digits.train, 10, 3).flatten(0, 1)
    split = (images, torch.arange(10).repeat_interleave(3))
    again = kd.fit(own_net(), split, kd.Stage("s", kd.CE(), FitPlan(epochs=6, batch=8, lr=0.01)))
    other = kd.train(CONFIG, net=own_net(), data_from="herding:3", data=digits)
    for a, b in zip(again.parameters(), other.student.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert trained.saved.record["data_from_bytes"] == 30 * (64 * 4 + 8)
    assert trained.saved.record["data_from_fingerprint"].startswith("sha256:")


def test_a_set_for_one_initialization_starts_the_student_there(digits):
    net = own_net()
    theta_0 = {name: p.detach().clone() for name, p in net.named_parameters()}
    d = make_set(digits, net=NetSpec("convnet", {**SIZES, **ARGS, "norm": "none"}), theta_0=theta_0)
    config = CONFIG.with_changes(
        data_schedule="own", data_from="custom", net_args={**ARGS, "norm": "none"}
    )
    found = kd.train(config, data_from=d).student
    for a, b in zip(found.parameters(), d.train().parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="for one initialization of convnet, and the student has"):
        kd.train(config.with_changes(net="mlp", net_args={}), data_from=d)


OTHER = Normalization((0.5,), (0.5,), size=8, channels=1)
REFUSED = {
    "classes": ({}, {"classes": tuple("abcdefghij")}, "the set has 10 classes .a, b"),
    "normalization": ({}, {"normalization": OTHER}, "are normalized by .* load the data with"),
    "shape": ({"size": 16}, {}, "the set's images are 1x8x8, those of digits are 1x16x16"),
    "raw": ({}, {"loss": "squared-error"}, "numbers for a squared error.*data_labels hard"),
    "label": ({"method": "jacobian"}, {}, "probabilities, and this loss reads one true class"),
    "own rule": (
        {"method": "fitnets-one-stage", "method_args": {"guided": "features.0",
         "hint": "features.0"}, "data_schedule": "own"},
        {},
        "trains tensors beside the student",
    ),
    "stages": (
        {"method": "fitnets", "method_args": {"guided": "features.0", "hint": "features.0"},
         "data_schedule": "own"},
        {},
        "the stages are hints, student, and the own steps of a set are one training",
    ),
    "frozen norm": ({"data_schedule": "own", "net_args": {**ARGS, "norm": "batch"}},
                    {"norm": "frozen"}, "BatchNorm frozen"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_set_that_does_not_fit_is_refused_first(case, digits, teacher, monkeypatch):
    changes, of_set, said = REFUSED[case]
    monkeypatch.setattr(Fit, "advance", lambda self: pytest.fail("a step was taken"))
    config = CONFIG.with_changes(data_from="custom", **changes)
    given = None if "size" in changes or config.method == "plain" else teacher
    with pytest.raises(DatadistillError, match=said):
        kd.train(config, data_from=make_set(digits, **of_set), teacher=given)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data_from": "random:0"}, "say how many images of each class, such as random:10"),
        ({"data_from": "herding"}, "such as herding:10"),
        ({"data_from": "random:3", "per_class": 3}, r"per_class is 3, .*per_class None"),
        ({"data_from": "random:3", "without": ("3",)}, "without is .*take it out"),
        ({"data_from": "k-means:3", "data_schedule": "own"}, "have no steps of their own"),
        ({"data_schedule": "own"}, "data_schedule is own, but the images are the real ones"),
        ({"data_labels": "hard"}, "data_labels is hard, but the images are the real ones"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(changes, said):
    with pytest.raises(UsageError, match=said):
        kd.train(CONFIG.with_changes(**changes))


def test_data_of_other_kinds_are_refused_in_a_sentence(digits):
    d = make_set(digits)
    for call, said in (
        (lambda: kd.train(CONFIG, data=d), "pass real data here, and the set as data_from="),
        (lambda: kd.make_ledger(kd.LedgerConfig(), data=d, out="x"), "the set as data_from="),
        (lambda: kd.train(CONFIG, data_from=digits), "real images are passed as data="),
        (lambda: kd.score(own_net(), d), "on which nothing is tested"),
        (lambda: kd.train(CONFIG, data_from="nowhere"), "nowhere"),
        (lambda: kd.train(CONFIG, data_from="random:1000"), "has .* training images, 1000 wanted"),
    ):
        with pytest.raises((UsageError, DataError), match=said):
            call()
    raw = make_set(digits, loss="squared-error")
    with pytest.raises(UsageError, match="numbers for a squared error"):
        kd.fit(own_net(), raw, kd.Stage("s", kd.CE(), FitPlan(epochs=1)))
    assert kd.train(CONFIG.with_changes(data_labels="hard", data_from="x"), data_from=raw).scores


def test_the_set_of_another_normalization_gives_the_real_data_its_own(digits, tmp_path):
    file = tmp_path / "set.safetensors"
    make_set(digits, normalization=OTHER).save(file)
    changes = {"data_from": str(file), "normalization": str(file), "method": "soft-targets"}
    trained = kd.train(CONFIG.with_changes(**changes, epochs=1))
    assert trained.saved.normalization == OTHER
    assert trained.saved.record["normalization"] == "set.safetensors"


def test_the_command_line_says_what_was_learned_from(digits, tmp_path, capsys):
    file = tmp_path / "set.safetensors"
    make_set(digits).save(file)
    words = ["train", "ban-mnist5k", "--arm", "ban+l", "--dataset", "digits", "--teacher-epochs"]
    words += ["1", "--teacher-decay-epochs", "None", "--data-from", str(file), "--data-schedule"]
    assert main([*words, "own", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "learned from the 20 images of set.safetensors (5,936 bytes, sha256:" in said
    assert "not the recipe as it is" in said or "published" not in said
