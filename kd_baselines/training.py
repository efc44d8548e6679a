"""A teacher and its student, from start to end: folder, checkpoints, signals, and the nets that are left.

    train(config)                        in memory, nothing written
    train(config, out="runs/a")          a run folder, with teacher.safetensors and student.safetensors
    train(None, out="runs/a", resume=True)

The test part of the data is read once, at the end.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from datadistill import data as data_module
from datadistill.config import RunOptions
from datadistill.data import RealData
from datadistill.device import resolve
from datadistill.errors import DataError, UsageError
from datadistill.nets import arguments
from datadistill.nets.spec import CUSTOM
from datadistill.progress import Report, shows_progress
from datadistill.runs.folder import RunFolder
from datadistill.runs.inside import refuse_inside
from datadistill.runs.signals import StopFlag, interruptible
from datadistill.torch_defaults import library_defaults
from datadistill.training.fit_plan import FitPlan
from datadistill.training.resume import named_failures
from kd_baselines.config import KdConfig
from kd_baselines.evaluation import Scores, score
from kd_baselines.methods import METHODS, stages_of
from kd_baselines.netfile import STUDENT, TEACHER, SavedNet, is_plain_weights
from kd_baselines.running import KIND, Run, carry_out, come_back, in_folder, not_begun
from kd_baselines.setup import Setup
from kd_baselines.splits import refuse_distilled
from kd_baselines.staged import StagedLoop
from kd_baselines.teachers import Teacher

__all__ = ["Trained", "load_data", "refuse_other_classes", "train"]


@dataclass(frozen=True, eq=False, repr=False)
class Trained:
    """What a training leaves.

    Args:
        student: in evaluation mode, on the run's device.
        teacher: None where the method needs none.
        scores: of the student on the test part.
        config: as it was run.
        saved: the student as `student.safetensors` holds it.
    """

    student: nn.Module
    teacher: Teacher | None
    scores: Scores
    config: KdConfig
    saved: SavedNet

    def __repr__(self) -> str:
        config = self.config
        return f"Trained({config.net} by {config.method} on {config.dataset}: {self.scores.accuracy:.2f}%)"


@library_defaults()
@shows_progress
def train(
    config: KdConfig | None,
    *,
    data: RealData | None = None,
    teacher: Teacher | str | os.PathLike[str] | None = None,
    net: None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    options: RunOptions = RunOptions(quiet=True),  # noqa: B008  (frozen)
    progress: bool | Report = False,
) -> Trained:
    """Train a student, and before it its teacher where the method needs one.

    Args:
        config: what to train; `recipe` returns one. None with `resume` takes the run folder's own.
        data: your own real data; default: what the config names.
        teacher: a trained one, or its file or run folder; or a file of weights by name (.pt, .pth,
            .safetensors) of the net that `teacher_net` and `teacher_args` name. Default: trained here, as the
            config says.
        net: none; a module of your own is trained by `kd_baselines.fit`.
        out: a run folder to write: config, metrics (a line an epoch), checkpoints, both nets. None writes
            nothing.
        resume: go on with the run in `out` in the middle of the epoch where it stopped, to the same bytes as
            without a stop on the same machine, torch version and thread count.
        options: how to carry the run out; "iterations" between checkpoints are gradient steps here.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it goes on.

    Returns:
        The student, its teacher and its scores on the test part.

    Raises:
        UsageError, DataError, NumericalError, ResourceError, Unavailable: each says what to do.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written where there is a folder.

    Example:
        >>> tiny = KdConfig(
        ...     dataset="digits", method="soft-targets", net_args={"width": 16}, epochs=3, lr=0.01, batch=32,
        ...     teacher_args={"width": 32}, teacher_epochs=3, teacher_lr=0.01, teacher_batch=32,
        ... )
        >>> train(tiny).scores.accuracy > 60
        True
    """
    if config is not None and not isinstance(config, KdConfig):
        raise UsageError(f"config is {config!r:.60}, wanted a KdConfig; kd_baselines.recipe(NAME) returns one")
    if data is not None and not isinstance(data, RealData):
        refuse_distilled(
            data, "and no test images to score a student on; train on it with kd_baselines.fit(net, data, "
            "stages), or pass real data"
        )  # fmt: skip
        raise UsageError(
            f"data is a {type(data).__name__}, wanted a RealData with training and test images; make one with "
            "RealData.from_dataset(data), or use kd_baselines.fit(net, data, ...)"
        )
    if config is not None and data is not None:  # what came from Python is named so
        config = replace(config, dataset=CUSTOM)
    if net is not None:
        raise UsageError(
            "train builds the student that its config names and takes no module; train your own by "
            "kd_baselines.fit(net, data, stages, teacher)"
        )
    if isinstance(teacher, str | os.PathLike) and is_plain_weights(teacher):
        # weights without their net, which is the config's teacher_net; a resumed run has them in its config
        config = None if config is None else replace(config, teacher_weights=os.fspath(teacher))
        teacher = None
    given = _teacher(teacher)
    if out is None:
        if resume or config is None:
            raise UsageError("a run in memory cannot be resumed; pass out=FOLDER, and a config to start one")
        with named_failures(_needs(config)), StopFlag() as stop:
            return _train(_setup(config, data, given, options), None, options, stop)
    path = Path(out)
    folder = None
    if resume:
        folder, config = come_back(path, KIND, config, KdConfig, options)
        given = _teacher_again(folder, given)
    if config is None:
        raise UsageError("no config was given; pass a recipe's config, or resume a run folder")
    if folder is None:
        RunFolder.refuse_occupied(path)  # before the data are read, which may take minutes
    if config.dataset == "folder":
        refuse_inside(path, config.data)
    if config.dataset == CUSTOM and data is None:
        raise UsageError(
            f"{path} trains on data of your own from Python; go on from Python with train(None, "
            f"out={str(path)!r}, resume=True, data=...)"
        )
    with named_failures(_needs(config)), StopFlag() as stop:
        with interruptible(not_begun(path, folder)):
            setup = _setup(config, data, given, options)
        return in_folder(
            path, folder, KIND, config, setup.data.device, setup.fingerprints(), options, stop,
            lambda own: _train(setup, own, options, stop),
        )  # fmt: skip


def _teacher(teacher: Teacher | str | os.PathLike[str] | None) -> tuple[Teacher, SavedNet | None] | None:
    if teacher is None or isinstance(teacher, Teacher):
        return None if teacher is None else (teacher, None)
    if not isinstance(teacher, str | os.PathLike):
        raise UsageError(f"teacher is a {type(teacher).__name__}; pass kd_baselines.Teacher(net) or a file")
    saved = SavedNet.load(teacher, which="teacher")
    nets = [saved.net(n) for n in range(len(saved.states))]
    return Teacher(*nets, average=saved.average), saved


def _teacher_again(
    folder: RunFolder, given: tuple[Teacher, SavedNet | None] | None
) -> tuple[Teacher, SavedNet | None] | None:
    """The teacher of a resumed run: passed again, or None where the run trains its own."""
    if "teacher" not in folder.environment:
        if given is not None:
            raise UsageError(f"{folder.path} trains its own teacher; leave the teacher out")
        return None
    if given is None:
        raise UsageError(
            f"{folder.path} was started with a teacher that it did not train; pass it again (--teacher FILE)"
        )
    return given


def _setup(
    config: KdConfig,
    data: RealData | None,
    given: tuple[Teacher, SavedNet | None] | None,
    options: RunOptions,
) -> Setup:
    stages = stages_of(config.method, FitPlan(epochs=1), config.method_args)  # refused before the data
    for net in (config.net, config.teacher_net):
        arguments(net)
    device = resolve(config.device)
    real = data if data is not None else load_data(config, options)
    teacher, saved = given if given is not None else (None, None)
    if saved is not None and saved.normalization != real.normalization:
        raise DataError(
            f"the teacher was trained on images of another normalization or size ({saved.dataset}: "
            f"{saved.normalization}, here {real.normalization}); pass a teacher of these data"
        )
    needs = [stage.objective.needs for stage in stages]
    same = not METHODS[config.method].two_headed  # a second head is for the teacher's own classes
    if saved is not None and same and any(n.teacher_logits or n.teacher for n in needs):
        refuse_other_classes("the teacher", saved, real)
    return Setup(config, real.to(device), None if teacher is None else teacher.to(device), options)


def load_data(config: KdConfig, options: RunOptions) -> RealData:
    """The data that a config names, on the CPU; what refuses them is `datadistill.data.load`."""
    return data_module.load(
        config.dataset, folder=config.data, root=options.data_root, download=options.download, size=config.size,
        channels=config.channels, validation=config.validation, seed=config.teacher_seed,
    )  # fmt: skip


def refuse_other_classes(who: str, saved: SavedNet, real: RealData) -> None:
    """DataError where a net has as many classes as the data, but others."""
    pairs = enumerate(zip(saved.classes, real.classes, strict=False))
    other = next(((n, a, b) for n, (a, b) in pairs if a != b), None)
    if len(saved.classes) == len(real.classes) and other is not None:
        n, a, b = other
        raise DataError(
            f"{who} was trained on other classes ({saved.dataset}): class {n} is {a!r}, and {b!r} here "
            f"({real.name}); pass a net of these classes"
        )


def _train(setup: Setup, folder: RunFolder | None, options: RunOptions, stop: StopFlag) -> Trained:
    """Train what is not yet trained, measure the student, and write it."""
    config, data, path = setup.config, setup.data, None if folder is None else folder.path
    with interruptible(f"stopped before the first step; go on with: kd-baselines train --resume {path}"):
        loop = setup.loop()
    run = _run(loop, setup, folder)
    carry_out(loop, run, folder, options, stop)
    teacher = setup.teacher
    if teacher is not None:
        teacher.check()
    student = setup.student.eval()
    with interruptible(run.all_done):
        scores = score(student, data, noise=config.noise, missing=config.without, seed=config.seed)
    saved = setup.saved([student], setup.student_spec, scores.as_dict(), setup.source_classes)
    if folder is not None:
        saved.save(folder.path / STUDENT)
    return Trained(student, teacher, scores, config, saved)


def _run(loop: StagedLoop, setup: Setup, folder: RunFolder | None) -> Run:
    """What is told of the run, and the teacher's file, written once its nets are trained."""
    path = "" if folder is None else str(folder.path)
    again = f"kd-baselines train --resume {path}"
    if setup.config.dataset == CUSTOM:
        again = f"train(None, out={path!r}, resume=True, data=...)"

    def now() -> tuple[str, int]:
        job = loop.jobs[loop.job]
        return job.name, job.plan.epochs

    def after(name: str) -> None:
        over = loop.job >= len(loop.jobs) - len(setup.stages) and name.startswith("teacher")
        if (loop.done or over) and setup.teacher_nets and not (Path(path) / TEACHER).exists():
            setup.saved(setup.teacher_nets, setup.teacher_spec).save(Path(path) / TEACHER)

    return Run(KIND, setup.config, again, now, after)


def _needs(config: KdConfig) -> str:
    """What takes the memory, and what takes less."""
    return (
        f"steps on {config.batch} images with {config.net} and {config.teacher_net}; try a smaller --batch or "
        "--cache False"
    )
