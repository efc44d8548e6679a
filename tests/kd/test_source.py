"""A teacher of other data: which images it sees, what its students keep of it, and the bound."""

from dataclasses import replace

import pytest
import torch

from datadistill.config import RunOptions
from datadistill.data import Split, load
from datadistill.errors import UsageError
from kd_baselines.cli import main
from kd_baselines.config import KdConfig
from kd_baselines.hausdorff import nearest_distances
from kd_baselines.netfile import SavedNet
from kd_baselines.scores import Scores
from kd_baselines.source_bound import Bound
from kd_baselines.source_data import load_source, rank_part
from kd_baselines.studies.bound import BoundRow, correlate, find_students, measure_student
from kd_baselines.teacher_runs import is_same_teacher, teacher_config
from kd_baselines.training import train

CNN = {"width": 4, "depth": 2, "pools": 2}
TINY = KdConfig(
    dataset="digits",
    source="digits",
    size=8,
    normalization="0.5/0.5",
    per_class=3,
    method="lwf",
    net="thin-cnn",
    net_args=CNN,
    epochs=1,
    batch=30,
    teacher_net="thin-cnn",
    teacher_args=CNN,
    teacher_images=4,
    teacher_epochs=1,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "run"
    return folder, train(TINY, out=folder)


def split(values, labels):
    return Split(torch.tensor(values).view(-1, 1, 1, 1), torch.tensor(labels))


def test_parts_of_the_source_are_ranks_within_each_class():
    source = split([5.0, 1.0, 3.0, 9.0, 7.0, 8.0], [0, 0, 0, 1, 1, 1])
    target = split([0.0], [0])
    assert rank_part(source, target, (0, 1 / 3)).tolist() == [1, 4]
    assert rank_part(source, target, (1 / 3, 1)).tolist() == [0, 2, 3, 5]
    parts = [rank_part(source, target, (k / 3, (k + 1) / 3)).tolist() for k in range(3)]
    assert sorted(place for part in parts for place in part) == list(range(6))


def test_the_teacher_is_a_run_on_the_source():
    own = teacher_config(replace(TINY, source_part=(0.0, 0.5)))
    assert (own.dataset, own.source, own.target) == ("digits", None, "digits")
    assert (own.source_part, own.per_class, own.size) == ((0.0, 0.5), 4, 8)
    assert teacher_config(TINY).target is None
    assert not is_same_teacher(TINY, replace(TINY, source="mnist5k"))


def test_both_heads_are_scored(trained):
    folder, result = trained
    second = result.scores.second
    assert set(second) == {"source agreement", "source accuracy"}
    teacher = SavedNet.load(folder / "teacher.safetensors")
    assert teacher.dataset == "digits" and teacher.scores is not None
    data = load("digits", size=8, normalization="0.5/0.5")
    student = SavedNet.load(folder).net()
    head = torch.nn.Sequential(student.trunk, student.source)  # its columns of both heads
    with torch.no_grad():
        ours, theirs = head(data.test.images), teacher.net()(data.test.images)
    alike = (ours.argmax(1) == theirs.argmax(1)).double().mean()
    assert second["source agreement"] == pytest.approx(100 * float(alike))
    again = Scores.from_dict(result.scores.as_dict())
    assert (
        again == result.scores and again.columns()["source accuracy"] == second["source accuracy"]
    )


def test_scores_of_one_head_are_stored_as_before():
    assert "second" not in Scores(50.0, 2, 1).as_dict()


def test_a_student_that_starts_from_its_teacher_has_its_tensors():
    config = replace(TINY, method="plain", weights="teacher", lr=1e-9)
    result = train(config)
    student, teacher = result.student.state_dict(), result.teacher.nets[0].state_dict()
    for name, value in student.items():
        close = torch.allclose(value, teacher[name], atol=1e-6)
        assert close != name.startswith("classifier."), name
    assert result.scores.second == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source_part": (0.5, 0.5)}, "two shares from 0 to 1"),
        ({"source": None, "source_part": (0.0, 0.5)}, "there is no source"),
        ({"normalization": "auto"}, "give numbers, such as normalization=0.5/0.25"),
        ({"teacher_weights": "net.pt"}, "the teacher is not trained here"),
    ],
)
def test_a_source_that_cannot_be_is_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        replace(TINY, **changes)


def test_a_source_of_another_size_is_refused():
    config = replace(TINY, source="mnist5k", size=None)
    data = load("digits", normalization="0.5/0.5")
    with pytest.raises(UsageError, match=r"mnist5k are \(1, 28, 28\).*size=8"):
        load_source(config, data, RunOptions())


def test_a_teacher_of_another_kind_is_no_start():
    config = replace(TINY, method="plain", weights="teacher", teacher_args={**CNN, "width": 5})
    with pytest.raises(Exception, match="the teacher does not fit the net"):
        train(config)


# --- the bound


def test_the_bound_of_a_trained_student_holds(trained):
    folder, _ = trained
    (row,) = measure_student(folder, RunOptions())
    assert row.bound.source_images == 40 and row.bound.target_images == 30
    assert row.bound.source_gap <= row.bound.right * (1 + 1e-6)
    assert row.bound.lipschitz <= row.bound.by_layers
    assert 0 <= row.teacher_accuracy <= 100  # the same classes
    near, far = measure_student(folder, RunOptions(), parts=2)
    assert near.bound.distance <= far.bound.distance == pytest.approx(row.bound.distance)
    (between,) = measure_student(folder, RunOptions(), layer="convs.0")
    assert between.bound.by_layers is None and between.bound.source_gap <= between.bound.right


def test_the_command_prints_both_sides(trained, capsys):
    folder, _ = trained
    assert main(["bound", str(folder), "--parts", "2"]) == 0
    out = capsys.readouterr().out
    assert "own, 1/2" in out and "own, 2/2" in out and "H_a" in out


def test_a_run_without_a_second_head_is_refused(tmp_path):
    train(replace(TINY, method="plain", source=None), out=tmp_path / "run")
    with pytest.raises(UsageError, match="no student with a second head"):
        find_students(tmp_path / "run")


def test_the_correlation_is_over_arms_and_its_interval_over_seeds(tmp_path):
    def row(arm, seed, distance, accuracy):
        return BoundRow(tmp_path, arm, seed, "all", accuracy, Bound(1, 1, distance, 0.0, 0, 0, 0))

    ordered = [row(f"a{k}", seed, float(k), 90.0 - k) for k in range(4) for seed in (0, 1)]
    assert correlate(ordered).mean == pytest.approx(1.0)
    turned = [replace(r, accuracy=-r.accuracy) if r.seed else r for r in ordered]
    found = correlate(turned)
    assert found.mean == pytest.approx(0.0) and found.low < 0 < found.high
    other = [replace(r, study=tmp_path / "other", accuracy=-r.accuracy) for r in ordered]
    assert correlate([*ordered, *other]).mean == pytest.approx(0.0)  # one of each comparison
    assert correlate(ordered[:4]) is None  # two arms
    assert correlate(ordered, which="source_accuracy") is None  # not known
    known = [replace(r, source_accuracy=r.bound.distance) for r in ordered]
    assert correlate(known, which="source_accuracy").mean == pytest.approx(-1.0)
    assert nearest_distances(torch.zeros(1, 1), torch.ones(2, 1)).tolist() == [1.0]
