"""Born-Again generations: what is refused, before anything is written or trained on it."""

from dataclasses import replace

import pytest
from generations_cases import DATA, IMAGES, LABELS, TESTED, TINY, born_again

from datadistill.data import RealData
from datadistill.errors import DataError, UsageError
from kd_baselines import born_again_generations
from kd_baselines.language.config import LanguageConfig
from kd_baselines.netfile import SavedNet
from kd_baselines.recipes import Page
from kd_baselines.studies.generations import LINEAGES
from kd_baselines.training import train


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"generations": 0}, "generations is 0; it must be a whole number of at least 1"),
        ({"generations": -2}, "generations is -2; it must be a whole number of at least 1"),
        ({"generations": 1.5}, "generations is 1.5; it must be a whole number"),
        ({"generations": True}, "generations is True; it must be a whole number"),
        ({"arms": ("owm",)}, "tiny has no arm 'owm'; did you mean own"),
        (
            {"arms": ("own", "hard")},
            "the arm hard learns by plain, without a teacher.*leave it out",
        ),
        ({"arms": ("hard",)}, "the arm hard learns by plain"),
        ({"average": "geometrik"}, "average is 'geometrik'; did you mean geometric"),
        ({"changes": {"method_args": {"temprature": 2.0}}}, "no argument 'temprature'"),
        (
            {"changes": {"weights": "w.pt"}},
            "weights is 'w.pt', but every generation starts from a fresh draw",
        ),
        ({"changes": {"teacher_weights": "w.pt"}}, "teacher_weights is 'w.pt'"),
        ({"changes": {"shared": ("conv9",)}}, "conv9"),
        ({"changes": {"teachers": 3}}, "teachers is 3, but generation 0 is one net"),
    ],
)
def test_what_cannot_be_generations_leaves_nothing(options, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        born_again(tmp_path / "g", **options)
    assert not (tmp_path / "g").exists()


def test_a_folder_of_something_else_is_refused(tmp_path):
    out = tmp_path / "g"
    born_again(out, generations=1, seeds=1)
    with pytest.raises(UsageError, match=r"holds another study .*choose another out"):
        born_again(out, changes={"epochs": 5})
    with pytest.raises(
        UsageError, match=r"own-1-s0 holds a run of another config \(lr 0.02 -> 0.5\)"
    ):
        born_again(out, Page(lambda: replace(TINY, lr=0.5), "-"), generations=1, seeds=1)
    with pytest.raises(UsageError, match="no recipe 'tinny'"):
        born_again_generations("tinny", out=tmp_path)


def test_other_data_or_classes_between_generations_are_refused(tmp_path):
    born_again(tmp_path, generations=1, seeds=1)
    tests = {"test_images": TESTED, "test_labels": LABELS[:45]}
    images = RealData.from_tensors(IMAGES.flip(0), LABELS.flip(0), classes=("a", "b", "c"), **tests)
    for generations in (1, 2):
        with pytest.raises(DataError, match="s0 was trained on other data"):
            born_again(tmp_path, generations=generations, seeds=1, data=images)
    named = RealData.from_tensors(IMAGES, LABELS, classes=("a", "x", "c"), **tests)
    with pytest.raises(DataError, match=r"other classes .*: class 1 is 'b', and 'x' here"):
        born_again(tmp_path, generations=2, seeds=1, data=named)
    assert not (tmp_path / "own-2-s0").exists()
    file = tmp_path / "own-1-s0/student.safetensors"
    kept = SavedNet.load(file)
    replace(kept, classes=("a", "x", "c")).save(file)  # replaced by hand
    with pytest.raises(DataError, match=r"other classes .*: class 1 is 'x', and 'b' here"):
        born_again(tmp_path, generations=2, seeds=1)
    assert not (tmp_path / "own-2-s0/config.json").exists()
    with pytest.raises(DataError, match="other classes"):
        train(TINY, data=DATA, teacher=file)


def test_other_classes_are_allowed_where_no_logits_are_matched(tmp_path):
    cnn = {"net": "thin-cnn", "net_args": {"width": 2, "depth": 2, "pools": 1}}
    other = train(TINY.with_changes(method="plain", **cnn), data=DATA).saved
    replace(other, classes=("a", "x", "c")).save(tmp_path / "other")
    replace(other, classes=()).save(tmp_path / "nameless")
    student = TINY.with_changes(epochs=1, **cnn)
    maps = student.with_changes(method="attention", method_args={"layers": "convs.1:convs.1"})
    train(maps, data=DATA, teacher=tmp_path / "other")
    two_headed = student.with_changes(method="lwf", method_args={"jacobian_weight": 0.1})
    train(two_headed, data=DATA, teacher=tmp_path / "other")
    train(student, data=DATA, teacher=tmp_path / "nameless")
    with pytest.raises(DataError, match="other classes"):
        train(student, data=DATA, teacher=tmp_path / "other")


def test_a_net_that_was_replaced_after_it_taught_is_noticed(tmp_path):
    born_again(tmp_path, generations=2, seeds=1)
    SavedNet.load(tmp_path / "own-2-s0").save(tmp_path / "own-1-s0/student.safetensors")
    with pytest.raises(
        DataError, match=r"own-1-s0.* holds .its fingerprint differs.*remove own-2-s0"
    ):
        born_again(tmp_path, generations=2, seeds=1)


def test_language_models_have_a_lineage_that_is_imported_late():
    assert LINEAGES[LanguageConfig] == "kd_baselines.language.lineage:LanguageLineage"
    with pytest.raises(UsageError, match="data are images, but the recipe's nets read text"):
        born_again_generations(Page(LanguageConfig, "-"), out="nowhere", data=DATA)  # type: ignore[arg-type]
