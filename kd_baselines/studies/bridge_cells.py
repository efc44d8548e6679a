"""The students of a bridge and the distilled sets that they see, each a run of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datadistill.config import RunOptions
from datadistill.data import RealData
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError
from datadistill.nets.spec import CUSTOM
from datadistill.runs.folder import SET_FILE
from datadistill.studies.study import Job, Study
from datadistill.training import distill
from kd_baselines.config import KdConfig
from kd_baselines.evaluation import Scores
from kd_baselines.image_source import ImageSource, find_source
from kd_baselines.netfile import SavedNet
from kd_baselines.student_setup import Setup, wants_teacher
from kd_baselines.studies.bridge_bytes import count_bytes
from kd_baselines.studies.bridge_plans import BridgePlan
from kd_baselines.studies.bridge_table import Cell
from kd_baselines.studies.compare import Runs
from kd_baselines.teacher_runs import build_untrained

__all__ = ["Cells"]


@dataclass(frozen=True)
class Place:
    """Where a cell stands in the table."""

    images: str
    ipc: int
    knowledge: str

    @property
    def name(self) -> str:
        """Of the run folders of its students, before the seed."""
        return f"{self.images}-{self.ipc}-{self.knowledge}"


class Cells(Runs):
    """The cells of a bridge.

    Args:
        study: its folder.
        plan: says how sets are learned.
        arms: knowledge -> config of such a student.
        asked: images, numbers of images a class, and knowledge that are crossed.
        distill_changes: changed fields of every set's config.
    """

    def __init__(
        self,
        study: Study,
        plan: BridgePlan,
        arms: Mapping[str, KdConfig],
        asked: tuple[Sequence[str], Sequence[int], Sequence[str]],
        distill_changes: Mapping[str, Any],
        options: RunOptions,
        data: RealData | None,
    ) -> None:
        super().__init__(study, {}, options, data)
        self.plan, self.distill_changes = plan, distill_changes
        self.real = self.lineage.load_data(next(iter(arms.values())))
        images, sizes, knowledge = asked
        self.places = {
            place.name: place
            for place in (Place(i, n, k) for n in sizes for i in images for k in knowledge)
        }
        self.configs = {name: self._student(arms, place) for name, place in self.places.items()}
        self._sets: dict[tuple[str, int], DistilledDataset] = {}
        self._sources: dict[tuple[str, int, int], ImageSource] = {}

    def _student(self, arms: Mapping[str, KdConfig], place: Place) -> KdConfig:
        """The config of a cell, in whole epochs of at least as many steps as the plan says."""
        config = arms[place.knowledge]
        an_epoch = -(-place.ipc * len(self.real.classes) // config.batch)
        own = place.images in self.plan.sets
        return config.with_changes(
            data_from=CUSTOM if own else f"{place.images}:{place.ipc}",
            epochs=-(-self.plan.steps // an_epoch),
        )

    def refuse(self) -> None:
        """Refuse students, teachers and sets that cannot be, before anything is written."""
        tried = {(place.ipc, place.knowledge): name for name, place in self.places.items()}
        for (ipc, _), name in tried.items():
            config = self.configs[name].with_changes(data_from=f"random:{ipc}")
            teacher = None
            if wants_teacher(config):
                teacher = build_untrained(config, self.real, self.options)
            Setup(config, self.real, teacher, self.options)
        for place in self.places.values():
            if place.images in self.plan.sets:
                self._set_config(place)

    def images(self, arm: str) -> DistilledDataset | None:
        """The set of a cell with 8-bit images, as bytes are counted; learned where it is not
        there."""
        place = self.places[arm]
        if place.images not in self.plan.sets:
            return None
        key = place.images, place.ipc
        if key not in self._sets:
            self._sets[key] = self._learn_set(place).quantized(8)
        return self._sets[key]

    def _set_config(self, place: Place) -> Any:
        student = self.configs[place.name]
        config = self.plan.sets[place.images].make(student, place.ipc, self.distill_changes)
        return config if self.data is None else replace(config, dataset=CUSTOM)

    def _learn_set(self, place: Place) -> DistilledDataset:
        config, name = self._set_config(place), f"set-{place.images}-{place.ipc}"
        path = self.study.path / name

        def work(resume: bool) -> None:
            distill(config, data=self.data, out=path, resume=resume, options=self.options)

        words = f"{name}: {config.recipe}, {config.iterations} iterations"
        return DistilledDataset.load(self.study.run(Job(path, config, SET_FILE, work, words)))

    def cell(self, name: str, seeds: Sequence[int]) -> Cell:
        """The cell with the accuracy of each seed; students that do not exist yet are trained."""
        place, config = self.places[name], self.configs[name]
        students = [self.student(name, seed) for seed in seeds]
        sources = [self._source(name, seed) for seed in seeds]
        for seed, saved, source in zip(seeds, students, sources, strict=True):
            if (saved.record or {}).get("data_from_fingerprint") != source.fingerprint:
                raise DataError(
                    f"{self.study.path / f'{name}-s{seed}'} holds a student of other images than "
                    "those that are there now (their fingerprints differ); remove it, and type "
                    "the command again"
                )
        teacher = SavedNet.load(self._teacher(config)) if wants_teacher(config) else None
        found = count_bytes(config, sources[0].split, self.real, teacher)
        values = tuple(Scores.from_dict(saved.scores or {}).accuracy for saved in students)
        return Cell(place.images, place.ipc, place.knowledge, values, found)

    def _source(self, name: str, seed: int) -> ImageSource:
        place = self.places[name]
        key = place.images, place.ipc, seed
        if key not in self._sources:
            config = self.configs[name].with_changes(seed=seed)
            source = find_source(config, self.real, self.images(name))
            assert source is not None
            self._sources[key] = source
        return self._sources[key]

    def notes(self) -> tuple[str, ...]:
        """Sentences about how the numbers were made."""
        config = next(iter(self.configs.values()))
        lines = [
            f"Real data: {self.real.description}.",
            f"Students: {config.net}, {self.plan.steps:,} steps (to whole epochs) of "
            f"{config.optimizer} on {config.batch} images, learning rate {config.lr:g}, the same "
            "in every cell.",
        ]
        taught = [c for c in self.configs.values() if wants_teacher(c)]
        if taught:
            saved = SavedNet.load(self._teacher(taught[0]))
            accuracy = Scores.from_dict(saved.scores).accuracy if saved.scores else None
            known = "" if accuracy is None else f", {accuracy:.2f}%"
            lines.append(f"Teacher: {taught[0].teacher_net}{known}; one for every seed.")
        lines.append(
            "Random images are drawn by the student's seed; herded ones are the same for every "
            "seed."
        )
        sets = {}
        for place in self.places.values():
            if place.images in self.plan.sets:
                made = self._set_config(place)
                sets[f"{place.images}:{place.ipc}"] = f"{made.recipe}, {made.iterations:,}"
        if sets:
            told = "; ".join(f"{name} ({how})" for name, how in sets.items())
            lines.append(
                "Distilled sets (their recipes, and iterations) are learned for the students' net "
                f"with hard labels, one of each for every seed: {told}."
            )
        return (
            *lines,
            "Bytes: images in 8 bits, as students of distilled sets see them, and a byte a label; "
            "of the teacher what takes fewer, the float32 numbers about these images that the "
            "method reads (outputs) or its weights (teacher).",
        )
