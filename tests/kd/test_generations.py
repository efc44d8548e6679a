"""Born-Again generations: chains, fresh draws, resuming, ensembles, tables, what is refused."""

import csv
import hashlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from generations_cases import DATA, PAGE, TINY, born_again
from scipy import stats

from datadistill.errors import UsageError
from datadistill.runs.folder import RunFolder
from kd_baselines.config import KdConfig
from kd_baselines.image_lineage import ImageLineage
from kd_baselines.netfile import SavedNet
from kd_baselines.recipes import Page
from kd_baselines.student_setup import Setup
from kd_baselines.studies.chains import seed_of
from kd_baselines.studies.generations_plot import Descent, generations_figure
from kd_baselines.teachers import Teacher
from kd_baselines.training import train


def tree(folder):
    """Name -> digest of all that holds no clock and is no way on."""
    files = (p for p in folder.rglob("*") if p.is_file() and "checkpoints" not in p.parts)
    kept = (p for p in files if p.name not in ("timing.jsonl", "lock"))
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in kept}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Three generations, two seeds."""
    out = tmp_path_factory.mktemp("generations") / "g"
    return out, born_again(out, generations=3, seeds=2)


@pytest.fixture
def trained(monkeypatch):
    """The runs that are trained, with the teacher each is given."""
    calls, train_one = [], ImageLineage.train

    def counting(self, config, teacher, out, resume):
        calls.append((out.name, None if teacher is None else teacher.parent.name))
        return train_one(self, config, teacher, out, resume)

    monkeypatch.setattr(ImageLineage, "train", counting)
    return calls


# --- chains


def test_generation_g_learns_from_generation_g_minus_1(finished):
    out, _ = finished
    names = {p.name for p in out.iterdir() if p.is_dir()}
    assert names == {
        f"{name}-s{s}" for name in ("teacher", "own-1", "own-2", "own-3") for s in (0, 1)
    }
    for s in (0, 1):
        for before, name in pairwise([f"teacher-s{s}", *(f"own-{g}-s{s}" for g in (1, 2, 3))]):
            taught_by = Teacher(SavedNet.load(out / before).net()).hash
            assert RunFolder.open(out / name).environment["teacher"] == taught_by
    assert "teacher" not in RunFolder.open(out / "teacher-s0").environment


def test_every_net_starts_from_a_fresh_draw(monkeypatch, tmp_path):
    starts = {}

    class Spy(Setup):
        def loop(self):
            name = (self.config.arm, self.config.seed)
            starts[name] = {k: v.detach().clone() for k, v in self.student.state_dict().items()}
            return super().loop()

    monkeypatch.setattr("kd_baselines.image_training.Setup", Spy)
    # the teacher's net, so that draws can be equal
    same = PAGE.make().with_changes(net_args={"width": 10})
    born_again(tmp_path / "g", Page(lambda: same, "-"), generations=2, seeds=2)
    assert len(starts) == 6
    flat = [torch.cat([v.flatten() for v in state.values()]) for state in starts.values()]
    assert all(not torch.equal(a, b) for i, a in enumerate(flat) for b in flat[:i])
    seeds = {RunFolder.open(p).config["seed"] for p in (tmp_path / "g").iterdir() if p.is_dir()}
    assert seeds == {seed_of(s, g) for s in range(2) for g in range(3)} and len(seeds) == 6


def test_generation_0_is_the_teacher_and_each_net_a_run(finished, tmp_path):
    out, _ = finished
    seed = seed_of(1, 0)
    teacher = train(
        KdConfig(recipe="tiny", net_args={"width": 10}, epochs=3, batch=20, lr=0.03, seed=seed),
        data=DATA,
    )
    assert SavedNet.load(out / "teacher-s1").fingerprint == teacher.saved.fingerprint
    first = train(
        TINY.with_changes(seed=seed_of(1, 1)), data=DATA, teacher=Teacher(teacher.student)
    )
    assert SavedNet.load(out / "own-1-s1").fingerprint == first.saved.fingerprint


def test_generation_0_has_no_part_of_the_arm():
    lineage = ImageLineage()
    arms = [
        TINY,
        TINY.with_changes(
            arm="x",
            method="logits",
            net="lenet",
            net_args={},
            init="kaiming",
            epochs=9,
            batch=3,
            optimizer="sgd",
            lr=1.0,
            weight_decay=0.1,
            decay_epochs=2,
            augment=("flip",),
            without=("3",),
            shared=("0",),
        ),
    ]
    assert lineage.build_first(arms[0], 4) == lineage.build_first(arms[1], 4)
    first = lineage.build_first(
        TINY.with_changes(teacher_weight_decay=0.2, teacher_decay_epochs=3), 4
    )
    assert (first.method, first.seed, first.weight_decay, first.decay_epochs) == (
        "plain",
        4,
        0.2,
        3,
    )
    assert lineage.build_later(arms[1], 5) == arms[1].with_changes(seed=5)


def test_a_student_of_another_net_teaches_its_own_kind(tmp_path):
    page = Page(
        lambda: TINY.with_changes(net="thin-cnn", net_args={"width": 2, "depth": 2, "pools": 1}),
        "-",
    )
    found = born_again(tmp_path, page, generations=2, seeds=1)
    nets = [
        SavedNet.load(tmp_path / f"{name}-s0").spec.name for name in ("teacher", "own-1", "own-2")
    ]
    assert nets == ["mlp", "thin-cnn", "thin-cnn"]
    assert 0 <= found.row("own-BANE(2)+teacher").mean("error") <= 100


def test_generations_see_the_same_images(tmp_path, monkeypatch):
    seen = []

    class Spy(Setup):
        def loop(self):
            seen.append(self.split.images)
            return super().loop()

    monkeypatch.setattr("kd_baselines.image_training.Setup", Spy)
    born_again(tmp_path, generations=2, seeds=2, changes={"per_class": 7})
    assert len(seen) == 6 and all(
        len(images) == 21 and torch.equal(images, seen[0]) for images in seen
    )


def test_seeds_of_chains_are_all_different():
    assert len({seed_of(s, g) for s in range(50) for g in range(50)}) == 2500


# --- going on


def test_killed_anywhere_and_resumed_to_the_same_bytes(finished, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*args, **options):
        raise Killed

    whole, _ = finished
    for place in (
        "datadistill.runs.folder.RunFolder._write_config",  # before a folder is a run
        "datadistill.runs.checkpoints.CheckpointStore.save",
        "datadistill.runs.artifact.write_bytes",  # trained, and not yet saved
        "kd_baselines.studies.generations.write_comparison",
        "kd_baselines.studies.generations.save",
    ):
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(place, killed)
            born_again(tmp_path, generations=3, seeds=2)
    born_again(tmp_path, generations=3, seeds=2)
    assert tree(tmp_path) == tree(whole)


def test_more_generations_and_seeds_add_to_what_is_there(trained, tmp_path):
    born_again(tmp_path, generations=1, seeds=1)
    assert trained == [("teacher-s0", None), ("own-1-s0", "teacher-s0")]
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*-s0/**/*") if p.is_file()}
    trained.clear()
    born_again(tmp_path, generations=2, seeds=1)
    assert trained == [("own-2-s0", "own-1-s0")]
    trained.clear()
    found = born_again(tmp_path, generations=2, seeds=2)
    assert trained == [("teacher-s1", None), ("own-1-s1", "teacher-s1"), ("own-2-s1", "own-1-s1")]
    assert before and {p: p.stat().st_mtime_ns for p in before} == before
    files = tree(tmp_path)
    trained.clear()
    assert born_again(tmp_path, generations=2, seeds=2) == found
    assert trained == [] and tree(tmp_path) == files
    folder = RunFolder.open(tmp_path, kind="kd-generations")
    assert folder.config == {
        "recipe": "tiny",
        "changes": {},
        "generations": 2,
        "average": "arithmetic",
    }


# --- scores and files


def test_ensembles_are_the_mean_of_probabilities_or_of_logits(finished):
    out, arithmetic = finished
    nets = [
        SavedNet.load(out / name).net()
        for name in ("teacher-s0", "own-1-s0", "own-2-s0", "own-3-s0")
    ]
    images = DATA.test.images
    with torch.no_grad():
        logits = np.stack([net(images).double().numpy() for net in nets])
    e = np.exp(logits - logits.max(2, keepdims=True))
    probabilities = e / e.sum(2, keepdims=True)
    mean = torch.softmax(Teacher(*nets[1:], average="arithmetic")(images).double(), 1).numpy()
    np.testing.assert_allclose(mean, probabilities[1:].mean(0), rtol=1e-5)
    np.testing.assert_allclose(
        Teacher(*nets[1:], average="geometric")(images).numpy(), logits[1:].mean(0), rtol=1e-5
    )
    labels = DATA.test.labels.numpy()
    geometric = born_again(out, generations=3, seeds=2, average="geometric")
    for found, values in ((arithmetic, probabilities), (geometric, logits)):
        for row, members in (
            ("own-BANE(2)", [1, 2]),
            ("own-BANE(3)", [1, 2, 3]),
            ("own-BANE(3)+teacher", range(4)),
        ):
            wrong = values[list(members)].mean(0).argmax(1) != labels
            assert found.row(row).values["error"][0] == pytest.approx(100 * wrong.mean())
    for name, values in zip(("teacher", "own-1", "own-2"), logits, strict=False):
        assert arithmetic.row(name).values["error"][0] == pytest.approx(
            100 * (values.argmax(1) != labels).mean()
        )
    assert "mean of their logits" in (out / "table.md").read_text()
    assert "--average geometric" in (out / "table.md").read_text()
    born_again(out, generations=3, seeds=2)  # as it was, for the other tests


def test_the_table_and_its_paired_differences(finished):
    out, found = finished
    ensembles = ["BANE(2)", "BANE(3)", "BANE(3)+teacher"]
    assert [row.arm for row in found.rows] == [
        "teacher",
        *(f"own-{x}" for x in (1, 2, 3, *ensembles)),
    ]
    assert (found.base, found.unit, found.measure, found.seeds) == ("teacher", "%", "error", (0, 1))
    teacher = np.array(found.row("teacher").values["error"])
    assert len(teacher) == 2 and found.row("teacher").differences == {}
    for row in found.rows[1:]:
        d = np.array(row.values["error"]) - teacher
        m, half = d.mean(), stats.t.ppf(0.975, 1) * d.std(ddof=1) / np.sqrt(2)
        got = row.differences["error"]
        assert (got.mean, got.low, got.high) == pytest.approx((m, m - half, m + half))
    with open(out / "table.csv", newline="") as file:
        records = list(csv.DictReader(file))
    assert [r["arm"] for r in records] == [row.arm for row in found.rows]
    assert {r["column"] for r in records} == {"error"} and {r["base"] for r in records[1:]} == {
        "teacher"
    }
    assert {r["published"] for r in records} == {""}  # accuracies are none of this table's
    page = (out / "table.md").read_text()
    assert "`kd-baselines born-again tiny --seeds 2 --generations 3 --arms own`" in page
    assert "## error (%)" in page and "mean of their probabilities" in page and str(out) not in page
    assert [path.name for path in found.files] == ["table.md", "table.csv", "generations.png"]
    assert (out / "generations.png").read_bytes()[:4] == b"\x89PNG"


def test_published_values_stand_in_their_own_rows(tmp_path):
    told = {
        "teacher": "9 (a)",
        "1": "8 and 7 (b)",
        "BANE(2)": "6 (c)",
        "BANE(2)+teacher": "5 (d)",
        "3": "0 (x)",
    }
    wide = replace(PAGE.arms["wide"], rows={"teacher": "4 (e)", "2": "3 (f)"})
    logits = replace(PAGE.arms["logits"], rows={"teacher": "2 (another of the same net)"})
    known = replace(PAGE, rows=told, arms={**PAGE.arms, "wide": wide, "logits": logits})
    found = born_again(
        tmp_path, known, generations=2, seeds=1, arms=None, changes={"noise": (0.5,)}
    )
    rows = {
        f"own-{row}".replace("own-teacher", "teacher"): text
        for row, text in told.items()
        if row != "3"
    }
    rows |= {"teacher-wide": "4 (e)", "wide-2": "3 (f)"}
    assert set(rows) < {row.arm for row in found.rows}
    assert {row.arm: row.published for row in found.rows} == {
        row.arm: rows.get(row.arm, "-") for row in found.rows
    }
    tables = (tmp_path / "table.md").read_text().split("## ")
    for table, shown in zip(tables[1:3], (rows, {}), strict=True):  # errors, and errors with noise
        cells = [
            [cell.strip() for cell in line.split("|")]
            for line in table.splitlines()
            if line[:1] == "|"
        ][2:]
        assert {line[1]: line[4] for line in cells} == {
            row.arm: shown.get(row.arm, "-") for row in found.rows
        }


def test_a_teacher_has_the_value_of_the_first_arm_that_knows_one(tmp_path):
    logits = replace(PAGE.arms["logits"], rows={"teacher": "2 (a)"})
    known = replace(PAGE, arms={**PAGE.arms, "logits": logits})
    found = born_again(tmp_path, known, generations=1, seeds=1, arms=("own", "logits"))
    assert found.row("teacher").published == "2 (a)" and found.row("own-1").published == "-"


def test_arms_with_other_teachers_are_held_against_their_own(tmp_path):
    lines = []
    found = born_again(tmp_path, generations=1, seeds=2, arms=None, say=lines.append)
    assert (
        lines[0] == "hard is left out: plain has no teacher"
        and "wide-1-s0, taught by teacher-wide-s0" in lines
    )
    assert [row.arm for row in found.rows[:2]] == ["teacher", "teacher-wide"]
    for arm, teacher in (("own", "teacher"), ("logits", "teacher"), ("wide", "teacher-wide")):
        values = [found.row(name).values["error"] for name in (f"{arm}-1", teacher)]
        assert found.row(f"{arm}-1").differences["error"].mean == pytest.approx(
            np.subtract(*values).mean()
        )


def test_errors_under_noise_are_told_too(tmp_path):
    found = born_again(tmp_path, generations=1, seeds=1, changes={"noise": (0.5,)})
    assert found.columns == ("error", "error with noise 0.5")
    assert all(set(row.values) == set(found.columns) for row in found.rows)


def test_the_figure_has_nets_ensembles_and_the_teachers_level():
    own = Descent("own", [(9.0, 11.0), (8.0, 9.0), (7.0, 8.0)], {2: (6.0, 7.0)}, (5.0, 6.0))
    ax = generations_figure("t", [own], "error (%)").axes[0]
    drawn = {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines
    }
    assert drawn["own, single nets"] == ([0, 1, 2], [10.0, 8.5, 7.5])
    assert drawn["own, BANE(k)"] == ([2], [6.5])
    assert drawn["own, BANE(2) and the teacher"] == ([2], [5.5])
    assert set(drawn["teacher"][1]) == {10.0}
    bars = ax.collections[0].get_segments()
    # population deviations
    assert [tuple(bar[:, 1]) for bar in bars] == [(9.0, 11.0), (8.0, 9.0), (7.0, 8.0)]
    with pytest.raises(UsageError, match="no generation to draw"):
        generations_figure("t", [], "error (%)")
