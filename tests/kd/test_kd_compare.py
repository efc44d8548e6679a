"""Comparisons: paired differences, one teacher for all arms, finished runs read, stopped ones gone
on with."""

import csv
from dataclasses import replace

import pytest
import torch

from datadistill.config.choices import Arguments
from datadistill.data import RealData
from datadistill.errors import UsageError
from datadistill.runs.environment import environment
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonconfig import dump_config
from datadistill.stats import paired_difference
from kd_baselines.config import KdConfig
from kd_baselines.evaluation import score
from kd_baselines.image_training import KIND
from kd_baselines.netfile import SavedNet
from kd_baselines.recipes import RECIPES, Arm, Grid, Page
from kd_baselines.studies import compare as compare_module
from kd_baselines.studies.compare import compare as compare_named
from kd_baselines.studies.comparison_table import ArmRow, Comparison, markdown
from kd_baselines.teacher_runs import teacher_config
from kd_baselines.training import train

TINY = {
    "recipe": "tiny",
    "dataset": "custom",
    "net_args": {"width": 8},
    "epochs": 1,
    "batch": 128,
    "lr": 0.01,
    "teacher_args": {"width": 16},
    "teacher_epochs": 1,
    "teacher_lr": 0.01,
}


def own():
    """A small student with a small teacher."""
    return KdConfig(method="soft-targets", **TINY)


PAGE = Page(
    own,
    "97 (a paper)",
    {
        "hard": Arm({"method": "plain"}, "95 (a paper)"),
        "logits": Arm({"method": "logits"}),
        "wide": Arm({"teacher_args": {"width": 24}}),
    },
)


ON_DIGITS = replace(PAGE, make=lambda: own().with_changes(dataset="digits"))
"""The same of named data."""

G = torch.Generator().manual_seed(0)
IMAGES = torch.rand(60, 1, 4, 4, generator=G)
DATA = RealData.from_tensors(
    IMAGES, torch.arange(60) % 3, test_images=IMAGES, test_labels=torch.arange(60) % 3
)


def compare(page=PAGE, **options):
    return compare_named(page, data=DATA, **options)


@pytest.fixture
def trained(monkeypatch):
    """The runs that are trained, with the teacher each is given."""
    calls = []

    def counting(config, *, out, teacher=None, **options):
        calls.append((out.name, None if teacher is None else teacher.name))
        return train(config, out=out, teacher=teacher, **options)

    monkeypatch.setattr(compare_module, "train", counting)
    return calls


# --- a grid

CELLS = {"own": ("4", "kd"), "4-ce": ("4", "ce"), "8-ce": ("8", "ce"), "8-kd": ("8", "kd")}


def test_a_grid_compares_the_cells_of_a_row_with_its_base(tmp_path):
    hard = {"method": "plain"}
    arms = {
        "4-ce": Arm({**hard, "per_class": 4}),
        "8-ce": Arm({**hard, "per_class": 8}),
        "8-kd": Arm({"per_class": 8}),
    }
    page = Page(
        lambda: own().with_changes(per_class=4), "-", arms, grid=Grid("images", "ce", CELLS)
    )
    found = compare(page, seeds=2, out=tmp_path / "c")
    bases = {row.arm: row.base for row in found.rows}
    assert bases == {"teacher": None, "own": "4-ce", "4-ce": None, "8-ce": None, "8-kd": "8-ce"}
    assert [row.arm for row in found.listed] == ["teacher"]
    text = (tmp_path / "c/table.md").read_text()
    kd, ce = found.row("8-kd").score("accuracy"), found.row("8-ce").score("accuracy")
    assert "| images | kd | ce |" in text and "| images; minus ce | kd |" in text
    assert f"| 8 | {kd} | {ce} |" in text and f"| 8 | {kd.difference} |" in text
    records = {r["arm"]: r["base"] for r in found.records()}
    assert records == bases
    one = compare(page, seeds=2, arms=("own", "8-kd"), base="own", out=tmp_path / "c")
    assert one.base == "own" and one.row("8-kd").base == "own"
    alone = compare(page, seeds=2, arms=("own", "8-ce"), out=tmp_path / "c")
    assert alone.row("own").differences == {}  # the base of its row was not asked for


# --- runs


