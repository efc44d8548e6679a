"""One batch: what is computed, what is trained, what is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datadistill.data import Split
from datadistill.errors import UsageError
from kd_baselines.distiller import Distiller
from kd_baselines.losses import CE, KD, AttentionTransfer, Hint, JacobianNorm, LogitRegression
from kd_baselines.losses.term import Needs, Term
from kd_baselines.teacher_cache import CachedTeacher
from kd_baselines.teachers import Teacher


def net(width=4, classes=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * 16, classes),
    )


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(1)
    return torch.randn(6, 1, 4, 4, generator=g), torch.arange(6) % 3


class Counted(nn.Module):
    """Counts its forward passes."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x)


def test_the_sum_is_that_of_the_formula(batch):
    student, teacher = net(), net(width=5, seed=1)
    out = Distiller(student, CE(weight=0.1) + KD(T=4.0, weight=0.9), Teacher(teacher)).step(batch)
    z, v = student(batch[0]), teacher(batch[0])
    soft = 16 * F.kl_div(F.log_softmax(z / 4, 1), F.softmax(v / 4, 1), reduction="batchmean")
    torch.testing.assert_close(out["kd"], soft)
    torch.testing.assert_close(out["loss"], 0.1 * F.cross_entropy(z, batch[1]) + 0.9 * soft)


def test_an_ordinary_loop_trains_the_student_alone(batch):
    student, teacher = net(), net(width=5, seed=1)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    distiller = Distiller(
        student, Hint({"1": "1"}) + LogitRegression(), Teacher(teacher), sample=Split(*batch)
    )
    names = set(student.state_dict())
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.01)
    losses = []
    for step in range(20):
        out = distiller.step(batch, step=step)
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
        losses.append(out["loss"].item())
    assert losses[-1] < 0.8 * losses[0]
    assert set(student.state_dict()) == names, "the regressor is not the student's"
    assert len(list(distiller.parameters())) > len(list(student.parameters()))
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


def test_an_optimizer_made_too_early_is_refused(batch):
    """Without `sample` the regressor is made by the first batch, and no optimizer of before would
    train it."""
    early = Distiller(net(), CE() + Hint({"1": "1"}), Teacher(net(width=5, seed=1)))
    assert len(list(early.parameters())) == len(list(net().parameters()))
    for _ in range(2):
        with pytest.raises(UsageError, match=r"^hint: .* pass sample="):
            early.step(batch)
    late = Distiller(net(), CE() + Hint({"1": "1"}), Teacher(net(width=5, seed=1)))
    late.step(batch)
    assert len(list(late.parameters())) == len(list(net().parameters())) + 2
    late.step(batch)
    none_owned = Distiller(net(), CE())
    assert list(none_owned.parameters())
    none_owned.step(batch)


def test_places_go_to_a_cached_teacher(batch):
    """A plain loop gives (images, labels, places)."""
    teacher, index = Teacher(net(width=5, seed=1)), torch.tensor([4, 1, 0])
    split, student = Split(*batch), net()
    images, labels = batch[0][index], batch[1][index]
    cached = Distiller(student, KD(T=2.0), CachedTeacher(teacher, split)).step(
        (images, labels, index)
    )
    online = Distiller(student, KD(T=2.0), teacher).step((images, labels))
    torch.testing.assert_close(cached["kd"], online["kd"])
    with pytest.raises(UsageError, match="places of the images"):
        Distiller(student, KD(T=2.0), CachedTeacher(teacher, split)).step((images, labels))


def test_nothing_else_is_computed(batch):
    """No teacher for labels alone; no layer after the last that is read."""
    student, last = Counted(net()), Counted(nn.Linear(64, 3))
    student.inner[5] = last
    teacher = Counted(net(width=5))
    plain = Distiller(student, CE(), Teacher(teacher))
    plain.step(batch)
    assert teacher.calls == 0 and last.calls > 0
    hints = Distiller(student, Hint({"inner.1": "inner.1"}), Teacher(teacher), sample=Split(*batch))
    before = last.calls
    hints.step(batch)
    assert last.calls == before, "the guided layer is below the last"


def test_one_forward_pass_each(batch):
    student, teacher = Counted(net()), Counted(net(width=4))
    objective = (
        CE() + KD() + AttentionTransfer({"inner.1": "inner.1"}) + JacobianNorm(output="label")
    )
    held = Teacher(teacher)
    distiller = Distiller(student, objective, held, sample=Split(*batch))
    found = held.nets[0] if hasattr(held, "nets") else teacher
    before, teachers = student.calls, found.calls
    distiller.step(batch)
    assert (student.calls - before, found.calls - teachers) == (1, 1)


def test_preparing_leaves_statistics_and_modes(batch):
    student = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(8, 3)
    )
    student[2].eval()
    before = {k: v.clone() for k, v in student.state_dict().items()}
    state = torch.get_rng_state()
    Distiller(student, CE(), sample=Split(*batch))
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())
    assert [m.training for m in student] == [True, True, False, True, True]
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_is_a_function_of_seed_stage_and_step(batch):
    class Noisy(Term):
        needs = Needs(student_logits=True)

        def forward(self, seen):
            return (
                torch.randn((), generator=seen.noise("a"))
                + 0 * seen.require("student_logits").sum()
            )

    def draw(seed=0, number=0, step=0):
        return (
            Distiller(net(), Noisy(), seed=seed, number=number)
            .step(batch, step=step)["loss"]
            .item()
        )

    assert draw() == draw()
    assert len({draw(), draw(seed=1), draw(number=1), draw(step=1)}) == 4


@pytest.mark.parametrize(
    "objective, teacher, said",
    [
        (KD(), None, "kd: a teacher is needed"),
        (KD(), Teacher(net(classes=4)), "4"),
        (Hint({"convs.9": "1"}), Teacher(net()), "convs.9"),
        (Hint({"1": "11"}), Teacher(net()), "11"),
    ],
)
def test_what_does_not_fit_is_said_before_training(objective, teacher, said, batch):
    with pytest.raises(UsageError, match=said):
        Distiller(net(), objective, teacher, sample=Split(*batch))


def test_what_people_pass_by_mistake(batch):
    student = net()
    with pytest.raises(UsageError, match=r"pass kd_baselines\.Teacher"):
        Distiller(student, KD(), net())
    with pytest.raises(UsageError, match="its own teacher"):
        Distiller(student, KD(), Teacher(student))
    with pytest.raises(UsageError, match=r"pass \(images, labels\)"):
        Distiller(student, CE()).step(batch[0])


def test_parts_carry_no_graph(batch):
    out = Distiller(net(), CE() + KD(), Teacher(net(seed=1)), sample=batch).step(batch)
    assert out["loss"].requires_grad and not out["ce"].requires_grad and not out["kd"].requires_grad


def test_no_public_name_is_a_module_too():
    """Else importing the module would put it in the place of the name."""
    import importlib.util

    import kd_baselines as kd

    taken = [
        name for name in kd.__all__ if importlib.util.find_spec(f"kd_baselines.{name}") is not None
    ]
    assert taken == []
