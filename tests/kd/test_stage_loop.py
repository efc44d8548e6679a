"""What the trainer hands on: parameters and rates, epochs to schedules, steps to noise, the
config."""

import json
from dataclasses import replace
from itertools import permutations

import pytest
import torch

from datadistill.config import RunOptions
from datadistill.data import Split, load
from datadistill.errors import UsageError
from datadistill.nets import build
from datadistill.training.fit_plan import FitPlan
from kd_baselines.config import KdConfig
from kd_baselines.losses import CE
from kd_baselines.losses.term import Needs, Term
from kd_baselines.methods import METHODS, Method
from kd_baselines.netfile import SavedNet
from kd_baselines.stage_loop import stage_fit
from kd_baselines.stages import Stage
from kd_baselines.student_setup import Setup
from kd_baselines.teacher_runs import build_untrained, teacher_config
from kd_baselines.training import train

TINY = KdConfig(
    dataset="digits",
    per_class=10,
    epochs=2,
    batch=50,
    lr=0.01,
    net="thin-cnn",
    net_args={"width": 4, "depth": 4, "pools": 2},
    teacher_net="wide-cnn",
    teacher_args={"width": 4, "norm": "batch"},
    teacher_epochs=1,
    teacher_batch=256,
)
SLOWER = {"guided": "convs.1", "hint": "convs.1", "hint_epochs": 1, "guided_multiplier": 0.5}


@pytest.fixture(scope="module")
def data():
    return load("digits")


class Spoils(Term):
    """Writes a number into a buffer of the teacher, as BatchNorm in training mode would."""

    needs = Needs(student_logits=True, teacher=True)

    def forward(self, seen):
        seen.teacher.nets[0].convs[0][1].running_mean[0] += 1e-3
        return seen.require("student_logits").square().mean()


class Draws(Term):
    """Keeps what each step's noise begins with; the draws of `prepare` are told apart by their two
    images."""

    needs = Needs(student_logits=True)

    def __init__(self):
        super().__init__()
        self.found = []

    def forward(self, seen):
        if len(seen.images) > 2:
            self.found.append(float(torch.rand((), generator=seen.noise("draws"))))
        return seen.require("student_logits").square().mean()


def of_stages(monkeypatch, make, teacher):
    monkeypatch.setitem(METHODS, "own", Method(make, "for this test", "-", teacher=teacher))
    return replace(TINY, method="own")


def run_of(config, data):
    return Setup(config, data, build_untrained(config, data, RunOptions()), RunOptions()).loop()


def test_a_teacher_that_was_written_ends_the_run(monkeypatch, data):
    config = of_stages(
        monkeypatch, lambda plan: (Stage("student", CE() + Spoils(), plan),), teacher=True
    )
    with pytest.raises(UsageError, match=r"the teacher has changed.*convs\.0\.1\.running_mean"):
        train(replace(config, epochs=1), data=data)


def test_lambda_falls_in_the_training_itself(data, tmp_path):
    """From the lines of metrics: (loss - ce) / soft = lambda, 4 to 1."""
    train(replace(TINY, method="fitnets-kd", epochs=4), data=data, out=tmp_path / "run")
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    found = [(e["loss"] - e["ce"]) / e["fitnetskd"] for e in lines if e["stage"] == "student"]
    assert found == pytest.approx([4.0, 3.0, 2.0, 1.0], rel=1e-5)


def test_noise_is_new_in_each_step_and_stage_and_the_same_again(monkeypatch, data):
    def draws():
        terms = (Draws(), Draws())
        config = of_stages(
            monkeypatch, lambda plan: tuple(Stage("s", t, plan) for t in terms), teacher=False
        )
        train(config, data=data)
        return terms[0].found + terms[1].found

    found = draws()
    assert len(found) == 2 * 2 * 2 == len(set(found))  # two stages of two epochs of two steps
    assert draws() == found


