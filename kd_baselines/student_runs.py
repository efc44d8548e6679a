"""Runs of students, of images or of text.

StudentKind     a student is trained, with or without a teacher that is given
StudentWork     its steps, reported once an epoch; then its test and its file
"""

from __future__ import annotations

import abc
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from datadistill.config import RunOptions
from datadistill.errors import UsageError
from datadistill.nets.spec import CUSTOM
from datadistill.runs.folder import RunFolder
from datadistill.runs.kinds import Kind, Loop, LoopWork, Step
from datadistill.runs.signals import interruptible
from kd_baselines.netfile import STUDENT
from kd_baselines.saved_model import SavedModel
from kd_baselines.teachers import Teacher

__all__ = ["EpochLoop", "StudentKind", "StudentWork"]

C = TypeVar("C", bound=Any)
D = TypeVar("D")
T = TypeVar("T")


class Trained(Protocol):
    """The result of a training."""

    @property
    def saved(self) -> SavedModel:
        """The student as its file holds it."""


R = TypeVar("R", bound=Trained)


class StudentKind(Kind[C, R], Generic[C, R, D, T]):
    """A kind of run that trains a student. `data` None are those that the config names; `teacher`
    is a trained one, or its file or run folder."""

    function: ClassVar[str]
    """What trains such a student from Python."""
    data_field: ClassVar[str]
    """The field of the config that names the data."""
    data_argument: ClassVar[str]
    """The argument of that function that takes data of your own."""
    teacher_class: type[T]
    """Of a teacher that is given."""

    def __init__(
        self, data: D | None = None, teacher: T | str | os.PathLike[str] | None = None
    ) -> None:
        self.data, self.teacher, self.teacher_path = data, None, None
        if isinstance(teacher, str | os.PathLike):
            self.teacher, self.teacher_path = self.load_teacher(teacher), os.fspath(teacher)
        elif teacher is None or isinstance(teacher, self.teacher_class):
            self.teacher = teacher
        else:
            raise UsageError(
                f"teacher is a {type(teacher).__name__}; pass a "
                f"{self.teacher_class.__name__} or a file"
            )

    @abc.abstractmethod
    def load_teacher(self, path: str | os.PathLike[str]) -> T:
        """The teacher in a file or a run folder."""

    @abc.abstractmethod
    def load_data(self, config: C, options: RunOptions) -> D:
        """The data that were given, or that the config names."""

    def prepare(self, config: C) -> C:
        return config if self.data is None else replace(config, **{self.data_field: CUSTOM})

    def reopen(self, folder: RunFolder) -> None:
        had_one = "teacher" in folder.environment
        if self.teacher is not None and not had_one:
            raise UsageError(
                f"{folder.path} was started without a given teacher; leave the teacher out, or "
                "train in another folder"
            )
        if self.teacher is None and had_one and (folder.path / STUDENT).exists():
            raise UsageError(
                f"{folder.path} has finished, so nothing is left to resume; {STUDENT} there is the "
                f"student with its scores, and kd-baselines evaluate {folder.path} tests it (to "
                "have the result in Python again, pass the teacher that it was given)"
            )
        if self.teacher is None and had_one:
            raise UsageError(
                f"{folder.path} was started with a teacher that it did not train; pass it again "
                "(--teacher FILE)"
            )

    def own_objects(self, config: C) -> dict[str, bool]:
        """The arguments of the function that a run of this config was given as Python objects ->
        whether they are here."""
        is_own = getattr(config, self.data_field) == CUSTOM
        return {self.data_argument: self.data is not None} if is_own else {}

    def check(self, config: C, path: Path | None, options: RunOptions, resumed: bool) -> None:
        missing = [name for name, is_here in self.own_objects(config).items() if not is_here]
        if path is not None and missing:
            raise UsageError(
                f"{path} was started with {' and '.join(missing)} of your own from Python; go on "
                f"from Python with {self.command(config, path)}"
            )

    def command(self, config: C, path: Path) -> str:
        own = list(self.own_objects(config))
        if own or (self.teacher is not None and self.teacher_path is None):
            own += ["teacher"] if self.teacher is not None else []
            given = "".join(f", {name}=..." for name in own)
            return f"{self.function}(None, out={str(path)!r}, resume=True{given})"
        teacher = "" if self.teacher_path is None else f" --teacher {self.teacher_path}"
        return f"kd-baselines train --resume {path}{teacher}"

    def describe_end(self, config: C, path: Path) -> str:
        return f"the student was trained and is saved in {path}"


class EpochLoop(Loop, Protocol):
    """A loop that reports once an epoch."""

    def advance(self) -> dict[str, Any] | None:
        """One step. Returns the line of metrics, with the epoch from 1 and the mean loss, where it
        was the last of an epoch. Leaves by `Interrupted` where a signal breaks off the test after
        an epoch, which is then what the next call begins with."""


class StudentWork(LoopWork[R]):
    """The training of one student; a subclass says what its stages are called and how it is
    tested."""

    loop: EpochLoop
    teacher: Teacher | None = None
    found: tuple[str, ...] = ()
    """Of the last test, for the bar."""

    @abc.abstractmethod
    def stage(self) -> tuple[str, int]:
        """The stage of the next step, and its number of epochs."""

    @abc.abstractmethod
    def test(self) -> R:
        """Test the student on the test part."""

    def advance(self) -> Step:
        name, epochs = self.stage()
        line = self.loop.advance()
        if line is None:
            return Step((name, *self.found))
        found = format_test(line)
        self.found = (found,) if found else ()
        return Step(
            (name, *self.found),
            metrics=[line],
            timing={"stage": name, "epoch": line["epoch"]},
            line=format_epoch(name, line, epochs),
            important=line["epoch"] == epochs,
        )

    def place(self) -> dict[str, Any]:
        return {"stage": self.stage()[0], "epoch": None}

    def finish(self, folder: RunFolder | None, broken_off: str) -> R:
        if self.teacher is not None:
            self.teacher.check()
        with interruptible(broken_off):
            result = self.test()
        if folder is not None:
            result.saved.save(folder.path / STUDENT)
        return result


def format_epoch(name: str, line: Mapping[str, Any], epochs: int) -> str:
    """A line of metrics for a person.

    >>> format_epoch("student", {"epoch": 1, "loss": 5.0, "perplexity": 120.25}, 8)
    'student  epoch 1/8  loss 5.0000  perplexity 120.2 (validation)'
    """
    parts = [name, f"epoch {line['epoch']}/{epochs}", f"loss {line['loss']:.4f}", format_test(line)]
    return "  ".join(part for part in parts if part)


def format_test(line: Mapping[str, Any]) -> str:
    """The part of a line of metrics about the test after the epoch.

    >>> format_test({"epoch": 1, "loss": 0.5, "accuracy": 91.25})
    'accuracy 91.2% (validation)'
    """
    found = [f"accuracy {line['accuracy']:.1f}% (validation)"] if "accuracy" in line else []
    found += [f"perplexity {line['perplexity']:.1f} (validation)"] if "perplexity" in line else []
    return "  ".join(found)
