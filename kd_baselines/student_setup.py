"""The net and the stages of a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from datadistill.config import RunOptions
from datadistill.data import RealData
from datadistill.data.augmentation import check_augmentations
from datadistill.errors import DataError, UsageError
from datadistill.nets import draw, has_batchnorm, reestimate
from datadistill.nets.spec import CUSTOM, NetSpec
from datadistill.nets.weights import Weights, read_weights
from datadistill.streams import generator
from datadistill.training.fit_loop import Fit
from datadistill.training.fit_plan import FitPlan
from kd_baselines.batch_dependence import DependsOnBatch
from kd_baselines.config import FROM_TEACHER, KdConfig
from kd_baselines.distiller import Distiller
from kd_baselines.given_student import NOTHING, GivenStudent
from kd_baselines.heads import two_headed
from kd_baselines.image_source import ImageSource, find_source, refuse_own_steps, start_at
from kd_baselines.losses.term import Needs, Objective, Term
from kd_baselines.methods import METHODS, stages_of
from kd_baselines.netfile import SavedNet
from kd_baselines.saved_model import copy_state, to_record
from kd_baselines.sharing import parse_pairs, share_layers
from kd_baselines.source_data import load_target
from kd_baselines.stage_loop import StagedLoop, stage_fit
from kd_baselines.stages import Stage, groups_of
from kd_baselines.student_images import student_split
from kd_baselines.teacher_cache import CachedTeacher
from kd_baselines.teachers import Teacher

__all__ = [
    "Setup",
    "build_initial",
    "draw_net",
    "has_two_heads",
    "make_stages",
    "save_net",
    "spec_for",
    "wants_teacher",
]

TESTS = 20
"""Tests on the validation images in a training on a distilled set or a coreset."""
CACHE_BYTES = 2 << 30
"""Features of a teacher are kept where they take at most this much memory."""


def spec_for(
    data: RealData, name: str, args: Mapping[str, Any], init: str, *, own_classes: bool = False
) -> NetSpec:
    """The spec of a net for these images and classes; with `own_classes` for those that its
    arguments state, if they do."""
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


class Initial(NamedTuple):
    """A net before it is trained, in training mode; how it is built; and the fingerprint of what it
    starts from by its name: "weights", or "given" or "factory" of a net of the user's own."""

    net: nn.Module
    spec: NetSpec
    origin: Mapping[str, str]


def build_initial(
    config: KdConfig, data: RealData, options: RunOptions, given: GivenStudent = NOTHING
) -> Initial:
    """The net that a config trains, on the device of the data: a draw, a file of weights with a
    fresh last layer, or the given one."""
    if given.net is not None:
        return Initial(*given.build(config.seed, data))
    number = config.teacher_number
    spec = spec_for(data, config.net, config.net_args, config.init, own_classes=number is not None)
    name = ("kd_student", 0) if number is None else ("kd_teacher", number)
    net, origin = draw_net(spec, generator(config.seed, *name)), {}
    if config.weights not in (None, FROM_TEACHER):
        origin["weights"] = load_weights(net, config.weights, spec, options, fresh_last=True)
    return Initial(net.to(data.device), spec, origin)