def test_each_stage_trains_its_parameters_at_their_rates(data):
    """With weight decay, which moves whatever an optimizer holds, gradient or not."""
    loop = run_of(replace(TINY, method="fitnets", method_args=SLOWER, weight_decay=0.1), data)
    moved = {"hints": {}, "student": {}}
    rates = {}
    while not loop.is_done:
        stage = loop.stages[loop.stage].name
        before = {name: p.detach().clone() for name, p in loop.net.named_parameters()}
        rates[stage] = sorted({group["lr"] for group in loop.fit.optimizer.param_groups})
        loop.advance()
        for name, p in loop.net.named_parameters():
            moved[stage][name] = moved[stage].get(name, False) or not torch.equal(p, before[name])
    for name, changed in moved["hints"].items():
        assert changed == name.startswith(("convs.0.", "convs.1.")), name
    assert all(moved["student"].values())
    assert rates == {"hints": [0.01], "student": [0.005, 0.01]}


def test_hints_leave_no_regressor(data):
    plain = train(replace(TINY, method="plain"), data=data).saved.states[0]
    hinted = train(replace(TINY, method="fitnets", method_args=SLOWER), data=data).saved.states[0]
    assert plain.keys() == hinted.keys()


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
def test_the_mean_of_an_ensemble_is_that_of_the_config(average, data, tmp_path):
    config = replace(TINY, method="soft-targets", teachers=2, average=average, epochs=1)
    assert train(config, data=data, out=tmp_path / "run").teacher.average == average
    assert SavedNet.load(tmp_path / "run", which="teacher").average == average


SCHEDULES = (
    {"decay_epochs": 4, "warmup": 1, "nesterov": False},
    {"milestones": (1, 2), "schedule": "constant", "nesterov": True},
    {"schedule": "cosine", "warmup": 2},
)


@pytest.mark.parametrize(("own", "other"), list(permutations(SCHEDULES, 2)))
def test_every_number_of_the_config_reaches_its_plan(own, other, data):
    student = {
        "epochs": 3,
        "batch": 17,
        "optimizer": "sgd",
        "lr": 0.02,
        "momentum": 0.7,
        "weight_decay": 0.03,
        "decay_factor": 0.4,
        "augment": ("flip",),
        **own,
    }
    teacher = {
        "epochs": 5,
        "batch": 19,
        "optimizer": "sgd" if other.get("nesterov") else "rmsprop",
        "lr": 0.04,
        "weight_decay": 0.06,
        "augment": ("crop",),
        **other,
    }
    changes = {**student, **{f"teacher_{name}": value for name, value in teacher.items()}}
    config = replace(TINY, method="soft-targets", **changes)
    assert run_of(config, data).stages[0].plan == FitPlan(**student)
    plan = FitPlan(**teacher, momentum=0.7, decay_factor=0.4)
    assert run_of(teacher_config(config), data).stages[0].plan == plan


def test_augmented_images_are_asked_of_the_teacher_itself(data):
    """A cache of the plain images would refuse them, or answer for other images."""
    config = replace(TINY, method="soft-targets", augment=("crop",))
    cached, online = (
        train(replace(config, cache=cache), data=data).saved for cache in (True, False)
    )
    assert cached.fingerprint == online.fingerprint


def test_batchnorm_sees_the_steps_and_no_validation_image(data):
    """Training mode again after an epoch's accuracy; layers behind the guided one rest in stage
    one."""
    net_args = {**TINY.net_args, "norm": "batch"}
    config = replace(
        TINY, method="fitnets", method_args=SLOWER, net_args=net_args, teacher_epochs=2
    )
    loop = run_of(config, data)
    while not loop.is_done:
        loop.advance()
    # 2 steps an epoch: 1 epoch of hints, 2 of the student
    assert [int(loop.net.convs[n][1].num_batches_tracked) for n in range(4)] == [6, 6, 4, 4]
    teacher = run_of(teacher_config(config), data)
    while not teacher.is_done:
        teacher.advance()
    assert {int(layer[1].num_batches_tracked) for layer in teacher.net.convs} == {teacher.steps}


@pytest.mark.parametrize(("channels", "last"), [(1, False), (3, True)])
def test_images_of_one_channel_keep_the_usual_memory_layout(channels, last):
    """Channels last would cost them time."""
    net = build("thin-cnn", channels=channels, size=8, classes=2, width=4)
    split = Split(torch.rand(4, channels, 8, 8), torch.arange(4) % 2)
    stage_fit(net, Stage("student", CE(), FitPlan()), None, split, 0, 0, {})
    weight = net.get_parameter("convs.1.0.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last) == last
