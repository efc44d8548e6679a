"""Training of an image classifier, in one call; `image_training.py` has the kind of run."""

from __future__ import annotations

import os
from collections.abc import Sequence

from torch import nn

from datadistill.config import RunOptions
from datadistill.data import RealData
from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError
from datadistill.nets.factory import NetFactory
from datadistill.progress import Report, show_progress
from datadistill.runs.driver import run
from datadistill.torch_defaults import use_library_defaults
from kd_baselines.config import KdConfig
from kd_baselines.given_student import GivenStudent
from kd_baselines.image_training import ImageTraining, Trained
from kd_baselines.losses.term import Objective, Term
from kd_baselines.stages import Stage
from kd_baselines.student_setup import wants_teacher
from kd_baselines.teachers import Teacher

__all__ = ["train"]


@use_library_defaults()
@show_progress
def train(
    config: KdConfig | None = None,
    *,
    data: RealData | None = None,
    teacher: Teacher | str | os.PathLike[str] | None = None,
    net: nn.Module | NetFactory | None = None,
    objective: Objective | Term | None = None,
    stages: Stage | Sequence[Stage] | None = None,
    data_from: DistilledDataset | str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    options: RunOptions = RunOptions(quiet=True),  # noqa: B008  (frozen)
    progress: bool | Report = False,
) -> Trained:
    """Train a student, and before it its teacher where the method needs one.

    Args:
        config: what to train; `recipe` returns one. None with `resume` takes the run folder's own,
            and with `net` and `data` the defaults of `KdConfig`.
        data: your own real data; default: what the config names.
        teacher: a trained one, or its file or run folder; or a file of weights by name (.pt, .pth,
            .safetensors) of the net that `teacher_net` and `teacher_args` name. Default: trained
            here, as the config says.
        net: your own student in place of the config's, images (B,C,H,W) to logits (B,K): a module,
            of which a copy is trained from the values it has, or a function without arguments that
            builds one (`lambda: MyNet()`), called with the global generators of torch, numpy and
            random seeded. Layers in evaluation mode inside a module in training mode stay frozen.
        objective: terms in place of the config's method, such as `CE() + KD(T=4)`, minimized by the
            config's plan.
        stages: in place of the config's method and plan: each has an objective and a plan. Pass
            net, objective and stages again to resume.
        data_from: a distilled set, or its file or run folder, whose images the student sees in
            place of the real training images; or such as "random:10" (see `KdConfig.data_from`).
            The teacher and the tests have the real images.
        out: a run folder to write: config, metrics (a line an epoch), checkpoints, both nets, and
            in `teacher/` (`teacher-1/`, ...) the runs of the teacher. None writes nothing.
        resume: continue the run in `out` in the middle of the epoch where it stopped, to the same
            bytes as without a stop on the same machine, torch version and thread count.
        options: how to carry the run out; "iterations" between checkpoints are gradient steps here.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it
            goes on.

    Raises:
        UsageError, DataError, NumericalError, ResourceError, Unavailable: each says what to do.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written where there is a folder.

    Example:
        >>> tiny = KdConfig(
        ...     dataset="digits",
        ...     method="soft-targets",
        ...     net_args={"width": 16},
        ...     epochs=3,
        ...     lr=0.01,
        ...     batch=32,
        ...     teacher_args={"width": 32},
        ...     teacher_epochs=3,
        ...     teacher_lr=0.01,
        ...     teacher_batch=32,
        ... )
        >>> train(tiny).scores.accuracy > 60
        True
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> train(tiny.with_changes(method="plain"), net=net).scores.accuracy > 60
        True
    """
    given = GivenStudent.of(net, objective, stages, data_from)
    if config is None and net is not None and not resume:
        config = _default_config(data, teacher, given)
    return run(ImageTraining(data, teacher, given), config, out, resume=resume, options=options)


def _default_config(data: RealData | None, teacher: object, given: GivenStudent) -> KdConfig:
    """The config of a net of the user's own where none is passed."""
    config = KdConfig()
    if data is None:
        raise UsageError(
            "a net is given, but neither data nor a config that names a data set; pass data=, or "
            "such as KdConfig(dataset='cifar10')"
        )
    if teacher is None and wants_teacher(config, given):
        raise UsageError(
            "a term needs a teacher, and there is neither one nor a config that says how to train "
            "it; pass teacher=Teacher(net)"
        )
    return config
