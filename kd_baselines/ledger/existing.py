"""The distilled set and the teacher that exist before a ledger, and the seconds that their runs
took."""

from __future__ import annotations

from pathlib import Path

from datadistill.data import RealData
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError, list_some
from datadistill.nets.spec import NetSpec
from datadistill.runs.folder import SET_FILE
from datadistill.runs.timing import read_seconds
from kd_baselines.netfile import STUDENT, TEACHER, SavedNet

__all__ = ["Given"]


class Given:
    """A distilled set and a teacher that exist already, files or run folders, each None where it is
    made here."""

    def __init__(self, distilled: Path | None, teacher: Path | None) -> None:
        self.distilled = None if distilled is None else DistilledDataset.load(distilled)
        self.teacher_file = None if teacher is None else _net_file(teacher)
        self.teacher = None if self.teacher_file is None else SavedNet.load(self.teacher_file)
        self.distilled_seconds = None if distilled is None else _read_seconds(distilled)
        self.teacher_seconds = None
        if self.teacher_file is not None:
            folder = self.teacher_file.parent
            own = self.teacher_file.name == STUDENT
            self.teacher_seconds = read_seconds(folder if own else folder / self.teacher_file.stem)

    def refuse_what_does_not_fit(self, data: RealData, student: NetSpec) -> None:
        """Refuse a set or a teacher of other classes, images or normalization."""
        for what, found in (("distilled set", self.distilled), ("teacher", self.teacher)):
            if found is None:
                continue
            if found.classes != data.classes:
                raise UsageError(
                    f"the {what} has {len(found.classes)} classes "
                    f"({list_some(found.classes, 3)}), but {data.name} has {len(data.classes)} "
                    f"({list_some(data.classes, 3)}); pass a {what} of these"
                )
            if found.normalization != data.normalization:
                raise DataError(
                    f"the {what} is of images normalized by {found.normalization}, here "
                    f"{data.normalization}; pass a {what} of these data"
                )
        if self.distilled is not None:
            shape = tuple(self.distilled.images.shape[1:])
            if shape != data.shape:
                raise UsageError(
                    f"the distilled set has images {shape}, but {data.name} has {data.shape}"
                )
            if self.distilled.theta_0 is not None and self.distilled.net != student:
                raise UsageError(
                    "the distilled set was learned for one initialization of "
                    f"{self.distilled.net.name}, which the students do not have; pass a set for "
                    "random initializations"
                )
        if self.teacher is not None and (
            len(self.teacher.states) > 1 or self.teacher.source_classes
        ):
            raise UsageError(
                "the teacher is an ensemble or has two heads; pass one net with one head"
            )


def _read_seconds(path: Path) -> float | None:
    """Seconds of the run folder that a file lies in, where it does."""
    if path.is_dir():
        return read_seconds(path)
    return read_seconds(path.parent) if path.name == SET_FILE else None


def _net_file(path: Path) -> Path:
    """The net of a file or run folder: the teacher that a run trained, else its student."""
    if not path.is_dir():
        return path
    return path / (TEACHER if (path / TEACHER).exists() else STUDENT)