def test_arms_share_a_teacher_and_are_compared_with_the_base(trained, tmp_path):
    found = compare(
        PAGE, seeds=2, arms=("own", "hard", "logits"), out=tmp_path / "c", changes={"noise": (0.2,)}
    )
    shared = "teacher.safetensors"
    assert trained == [
        ("teacher", None),
        ("own-s0", shared),
        ("own-s1", shared),
        ("hard-s0", None),
        ("hard-s1", None),
        ("logits-s0", shared),
        ("logits-s1", shared),
    ]
    assert [row.arm for row in found.rows] == ["teacher", "own", "hard", "logits"]
    assert (found.base, found.seeds, found.recipe) == ("hard", (0, 1), "tiny")
    assert found.columns == ("accuracy", "with noise 0.2")
    a, b = found.row("own").values["accuracy"], found.row("hard").values["accuracy"]
    assert found.row("own").differences["accuracy"] == paired_difference(a, b)
    assert found.row("hard").differences == {} and found.row("hard").published == "95 (a paper)"
    teacher = SavedNet.load(tmp_path / "c" / shared)
    assert found.row("teacher").values["accuracy"] == (teacher.scores["accuracy"],)
    alone = train(
        PAGE.config("logits").with_changes(seed=1, noise=(0.2,)), data=DATA
    )  # with a teacher of its own
    assert alone.teacher.hash == teacher.to_teacher().hash
    assert SavedNet.load(tmp_path / "c/logits-s1").fingerprint == alone.saved.fingerprint


def test_finished_runs_are_read_and_give_the_same_bytes(trained, tmp_path):
    compare(seeds=1, arms=("own",), out=tmp_path)
    first = compare(seeds=2, arms=("own", "hard"), out=tmp_path)
    before = {path: path.read_bytes() for path in first.files}
    trained.clear()
    again = compare(seeds=2, arms=("own", "hard"), out=tmp_path)
    assert trained == [] and again == first
    assert {path: path.read_bytes() for path in again.files} == before
    with open(tmp_path / "table.csv", newline="") as file:
        records = list(csv.DictReader(file))
    assert [(r["arm"], r["column"], r["seeds"]) for r in records] == [
        ("teacher", "accuracy", "1"),
        ("own", "accuracy", "2"),
        ("hard", "accuracy", "2"),
    ]
    page = (tmp_path / "table.md").read_text()
    assert (
        "`kd-baselines compare tiny --seeds 2 --arms own hard`" in page and "97 (a paper)" in page
    )
    assert str(tmp_path) not in page


def test_arms_with_several_teachers_have_a_file_for_each(trained, tmp_path):
    found = compare(seeds=1, arms=("logits", "wide"), out=tmp_path)
    # named after the first of all arms that has it, whatever is compared
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == [
        "teacher-wide.safetensors",
        "teacher.safetensors",
    ]
    shared = ["teacher", "teacher-wide"]
    assert trained[::2] == [(name, None) for name in shared]
    assert trained[1::2] == [
        ("logits-s0", f"{shared[0]}.safetensors"),
        ("wide-s0", f"{shared[1]}.safetensors"),
    ]
    assert [row.arm for row in found.rows] == ["teacher", "teacher-wide", "logits", "wide"]
    assert found.base == "logits"


def test_an_ensemble_is_a_run_a_net_and_has_scores(trained, tmp_path):
    found = compare(seeds=1, arms=("logits",), out=tmp_path, changes={"teachers": 2})
    shared = "teacher.safetensors"
    assert trained == [("teacher-1", None), ("teacher-2", None), ("logits-s0", shared)]
    nets = [SavedNet.load(tmp_path / name) for name in ("teacher-1", "teacher-2")]
    both = SavedNet.load(tmp_path / shared)
    assert nets[0].fingerprint != nets[1].fingerprint
    for state, net in zip(both.states, nets, strict=True):
        assert all(torch.equal(state[name], tensor) for name, tensor in net.states[0].items())
    assert found.row("teacher").values["accuracy"] == (score(both.to_teacher(), DATA).accuracy,)


def test_an_interrupted_teacher_is_resumed(trained, tmp_path):
    compare(seeds=1, arms=("hard",), out=tmp_path)
    # killed before its first checkpoint
    config = teacher_config(PAGE.config().with_changes(dataset="custom"))
    train(config, data=DATA, out=tmp_path.parent / "other")
    env = RunFolder.open(tmp_path.parent / "other").environment
    RunFolder.create(tmp_path / "teacher", dump_config(config), env, KIND)
    compare(seeds=1, arms=("logits",), out=tmp_path)
    whole = SavedNet.load(tmp_path.parent / "other").fingerprint
    assert SavedNet.load(tmp_path / "teacher.safetensors").fingerprint == whole


def test_a_class_left_out_has_columns_of_its_own(tmp_path):
    found = compare(seeds=1, arms=("own",), out=tmp_path, changes={"without": ("1",)})
    assert found.columns == ("accuracy", "of class 1", "of class 1, shifted", "all, 1 shifted")
    teacher = SavedNet.load(tmp_path / "teacher.safetensors")
    assert found.row("teacher").values["of class 1"] == (teacher.scores["per_class"][1],)
    assert found.row("teacher").score("all, 1 shifted").mean is None
    assert "One seed" in (tmp_path / "table.md").read_text()
    assert "without ('1',)" in (tmp_path / "table.md").read_text()


