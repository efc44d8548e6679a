"""The teacher that a student's config describes: one run a net, or weights that are trained
already.

    OUT/teacher/             the run of the teacher's net; teacher-1, teacher-2, ... of an ensemble
    OUT/teacher.safetensors  the nets together, which the student learns from

A teacher's run is a run like any other: `teacher_config` says how it is trained, so students whose
configs describe the same teacher can share one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from datadistill.config import RunOptions
from datadistill.config.plans import DataPlan, FolderPlan, NormalizationPlan, RunConfig
from datadistill.config.schedule_plan import SchedulePlan
from datadistill.data import RealData
from datadistill.errors import DataError
from datadistill.streams import generator
from kd_baselines.config import KdConfig
from kd_baselines.netfile import SavedNet
from kd_baselines.source_data import load_source
from kd_baselines.student_setup import build_initial, draw_net, load_weights, save_net, spec_for
from kd_baselines.teachers import Teacher

__all__ = [
    "build_untrained",
    "is_same_teacher",
    "load_pretrained",
    "teacher_config",
    "teacher_fields",
    "train_nets",
]


def teacher_fields(config: KdConfig) -> dict[str, Any]:
    """The teacher's architecture and schedule as the fields of a net that learns from labels
    alone."""
    net = {"net": config.teacher_net, "net_args": config.teacher_args, "init": config.teacher_init}
    return {"method": "plain", **net, **asdict(SchedulePlan.of(config, "teacher_"))}


def teacher_config(config: KdConfig, number: int = 0) -> KdConfig:
    """The run of net `number` of the teacher of a student's config: on the real training images of
    the student's data or of the `source`, all, those of its `source_part`, or `teacher_images` of
    each class, and their labels.

    Example:
        >>> teacher = teacher_config(
        ...     KdConfig(method="logits", teacher_net="lenet", teacher_epochs=3, seed=5)
        ... )
        >>> teacher.method, teacher.net, teacher.epochs, teacher.seed
        ('plain', 'lenet', 3, 0)
    """
    run = RunConfig(config.recipe, config.teacher_seed, config.device)
    data = asdict(FolderPlan.of(config))
    if config.source is not None:
        data = asdict(replace(DataPlan.of(config), dataset=config.source))
        if config.source_part != (0, 1):
            data |= {"source_part": config.source_part, "target": config.dataset}
    return KdConfig(
        **asdict(run),
        **data,
        **asdict(NormalizationPlan.of(config)),
        **teacher_fields(config),
        per_class=config.teacher_images,
        noise=config.noise,
        arm=net_names("teacher", config)[number],
        teacher_seed=run.seed,
        teacher_number=number,
    )


def net_names(name: str, config: KdConfig) -> list[str]:
    """The names of a teacher's nets: its own name, or with numbers from 1 those of an ensemble."""
    return [name] if config.teachers == 1 else [f"{name}-{n + 1}" for n in range(config.teachers)]


def is_same_teacher(a: KdConfig, b: KdConfig) -> bool:
    """Whether two configs describe the same teacher."""
    return _key(a) == _key(b)


def _key(config: KdConfig) -> tuple[Any, ...]:
    return teacher_config(config), config.teachers, config.average, config.teacher_weights


def build_untrained(config: KdConfig, data: RealData, options: RunOptions) -> Teacher:
    """The teacher before its runs, or with the weights that the config names, to check what fits
    before anything is trained."""
    if config.teacher_weights is not None:
        return load_pretrained(config, data, options)[0].to_teacher().to(data.device)
    source = load_source(config, data, options)
    numbers = range(config.teachers)
    nets = [build_initial(teacher_config(config, n), source, options).net for n in numbers]
    return Teacher(*nets, average=config.average)


def load_pretrained(config: KdConfig, data: RealData, options: RunOptions) -> tuple[SavedNet, str]:
    """The teacher whose weights a config names, and the fingerprint of their file."""
    assert config.teacher_weights is not None
    own = teacher_config(config)
    spec = spec_for(data, own.net, own.net_args, own.init, own_classes=True)
    net = draw_net(spec, generator(config.teacher_seed, "kd_teacher", 0))
    try:
        found = load_weights(net, config.teacher_weights, spec, options, fresh_last=False)
    except DataError as error:
        raise DataError(
            f"the teacher's weights were read as those of {config.teacher_net}: {error}; of "
            "another net, name it and its arguments (--teacher-net, --teacher-args), or from "
            "Python load them into your module and pass teacher=kd_baselines.Teacher(module)"
        ) from None
    return save_net(config, data, net, spec), found


def train_nets(name: str, config: KdConfig, train: Callable[[str, KdConfig], SavedNet]) -> SavedNet:
    """The trained teacher of a student's config: the nets that `train` makes of the name and the
    config of each run, together."""
    names = enumerate(net_names(name, config))
    nets = [train(net, teacher_config(config, number)) for number, net in names]
    if len(nets) == 1:
        return nets[0]
    states = tuple(state for saved in nets for state in saved.states)
    return replace(nets[0], states=states, average=config.average, scores=None)
