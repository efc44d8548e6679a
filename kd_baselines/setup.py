"""From a config to what is trained: the nets, the jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datadistill.config import RunOptions
from datadistill.data import RealData
from datadistill.errors import DataError
from datadistill.nets import draw
from datadistill.nets.spec import NetSpec
from datadistill.nets.weights import read_weights
from datadistill.runs.jsonconfig import dump_config
from datadistill.runs.resume import fingerprints
from datadistill.streams import generator
from datadistill.training.fit_loop import Fit
from datadistill.training.fit_plan import FitPlan
from kd_baselines.batch_dependence import DependsOnBatch
from kd_baselines.config import KdConfig
from kd_baselines.distiller import Distiller
from kd_baselines.heads import two_headed
from kd_baselines.losses.cross_entropy import CE
from kd_baselines.losses.term import Needs, Objective, Term
from kd_baselines.methods import METHODS, stages_of
from kd_baselines.netfile import SavedNet
from kd_baselines.sharing import parse_pairs, share_layers
from kd_baselines.staged import Job, StagedLoop, stage_fit
from kd_baselines.stages import Stage, groups_of
from kd_baselines.student_images import student_split
from kd_baselines.teacher_cache import CachedTeacher
from kd_baselines.teachers import Teacher

__all__ = ["Setup", "draw_net", "spec_for"]

CACHE_BYTES = 2 << 30
"""Features of a teacher are kept where they take at most this much memory."""


def spec_for(
    data: RealData, name: str, args: Mapping[str, Any], init: str, *, own_classes: bool = False
) -> NetSpec:
    """A net for these images and classes; with `own_classes` for those that its arguments say, if they do.

    Raises:
        DataError: images that are not square.
        UsageError: arguments that contradict the images.
    """
    classes = len(data.classes)
    if own_classes and isinstance(args.get("classes"), int):
        classes = args["classes"]
    return NetSpec.of_images(name, args, init, shape=data.shape, classes=classes)


def draw_net(spec: NetSpec, stream: torch.Generator) -> nn.Module:
    """The net with its first weights from a stream, in training mode."""
    net = spec.build()
    theta = draw(net, spec.init, stream)
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(theta[name])
    return net.train()


class Setup:
    """Nets and jobs of one run.

    Args:
        config: what to train.
        data: on the device of the run.
        teacher: nets of a trained teacher; None trains what the config says, where the method needs one.
        options: where weights may be fetched.
    """

    def __init__(self, config: KdConfig, data: RealData, teacher: Teacher | None, options: RunOptions) -> None:
        self.config, self.data, self.options = config, data, options
        self.plan, self.teacher_plan = _plan(config), _teacher_plan(config)
        self.stages = stages_of(config.method, self.plan, config.method_args)
        self.method = METHODS[config.method]
        self.split = student_split(config, data)
        self.student_spec = spec_for(data, config.net, config.net_args, config.init)
        self.teacher_spec = spec_for(  # terms of logits refuse other classes than the student's
            data, config.teacher_net, config.teacher_args, config.teacher_init, own_classes=True
        )
        self.wants_teacher = any(_get_needs(stage).any_teacher for stage in self.stages)
        self.given = teacher
        self.weights: dict[str, str] = {}  # fingerprints of the files that nets start from
        self.teacher_nets: list[nn.Module] = []
        if self.wants_teacher and teacher is None:
            self.teacher_nets = [self._teacher_net(n) for n in range(config.teachers)]
        self._teacher: Teacher | None = teacher
        untrained = Teacher(*self.teacher_nets, average=config.average) if self.teacher_nets else teacher
        self.student, self.source_classes = self._student(untrained)
        self.shared = parse_pairs(config.shared, "trunk." if self.source_classes is not None else "")
        if self.shared:  # refuses what does not fit, and freezes; the trained values come in `_stage`
            share_layers(self.student, untrained if self.wants_teacher else None, self.shared)
        self._refuse_what_does_not_fit(untrained)

    def _teacher_net(self, number: int) -> nn.Module:
        net = draw_net(self.teacher_spec, generator(self.config.teacher_seed, "kd_teacher", number))
        if self.config.teacher_weights is not None:
            found = self._take_over(net, self.config.teacher_weights, self.teacher_spec, fresh_last=False)
            self.weights["teacher_weights"] = found
        return net.to(self.data.device)

    def _student(self, teacher: Teacher | None) -> tuple[nn.Module, int | None]:
        net = draw_net(self.student_spec, generator(self.config.seed, "kd_student", 0))
        if self.config.weights is not None:
            found = self._take_over(net, self.config.weights, self.student_spec, fresh_last=True)
            self.weights["weights"] = found
        classes = None
        if self.method.two_headed and self.wants_teacher:
            assert teacher is not None
            classes = int(teacher(self.data.train.images[:2]).shape[1])
            net = two_headed(net, classes, generator(self.config.seed, "kd_second_head"))
        return net.to(self.data.device), classes

    def _take_over(self, net: nn.Module, source: str, spec: NetSpec, fresh_last: bool) -> str:
        model = spec.args.get("model")
        weights = read_weights(source, net, model=model, download=self.options.download)
        theta, buffers, _ = weights.fit(net, fresh_last=fresh_last)
        net.load_state_dict({**theta, **buffers}, strict=False)
        return weights.fingerprint

    def _refuse_what_does_not_fit(self, teacher: Teacher | None) -> None:
        """Before a teacher is trained: layers, sizes, classes, and images to choose a shift on."""
        if self.config.without and not len(self.data.validation):
            raise DataError(
                "the shift of the classes left out is chosen on validation images, and there are none; hold "
                "some out (--validation 500)"
            )
        for n, stage in enumerate(self.stages):
            trial = Distiller(
                self.student, stage.objective, teacher, sample=self.split, seed=self.config.seed, number=n
            )
            groups_of(stage, self.student, trial.objective)

    @property
    def teacher(self) -> Teacher | None:
        """The teacher, once its nets are trained."""
        if self._teacher is None and self.teacher_nets:
            self._teacher = Teacher(*self.teacher_nets, average=self.config.average)
        return self._teacher

    def fingerprints(self) -> dict[str, str]:
        """What a resumed run must find again: the data, the student's tensors, the teacher it was given, files
        of weights."""
        origin = {} if self.given is None else {"teacher": self.given.hash}
        return fingerprints(self.data, self.student, {**self.weights, **origin})

    def loop(self) -> StagedLoop:
        """Teacher nets that must be trained, then the student's stages."""
        config, jobs = self.config, []
        if config.teacher_weights is None:
            plan = self.teacher_plan
            labels = Stage("teacher", CE(), plan)
            for n, net in enumerate(self.teacher_nets):
                make: Callable[[dict[str, Any]], Fit] = partial(
                    stage_fit, net, labels, None, self.data.train, config.teacher_seed, n
                )
                name = "teacher" if len(self.teacher_nets) == 1 else f"teacher {n + 1}"
                jobs.append(Job(name, net, plan, make, self.data.train))
        for n, stage in enumerate(self.stages):
            jobs.append(Job(stage.name, self.student, stage.plan, partial(self._stage, stage, n), self.split))
        return StagedLoop(jobs, self.data.validation)

    def to_saved(
        self, nets: Sequence[nn.Module], spec: NetSpec, scores: dict[str, Any] | None = None,
        source_classes: int | None = None,
    ) -> SavedNet:  # fmt: skip
        """Trained nets as a file holds them."""
        record = {
            name: value for name, value in dump_config(self.config).items() if name not in ("device", "data")
        }
        for name in ("weights", "teacher_weights"):  # a file tells no path
            record[name] = record[name] and Path(record[name]).name
        states = tuple({k: v.detach().cpu().clone() for k, v in net.state_dict().items()} for net in nets)
        classes = self.data.classes if spec.args["classes"] == len(self.data.classes) else ()
        return SavedNet(
            states, spec, self.data.name, classes, self.data.normalization, source_classes,
            self.config.average, scores, record,
        )  # fmt: skip

    def _stage(self, stage: Stage, number: int, parts: dict[str, Any]) -> Fit:
        if number == 0 and self.shared:  # the teacher is trained by now
            share_layers(self.student, self.teacher, self.shared)
        teacher = self._cache_teacher(stage) if _get_needs(stage).any_teacher else None
        return stage_fit(self.student, stage, teacher, self.split, self.config.seed, number, parts)

    def _cache_teacher(self, stage: Stage) -> Teacher | CachedTeacher | None:
        """The teacher's outputs kept, where that gives the same and fits into memory."""
        needs, teacher = _get_needs(stage), self.teacher
        again = needs.teacher_input_gradients or needs.teacher or stage.plan.augment
        if teacher is None or again or not self.config.cache or stage.plan.epochs < 2:
            return teacher
        layers = sorted(needs.teacher_features)
        if layers:
            found = teacher.outputs(self.split.images[:1], layers).features.values()
            if sum(f.numel() * f.element_size() for f in found) * len(self.split) > CACHE_BYTES:
                return teacher
        try:
            return CachedTeacher(teacher, self.split, layers=layers)
        except DependsOnBatch:  # asked anew for each batch
            return teacher


def _get_needs(stage: Stage) -> Needs:
    objective: Objective | Term = stage.objective
    return objective.needs


def _plan(config: KdConfig) -> FitPlan:
    return FitPlan(
        epochs=config.epochs, batch=config.batch, optimizer=config.optimizer, lr=config.lr,
        momentum=config.momentum, weight_decay=config.weight_decay, decay_epochs=config.decay_epochs,
        decay_factor=config.decay_factor, augment=config.augment,
    )  # fmt: skip


def _teacher_plan(config: KdConfig) -> FitPlan:
    return FitPlan(
        epochs=config.teacher_epochs, batch=config.teacher_batch, optimizer=config.teacher_optimizer,
        lr=config.teacher_lr, momentum=config.momentum, weight_decay=config.teacher_weight_decay,
        decay_epochs=config.teacher_decay_epochs, decay_factor=config.decay_factor,
        augment=config.teacher_augment,
    )  # fmt: skip
