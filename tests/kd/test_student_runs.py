"""What runs of students of images and of text share: a teacher that is given, and what resumes
them."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from generations_cases import DATA, TINY

from datadistill.config import RunOptions
from datadistill.errors import Interrupted, UsageError
from datadistill.training.fit_loop import Fit
from kd_baselines.image_training import ImageTraining
from kd_baselines.language.config import LanguageConfig
from kd_baselines.language.corpus import make_corpus
from kd_baselines.language.loop import LanguageFit
from kd_baselines.language.training import LanguageTraining, train_language
from kd_baselines.teachers import Teacher
from kd_baselines.training import train

WORDS = ("the cat sat on the mat\n", "a dog ran\n", "the dog sat\n")
TEXT = make_corpus(
    *("".join(WORDS[int(n)] for n in order) for order in (4 * "0120212", "021202", "210021"))
)
TEXTS = LanguageConfig(
    method="born-again", net_args={"width": 5, "dropout": 0.3}, epochs=3, batch=4, unroll=10, lr=0.5
)


@dataclass(frozen=True)
class Case:
    """A student of one kind.

    Args:
        kind, train: its kind of run, and the function that trains it.
        config: of a student that wants a teacher.
        loop: whose `advance` is one step.
        given: the argument for the data.
        data: of that argument.
        teacher: a trained result -> what is given as a teacher.
    """

    kind: type
    train: Callable[..., Any]
    config: Any
    loop: type
    given: str
    data: Any
    teacher: Callable[[Any], Any]

    def run(self, config, **options):
        return self.train(
            config, **{self.given: self.data, "options": RunOptions(quiet=True), **options}
        )


CASES = {
    "images": Case(
        ImageTraining, train, TINY, Fit, "data", DATA, lambda found: Teacher(found.student)
    ),
    "text": Case(
        LanguageTraining,
        train_language,
        TEXTS,
        LanguageFit,
        "corpus",
        TEXT,
        lambda found: found.net,
    ),
}


@pytest.fixture(scope="module", params=CASES)
def trained(request, tmp_path_factory):
    """A case, a teacher's run, and the run of a student that it taught."""
    case, folder = CASES[request.param], tmp_path_factory.mktemp("runs")
    teacher = case.run(case.config.with_changes(method="plain"), out=folder / "teacher")
    case.run(case.config, teacher=folder / "teacher/student.safetensors", out=folder / "student")
    return case, folder, case.teacher(teacher)


def digest(run):
    return [(run / name).read_bytes() for name in ("student.safetensors", "metrics.jsonl")]


def test_a_teacher_is_a_file_or_an_object(trained):
    case, folder, teacher = trained
    found = [
        case.run(case.config.with_changes(seed=seed), teacher=teacher).saved for seed in (0, 1)
    ]
    kept = type(found[0]).load(folder / "student").fingerprint
    assert [one.fingerprint == kept for one in found] == [True, False]
    with pytest.raises(
        UsageError, match=r"teacher is a int; pass a (Teacher|LanguageModel) or a file"
    ):
        case.run(case.config, teacher=3)


def test_a_taught_run_is_resumed_with_its_teacher_alone(trained, tmp_path, monkeypatch):
    case, folder, _ = trained
    advance, steps, file = case.loop.advance, [], folder / "teacher/student.safetensors"

    def interrupted(self):
        steps.append(1)
        if len(steps) == 6:
            signal.raise_signal(signal.SIGTERM)
        return advance(self)

    out = tmp_path / "run"
    with (
        monkeypatch.context() as patch,
        pytest.raises(Interrupted, match=r"saved at .*; go on with: "),
    ):
        patch.setattr(case.loop, "advance", interrupted)
        case.run(case.config, teacher=file, out=out)
    with pytest.raises(UsageError, match=r"pass it again \(teacher=FILE\)"):
        case.run(None, out=out, resume=True)
    with pytest.raises(UsageError, match="another teacher"):
        case.run(None, out=out, resume=True, teacher=folder / "student/student.safetensors")
    case.run(None, out=out, resume=True, teacher=file)
    assert digest(out) == digest(folder / "student")


def test_a_run_without_a_given_teacher_or_data_is_resumed_so(trained):
    case, folder, teacher = trained
    with pytest.raises(UsageError, match="started without a given teacher; leave the teacher out"):
        case.run(None, out=folder / "teacher", resume=True, teacher=teacher)
    with pytest.raises(
        UsageError, match=rf"{case.given} of your own .*resume=True, {case.given}=\.\.\."
    ):
        case.train(None, out=folder / "teacher", resume=True)


def test_a_finished_run_is_not_told_to_resume(trained, tmp_path):
    case, folder, _ = trained
    with pytest.raises(UsageError, match="student has finished, so nothing is left to resume"):
        case.run(None, out=folder / "student", resume=True)


def test_the_command_that_resumes_names_what_was_given(trained):
    case, folder, teacher = trained
    own = case.config.with_changes(**{case.kind.data_field: "custom"})
    file = folder / "teacher/student.safetensors"
    call = f"{case.train.__name__}(None, out='r', resume=True"
    for config, given, wanted in (
        (case.config, None, "kd-baselines train --resume r"),
        (case.config, file, f"kd-baselines train --resume r --teacher {file}"),
        (case.config, teacher, f"{call}, teacher=...)"),
        (own, None, f"{call}, {case.given}=...)"),
        (own, file, f"{call}, {case.given}=..., teacher=...)"),
    ):
        assert case.kind(None, given).command(config, "r") == wanted
