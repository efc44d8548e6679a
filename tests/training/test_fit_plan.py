"""The plan of a plain training: torch's own learning rates, and refusals of what does not fit."""

import pytest
import torch
from training_cases import torch_scheduler

from datadistill.errors import UsageError
from datadistill.training.fit_plan import FitPlan


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"decay_epochs": 60, "decay_factor": 0.2},
        {"milestones": (60, 120, 160), "decay_factor": 0.2},  # Wide-ResNet's
        {"epochs": 240, "milestones": (150, 180, 210), "decay_factor": 0.1},  # RepDistiller's
        {"schedule": "cosine"},
        {"schedule": "linear", "warmup": 5},
        {"schedule": "cosine", "warmup": 20},
        {"milestones": (1, 199), "warmup": 10},
    ],
    ids=str,
)
def test_every_epochs_learning_rate_is_that_of_torch(changes):
    plan = FitPlan(**{"epochs": 200, "lr": 0.1, "optimizer": "sgd", **changes})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], plan.lr)
    scheduler, theirs = torch_scheduler(optimizer, plan), []
    for _ in range(plan.epochs):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    ours = [plan.lr * plan.factor(epoch) for epoch in range(plan.epochs)]
    assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"milestones": (4, 4)}, "milestones are 4 4; give epochs from 1 on, each later"),
        ({"milestones": (0, 4)}, "milestones are 0 4; give epochs from 1"),
        (
            {"milestones": (4, 8, 9)},
            r"milestones are 4 8 9, but epochs is 8; train for more, or give those before .* \(4\)",
        ),
        ({"warmup": 9}, "warmup is 9, but epochs is 8"),
        ({"warmup": -1}, "warmup is -1, but it must be 0 or more"),
        (
            {"milestones": (4,), "decay_epochs": 2},
            r"falls by decay_epochs \(2\) and milestones \(\(4,\)\); take one",
        ),
        (
            {"milestones": (4,), "schedule": "cosine"},
            r"milestones \(\(4,\)\) and schedule \('cosine'\)",
        ),
        ({"nesterov": True}, "nesterov is True, but optimizer is adam"),
        ({"nesterov": True, "optimizer": "sgd", "momentum": 0.0}, "sgd with momentum 0; it is"),
        ({"schedule": "cosin"}, "did you mean cosine"),
    ],
)
def test_schedules_that_do_not_fit_are_refused(changes, said):
    with pytest.raises(UsageError, match=said):
        FitPlan(**{"epochs": 8, **changes})


def test_a_plan_for_fewer_epochs_keeps_what_it_reaches():
    plan = FitPlan(epochs=9, milestones=(3, 6), warmup=2)
    assert plan.with_epochs(9) == plan
    assert plan.with_epochs(6) == FitPlan(epochs=6, milestones=(3,), warmup=2)
    assert plan.with_epochs(1) == FitPlan(epochs=1, warmup=1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epochs": 0}, "epochs is 0, but it must be at least 1"),
        ({"batch": 0}, "batch is 0"),
        ({"decay_epochs": 0}, "decay_epochs is 0"),
        ({"optimizer": "adm"}, "optimizer is 'adm'; did you mean adam"),
        ({"lr": 0.0}, "lr is 0.0, but it must be positive"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"decay_factor": 0.0}, "decay_factor is 0.0"),
    ],
)
def test_plans_are_checked(changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        FitPlan(**{"epochs": 1, **changes})