def test_a_named_recipe_and_named_data(monkeypatch, tmp_path):
    monkeypatch.setitem(RECIPES, "tiny", ON_DIGITS)
    lines = []
    found = compare_named("tiny", seeds=(3,), arms=("own", "hard"), out=tmp_path, say=lines.append)
    assert found.row("own").values["accuracy"] and lines == [
        "teacher",
        "own-s3, taught by teacher.safetensors",
        "hard-s3",
    ]
    assert RunFolder.open(tmp_path / "hard-s3").config["dataset"] == "digits"
    with pytest.raises(UsageError, match="no recipe 'tinny'; did you mean tiny"):
        compare_named("tinny", out=tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"arms": ("hart",)}, "tiny has no arm 'hart'; did you mean hard"),
        ({"arms": ("own",), "base": "hard"}, "base 'hard' is not among the arms"),
        ({"changes": {"epoch": 3}}, "no field 'epoch'; did you mean epochs"),
        ({"changes": {"method": "plane"}}, "no method 'plane'; did you mean plain"),
        ({"changes": {"shared": ("nolayer",)}}, "no layer 'nolayer'"),
    ],
)
def test_what_cannot_be_compared_leaves_nothing(options, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        compare(out=tmp_path / "c", **options)
    assert not (tmp_path / "c").exists()


def test_a_folder_of_something_else_is_refused(tmp_path):
    compare(seeds=1, arms=("hard",), out=tmp_path / "c")
    with pytest.raises(UsageError, match="holds another study"):
        compare(seeds=1, arms=("hard",), out=tmp_path / "c", changes={"epochs": 2})
    RunFolder.create(
        tmp_path / "c/own-s0",
        dump_config(own().with_changes(epochs=7, dataset="custom")),
        environment(),
        KIND,
    )
    with pytest.raises(UsageError, match=r"own-s0 holds a run of another config \(epochs 7 -> 1\)"):
        compare(seeds=1, arms=("own",), out=tmp_path / "c")


# --- tables


def test_published_numbers_are_of_the_recipe_as_it_is(tmp_path):
    arms = {"seeds": 1, "arms": ("own", "hard", "logits")}
    found = compare(ON_DIGITS, **arms, changes={"noise": (0.2,)}, out=tmp_path)
    assert {row.published for row in found.rows} == {"-"}
    said = "Published numbers are of the recipe as it is, and not given beside own, hard: "
    page = (tmp_path / "table.md").read_text()
    assert said + "dataset 'digits' -> 'custom'." in page and "97 (a paper)" not in page


def test_typed_arguments_go_to_the_arms_that_have_the_recipes_method(tmp_path):
    weak = Arm({"method_args": {"temperature": 9.0}})
    page = replace(PAGE, arms={**PAGE.arms, "weak": weak})
    changes = {"method_args": Arguments({"soft_weight": 0.5, "temperature": 3.0})}
    compare(page, seeds=1, out=tmp_path, arms=("own", "hard", "weak"), changes=changes)
    found = [RunFolder.open(tmp_path / f"{arm}-s0").config for arm in ("own", "hard", "weak")]
    assert [config["method_args"] for config in found] == [
        {"soft_weight": 0.5, "temperature": 3.0},
        {},
        {"soft_weight": 0.5, "temperature": 9.0},
    ]


def test_deviations_and_differences_on_paper():
    hard = ArmRow(
        "hard",
        "plain",
        {"accuracy": (90.0, 94.0), "with noise 0.3": (50.0, 52.0)},
        published="91 (here)",
    )
    kd = ArmRow(
        "kd",
        "soft-targets",
        {"accuracy": (93.0, 97.0)},
        {"accuracy": paired_difference((93, 97), (90, 94))},
    )
    env = {
        "versions": {"torch": "2", "datadistill": "0"},
        "device": "cpu",
        "device_name": "x",
        "threads": 1,
    }
    found = Comparison("r", "hard", (0, 1), (hard, kd), environments=(env,))
    lines = markdown(found, "kd-baselines compare r").splitlines()
    assert "| hard | plain | 92.00 ± 2.00 | 91 (here) | - |" in lines
    assert "| kd | soft-targets | 95.00 ± 2.00 | - | +3.00 [+3.00, +3.00] |" in lines
    assert "| kd | soft-targets | - | - | - |" in lines  # not measured under noise
    assert found.table().to_csv().splitlines()[1] == (
        "r,hard,plain,accuracy,2,92.0000,2.0000,,,,,91 (here),90.0000 94.0000"
    )
    with pytest.raises(UsageError, match="'soft' was not compared"):
        found.row("soft")