class Setup:
    """The student of one run and its stages. `teacher` is trained, or untrained to check what fits;
    None where the method needs none. `data` are on the device of the run; `given` has what stands
    in place of the config's net and method, `source` of its images where they have been found."""

    def __init__(
        self,
        config: KdConfig,
        data: RealData,
        teacher: Teacher | None,
        options: RunOptions,
        given: GivenStudent = NOTHING,
        source: ImageSource | None = None,
    ) -> None:
        self.config, self.data = config, data
        self.source = source or find_source(config, data, given.distilled)
        self.own = None if self.source is None else self.source.own
        plan = FitPlan.of(config)
        if self.own is not None:
            plan = FitPlan(epochs=self.own.schedule.epochs)
        self.stages = make_stages(config, given, plan)
        self.teacher = teacher if wants_teacher(config, given) else None
        target = load_target(config, options)
        self.split = (
            student_split(config, data, target) if self.source is None else self.source.split
        )
        self.student, self.spec, self.origin = build_initial(config, data, options, given)
        if target is not None:
            self.origin = {**self.origin, "target": target.fingerprint}
        if config.weights == FROM_TEACHER and self.teacher is not None:
            start_from(self.student, self.teacher)
        if self.own is not None:
            _refuse_stages(self.stages)
            refuse_own_steps(self.own, self.student)
            start_at(self.own, self.student)
        self.source_classes = None
        if has_two_heads(config) and self.teacher is not None:
            self.source_classes = int(self.teacher(data.train.images[:2]).shape[1])
            second = generator(config.seed, "kd_second_head")
            self.student = two_headed(self.student.cpu(), self.source_classes, second).to(
                data.device
            )
        shared = parse_pairs(config.shared, "trunk." if self.source_classes is not None else "")
        if shared:
            share_layers(self.student, self.teacher, shared)
        self._refuse_what_does_not_fit()

    def _refuse_what_does_not_fit(self) -> None:
        if self.config.without and not len(self.data.validation):
            raise DataError(
                "the shift of the classes left out is chosen on validation images, and there are "
                "none; hold some out (--validation 500)"
            )
        check_augmentations(self.config.augment, self.data.shape, self.data.name)
        for n, stage in enumerate(self.stages):
            trial = Distiller(
                self.student,
                stage.objective,
                self.teacher,
                sample=self.split,
                seed=self.config.seed,
                number=n,
            )
            groups_of(stage, self.student, trial.objective)

    def loop(self) -> StagedLoop:
        # the nets of a teacher share a seed, and not their batches
        first = self.config.teacher_number or 0

        def start(number: int, parts: dict[str, Any]) -> Fit:
            stage = self.stages[number]
            teacher = self._cache_teacher(stage) if _get_needs(stage).is_teacher_needed else None
            seed, net = self.config.seed, first + number
            return stage_fit(self.student, stage, teacher, self.split, seed, net, parts, self.own)

        loop = partial(StagedLoop, self.student, self.stages, start, self.split)
        if self.source is None:
            return loop(self.data.validation)
        # epochs of a few images take less than a test
        every = max(1, max(stage.plan.epochs for stage in self.stages) // TESTS)
        steps = None if self.own is None else self.own.schedule.steps
        return loop(self.data.validation, test_every=every, steps=steps)

    def reestimate(self) -> None:
        """Estimate the statistics of BatchNorm on the images of a set in whose own steps the
        student was trained."""
        if self.own is not None and has_batchnorm(self.student):
            reestimate(self.student, [self.split.images[i] for i in self.own.schedule.batches])

    def to_saved(self, scores: dict[str, Any] | None) -> SavedNet:
        saved = save_net(
            self.config, self.data, self.student, self.spec, scores, self.source_classes
        )
        if self.source is None:
            return saved
        return replace(saved, record={**(saved.record or {}), **self.source.record()})

    def _cache_teacher(self, stage: Stage) -> Teacher | CachedTeacher | None:
        """The teacher's outputs kept, where that gives the same and fits into memory."""
        needs, teacher = _get_needs(stage), self.teacher
        again = needs.teacher_input_gradients or needs.teacher or stage.plan.augment or self.own
        if teacher is None or again or not self.config.cache or stage.plan.epochs < 2:
            return teacher
        layers = sorted(needs.teacher_features, key=str)
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


def has_two_heads(config: KdConfig) -> bool:
    """Whether the method gives the student a second head."""
    return config.method != CUSTOM and METHODS[config.method].two_headed


def _refuse_stages(stages: Sequence[Stage]) -> None:
    if len(stages) > 1 or any(s.train or s.until or s.multipliers for s in stages):
        names = ", ".join(stage.name for stage in stages)
        raise UsageError(
            f"the stages are {names}, and the own steps of a set are one training of the whole "
            "net; take the plain schedule (--data-schedule plain)"
        )


def make_stages(
    config: KdConfig, given: GivenStudent = NOTHING, plan: FitPlan | None = None
) -> tuple[Stage, ...]:
    """The stages of the method, or the given ones; that of a teacher's net has the name of its arm.
    `plan` stands in place of the config's."""
    plan = FitPlan.of(config) if plan is None else plan
    if found := given.to_stages(plan):
        return found
    stages = stages_of(config.method, plan, config.method_args)
    return stages if config.teacher_number is None else (replace(stages[0], name=config.arm),)


def wants_teacher(config: KdConfig, given: GivenStudent = NOTHING) -> bool:
    """Whether any term of the method, with its arguments, needs a teacher, or the student starts
    from its tensors."""
    return config.weights == FROM_TEACHER or any(
        _get_needs(stage).is_teacher_needed for stage in make_stages(config, given)
    )


def save_net(
    config: KdConfig,
    data: RealData,
    net: nn.Module,
    spec: NetSpec,
    scores: dict[str, Any] | None = None,
    source_classes: int | None = None,
) -> SavedNet:
    """A trained net for its file."""
    classes = data.classes if spec.args["classes"] == len(data.classes) else ()
    return SavedNet(
        (copy_state(net),),
        spec,
        data.name,
        classes,
        data.normalization,
        source_classes,
        config.average,
        scores,
        to_record(config),
    )


def start_from(student: nn.Module, teacher: Teacher) -> None:
    """Write the teacher's tensors into a student of the same kind, all but the last layer's."""
    if len(teacher.nets) > 1:
        raise UsageError(
            f"weights is {FROM_TEACHER}, but the teacher is an ensemble of {len(teacher.nets)} "
            "nets; take one (--teachers 1)"
        )
    theta, buffers, _ = Weights("the teacher", teacher.nets[0].state_dict(), "").fit(student)
    student.load_state_dict({**theta, **buffers}, strict=False)


def load_weights(
    net: nn.Module, source: str, spec: NetSpec, options: RunOptions, fresh_last: bool
) -> str:
    """Put the weights of a file into a net; returns their fingerprint."""
    weights = read_weights(source, net, model=spec.args.get("model"), download=options.download)
    theta, buffers, _ = weights.fit(net, fresh_last=fresh_last)
    net.load_state_dict({**theta, **buffers}, strict=False)
    return weights.fingerprint
