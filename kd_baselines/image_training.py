"""The training of an image classifier as a kind of run; a teacher that has to be trained first is
another such run. The test part of the data is read once, at the end of each."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from datadistill.config import HARMLESS, RunOptions
from datadistill.data import RealData, from_config
from datadistill.device import resolve
from datadistill.errors import DataError, UsageError
from datadistill.nets import arguments
from datadistill.nets.spec import CUSTOM
from datadistill.runs.checkpoints import Checkpoint
from datadistill.runs.driver import run
from datadistill.runs.folder import RunFolder
from datadistill.runs.inside import refuse_inside
from datadistill.runs.jsonconfig import diff_configs
from datadistill.runs.kinds import Work
from datadistill.runs.resume import fingerprints
from datadistill.studies.study import Job
from datadistill.training.normalization_from_config import choose_normalization
from kd_baselines.config import KdConfig
from kd_baselines.evaluation import Scores, score, score_second_head
from kd_baselines.given_student import NOTHING, GivenStudent
from kd_baselines.netfile import STUDENT, TEACHER, SavedNet, is_plain_weights
from kd_baselines.source_data import load_source
from kd_baselines.splits import check_real_data
from kd_baselines.stage_loop import StagedLoop
from kd_baselines.student_runs import StudentKind, StudentWork
from kd_baselines.student_setup import Setup, has_two_heads, make_stages, wants_teacher
from kd_baselines.teacher_runs import (
    build_untrained,
    load_pretrained,
    train_nets,
)
from kd_baselines.teachers import Teacher

KIND = "kd"
"""What config.json calls a run that trains an image classifier."""

__all__ = ["KIND", "ImageTraining", "Trained", "load_data"]


@dataclass(frozen=True, eq=False, repr=False)
class Trained:
    """The result of a training.

    Args:
        student: in evaluation mode, on the run's device.
        teacher: None where the method needs none.
        tested: scores of the student on the test part; None for a teacher of other classes than the
            data's.
        config: as it was run.
        saved: the student as `student.safetensors` holds it.
    """

    student: nn.Module
    teacher: Teacher | None
    tested: Scores | None
    config: KdConfig
    saved: SavedNet

    @property
    def scores(self) -> Scores:
        """Scores of the student on the test part."""
        # only the run of a teacher, inside that of its student, has none
        assert self.tested is not None
        return self.tested

    def __repr__(self) -> str:
        config = self.config
        return (
            f"Trained({config.net} by {config.method} on {config.dataset}: "
            f"{self.scores.accuracy:.2f}%)"
        )


class ImageTraining(StudentKind[KdConfig, Trained, RealData, Teacher]):
    """The kind of run that trains an image classifier."""

    name, config, wanted = KIND, KdConfig, "kd_baselines.recipe(NAME)"
    function, data_field, data_argument = "train", "dataset", "data"
    teacher_class = Teacher

    def __init__(
        self,
        data: RealData | None = None,
        teacher: Teacher | str | os.PathLike[str] | None = None,
        given: GivenStudent = NOTHING,
    ) -> None:
        check_real_data(data)
        self.given = given
        self.weights: str | None = None
        self.saved_teacher: SavedNet | None = None
        if isinstance(teacher, str | os.PathLike) and is_plain_weights(teacher):
            # weights without their net, which is the config's teacher_net; a resumed run has them
            # in its config
            self.weights, teacher = os.fspath(teacher), None
        super().__init__(data, teacher)

    def load_teacher(self, path: str | os.PathLike[str]) -> Teacher:
        self.saved_teacher = SavedNet.load(path, which="teacher")
        return self.saved_teacher.to_teacher()

    def prepare(self, config: KdConfig) -> KdConfig:
        config = self.given.put_in(super().prepare(config))
        return config if self.weights is None else replace(config, teacher_weights=self.weights)

    def own_objects(self, config: KdConfig) -> dict[str, bool]:
        found, here = super().own_objects(config), self.given.names
        if config.net == CUSTOM:
            found["net"] = here["net"]
        if config.method == CUSTOM:
            name = "objective" if "objective" in config.method_args else "stages"
            found[name] = here[name]
        if config.data_from == CUSTOM:
            found["data_from"] = here["data_from"]
        return found

    def check(
        self, config: KdConfig, path: Path | None, options: RunOptions, resumed: bool
    ) -> None:
        if path is not None and config.dataset == "folder":
            refuse_inside(path, config.data)
        super().check(config, path, options, resumed)
        # of a resumed run, which has another config than what is given would make
        if changed := diff_configs(config, self.given.put_in(config)):
            raise UsageError(
                f"{path} was started with another net, objective or stages ({'; '.join(changed)}); "
                "pass those"
            )

    def build(self, config: KdConfig, options: RunOptions) -> Work[Trained]:
        # refused before the data
        stages = make_stages(config, self.given)
        for net in (config.net, config.teacher_net):
            if self.given.net is None or net != CUSTOM:
                arguments(net)
        real = self.load_data(config, options)
        saved = self.saved_teacher
        if saved is not None and saved.normalization != real.normalization:
            raise DataError(
                "the teacher was trained on images of another normalization or size "
                f"({saved.dataset}: {saved.normalization}, here {real.normalization}); pass a "
                "teacher of these data"
            )
        needs = [stage.objective.needs for stage in stages]
        # a second head is for the teacher's own classes
        same = not has_two_heads(config)
        if saved is not None and same and any(n.teacher_logits or n.teacher for n in needs):
            saved.refuse_other("the teacher", real)
        teacher = None if self.teacher is None else self.teacher.to(real.device)
        return _Training(self, config, real, teacher, options)

    def load_data(self, config: KdConfig, options: RunOptions) -> RealData:
        """The given or named data on the device of the run."""
        return load_data(config, options, self.data)

    def explain_memory(self, config: KdConfig) -> str:
        return (
            f"steps on {config.batch} images with {config.net} and {config.teacher_net}; try a "
            "smaller --batch or --cache False"
        )


class TeacherTraining(ImageTraining):
    """The run of a teacher's net, inside that of its student, on whose data `real` it is
    trained."""

    def __init__(self, data: RealData | None, real: RealData) -> None:
        super().__init__(data)
        self.real = real

    def load_data(self, config: KdConfig, options: RunOptions) -> RealData:
        return self.real

    def explain_memory(self, config: KdConfig) -> str:
        return f"steps on {config.batch} images with {config.net}; try a smaller --teacher-batch"


class _Training(StudentWork[Trained]):
    """The stages of a student, and before them the runs of its teacher where there is none."""

    loop: StagedLoop

    def __init__(
        self,
        kind: ImageTraining,
        config: KdConfig,
        real: RealData,
        teacher: Teacher | None,
        options: RunOptions,
    ) -> None:
        self.kind, self.config, self.real, self.device = kind, config, real, real.device
        self.options = options
        found = {} if teacher is None else {"teacher": teacher.hash}
        self.pretrained: SavedNet | None = None
        self.given = kind.given
        self.makes_teacher = teacher is None and wants_teacher(config, self.given)
        if self.makes_teacher and config.teacher_weights is not None:
            self.pretrained, found["teacher_weights"] = load_pretrained(config, real, options)
            teacher = self.pretrained.to_teacher().to(self.device)
        elif self.makes_teacher:
            teacher = build_untrained(config, real, options)
        # refuses what does not fit before a teacher is trained
        self.setup = Setup(config, real, teacher, options, self.given)
        found |= self.setup.origin
        if self.setup.source is not None:
            found["data_from"] = self.setup.source.fingerprint
        self.fingerprints = fingerprints(real, self.setup.student, found)

    def run_inputs(self, folder: RunFolder | None, options: RunOptions) -> None:
        if self.makes_teacher:
            file = None if folder is None else folder.path / TEACHER
            if file is not None and file.exists():
                saved, new = SavedNet.load(file), False
            else:
                saved, new = self.pretrained or self._train_teacher(folder, options), True
            teacher = saved.to_teacher().to(self.device)
            source = self.setup.source
            self.setup = Setup(self.config, self.real, teacher, options, self.given, source)
            if file is not None and new:
                saved.save(file)
        self.loop, self.teacher = self.setup.loop(), self.setup.teacher

    def _train_teacher(self, folder: RunFolder | None, options: RunOptions) -> SavedNet:
        if folder is not None and folder.checkpoints.load_latest() is not None:
            raise UsageError(
                f"{folder.path} was begun by an earlier version, in which the run of a student "
                "trained the teacher too, and cannot be resumed; train in another folder"
            )
        data = None if self.config.source is not None else self.kind.data
        kind = TeacherTraining(data, load_source(self.config, self.real, options))

        def train_net(name: str, config: KdConfig) -> SavedNet:
            if folder is None:
                return run(kind, config, options=options).saved
            path = folder.path / name

            def carry_out(resume: bool) -> Trained:
                return run(kind, config, path, resume=resume, options=options)

            config = kind.prepare(config)
            Job(path, config, STUDENT, carry_out, name, HARMLESS).finish(lambda work: work())
            return SavedNet.load(path)

        return train_nets("teacher", self.config, train_net)

    def description(self) -> dict[str, Any]:
        return {} if self.teacher is None else {"teacher": self.teacher.hash}

    def restore(self, folder: RunFolder, checkpoint: Checkpoint | None) -> None:
        stored = None if checkpoint is None else checkpoint.state.get("teacher")
        if stored is not None and self.teacher is not None and stored != self.teacher.hash:
            raise DataError(
                f"{folder.path / TEACHER} holds another teacher than that of the student so far "
                "(its fingerprint differs); restore the file"
            )
        super().restore(folder, checkpoint)

    def stage(self) -> tuple[str, int]:
        stage = self.setup.stages[self.loop.stage]
        return stage.name, stage.plan.epochs

    def test(self) -> Trained:
        setup, config = self.setup, self.config
        setup.reestimate()
        student, scores = setup.student.eval(), None
        if setup.spec.args["classes"] == len(self.real.classes):
            scores = score(
                student, self.real, noise=config.noise, missing=config.without, seed=config.seed
            )
            if setup.source_classes is not None and setup.teacher is not None:
                source = None
                if config.source is not None:
                    source = load_source(config, self.real, self.options)
                second = score_second_head(student, setup.teacher, self.real, source)
                scores = replace(scores, second=second)
        saved = setup.to_saved(None if scores is None else scores.as_dict())
        return Trained(student, setup.teacher, scores, config, saved)


def load_data(config: KdConfig, options: RunOptions, data: RealData | None = None) -> RealData:
    """The data of a run, on its device: yours, or those that its config names."""
    if data is None:
        data = from_config.load_data(
            config,
            options,
            seed=config.teacher_seed,
            folder=config.data,
            normalization=choose_normalization(config),
        )
    return data.to(resolve(config.device))
