"""Which parameters a stage trains, and at which learning rates."""

import pytest
import torch
from torch import nn

from datadistill.errors import UsageError
from datadistill.training.fit_plan import FitPlan
from kd_baselines.losses import CE, Linear, Objective, Term
from kd_baselines.losses.term import Needs
from kd_baselines.stages import Stage, groups_of


def net():
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))


class Owner(Term):
    """Owns a parameter."""

    needs = Needs(student_logits=True)

    def __init__(self):
        super().__init__()
        self.own = nn.Parameter(torch.ones(3))

    def forward(self, seen):
        return (seen.require("student_logits") * self.own).mean()


def found(stage, student, objective=None):
    names = {id(p): name for name, p in student.named_parameters()}
    groups = groups_of(stage, student, objective or Objective(CE()))
    return {names.get(id(p), "own"): g["lr"] for g in groups for p in g["params"]}


def test_all_parameters_by_default():
    student = net()
    assert found(Stage("s", CE(), FitPlan(epochs=1, lr=0.5)), student) == {
        name: 0.5 for name, _ in student.named_parameters()
    }


def test_paths_until_and_frozen():
    student, plan = net(), FitPlan(epochs=1, lr=0.5)
    assert set(found(Stage("s", CE(), plan, train=("2",)), student)) == {"2.weight", "2.bias"}
    assert set(found(Stage("s", CE(), plan, until="2"), student)) == {
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
    }
    student[0].weight.requires_grad_(False)
    assert set(found(Stage("s", CE(), plan, until="0"), student)) == {"0.bias"}


def test_the_longest_path_decides_the_rate():
    student = nn.Sequential(net(), nn.Linear(3, 3))
    stage = Stage(
        "s", CE(), FitPlan(epochs=1, lr=1.0), multipliers={"0": 0.1, "0.2": 0.5, "1": 0.0}
    )
    rates = found(stage, student)
    assert rates["0.0.weight"] == 0.1 and rates["0.2.bias"] == 0.5
    assert "1.weight" not in rates, "a rate of zero leaves parameters out"


def test_what_terms_own_trains_with_the_stage():
    owner = Owner()
    assert (
        found(Stage("s", owner, FitPlan(epochs=1, lr=0.5)), net(), Objective(owner))["own"] == 0.5
    )


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"train": ("9",)}, "no module '9'"),
        ({"until": "conv"}, "no module 'conv'"),
        ({"multipliers": {"0": -1.0}}, "multiplied by -1.0"),
        ({"multipliers": {"0": float("nan")}}, "multiplied by nan"),
        ({"train": ("1",)}, "trains no parameter"),
    ],
)
def test_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        groups_of(Stage("s", CE(), FitPlan(epochs=1), **settings), net(), Objective(CE()))


def test_schedules():
    line = Linear(4.0, 1.0, epochs=4)
    assert [line(e) for e in range(6)] == [4.0, 3.0, 2.0, 1.0, 1.0, 1.0]
    assert Linear(4.0, 1.0, epochs=1)(0) == 1.0
    for wrong in ((-1.0, 1.0, 2), (1.0, -1.0, 2), (1.0, 1.0, 0), (float("nan"), 1.0, 2)):
        with pytest.raises(UsageError):
            Linear(*wrong)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_a_weight_is_a_finite_number_from_zero(weight):
    with pytest.raises(UsageError, match="give 0 or more"):
        CE(weight=weight)


def test_an_objective_adds_terms_by_their_weights_in_an_epoch():
    from kd_baselines.losses import Seen

    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    objective = (
        CE(weight=0.5) + CE(weight=Linear(2.0, 0.0, epochs=3)) + CE(name="third", weight=0.0)
    )
    assert list(objective.named_terms) == ["ce", "ce-2", "third"]
    ce = nn.functional.cross_entropy(logits, labels)
    for epoch, weight in ((0, 2.5), (1, 1.5), (2, 0.5), (7, 0.5)):
        out = objective(Seen(torch.zeros(4, 1, 2, 2), labels, logits, epoch=epoch))
        torch.testing.assert_close(out["loss"], weight * ce)
        torch.testing.assert_close(out["ce-2"], ce)
    assert objective.needs == Needs(student_logits=True)


def test_an_objective_of_something_else():
    with pytest.raises(UsageError, match="is no term"):
        CE() + 3
    with pytest.raises(UsageError, match="has no term"):
        Objective()


def test_stages_of_a_net_of_ones_own():
    """Hints train the layers up to the guided one and nothing else; then the whole net; the
    argument stays."""
    from datadistill.data import load
    from kd_baselines.losses import KD, Hint
    from kd_baselines.stage_loop import fit
    from kd_baselines.teachers import Teacher

    def make(seed, width):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, width, 3),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(width * 36, 10),
        )

    digits, plan = load("digits").train, FitPlan(epochs=1, lr=0.01)
    teacher, student = make(0, 6).eval(), make(1, 3)
    before = {k: v.clone() for k, v in student.state_dict().items()}
    hints = Stage("hints", Hint({"2": "2"}), plan, until="2")
    told = []
    halfway = fit(
        student, digits, hints, Teacher(teacher), on_step=lambda *a: told.append((a[0], set(a[2])))
    )
    assert torch.equal(halfway[4].weight, student[4].weight)
    assert not torch.equal(halfway[0].weight, student[0].weight)
    assert set(halfway.state_dict()) == set(before), "the regressor is not the student's"
    assert told[0] == ("hints", {"loss", "hint"})
    whole = fit(student, digits, [hints, Stage("student", CE() + KD(), plan)], Teacher(teacher))
    assert not torch.equal(whole[4].weight, student[4].weight)
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())
    assert [m.training for m in whole.modules()] == [m.training for m in student.modules()]
