"""The nets of one run, trained one after the other on the plain loop: first the teacher's, then the student's
stages.

With seed s the student's stage number n sees its batches by the streams of `datadistill.training.fit_loop` with
number n; net k of the teacher by those of the teacher's own seed with number k.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from datadistill.data import Split
from datadistill.errors import NumericalError
from datadistill.evaluation.accuracy import accuracy
from datadistill.nets.copying import bare_net, copy_net, keep_hooks
from datadistill.progress import Report, show_progress, track
from datadistill.runs.signals import interruptible
from datadistill.torch_defaults import use_library_defaults
from datadistill.training.fit_loop import Batch, Fit, lay_out, train_mode
from datadistill.training.fit_plan import FitPlan
from kd_baselines.distiller import Distiller, TeacherLike
from kd_baselines.losses.term import Objective
from kd_baselines.splits import as_split
from kd_baselines.stages import Stage, groups_of
from kd_baselines.teacher_cache import CachedTeacher

__all__ = ["Job", "StagedLoop", "fit", "stage_fit"]

Parts = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Job:
    """One fit of the run.

    Args:
        name: told in progress and metrics: "teacher", "hints", "student".
        net: the net that it trains, whose accuracy is told after each epoch.
        plan: its length, known before it is made.
        make: the fit from the net as it then is; its loss writes the parts of each batch into `parts`.
        split: what it trains on.
    """

    name: str
    net: nn.Module
    plan: FitPlan
    make: Callable[[Parts], Fit]
    split: Split

    @property
    def steps(self) -> int:
        return self.plan.epochs * -(-len(self.split) // self.plan.batch)


def stage_fit(
    student: nn.Module, stage: Stage, teacher: TeacherLike | None, split: Split, seed: int, number: int,
    parts: Parts,
) -> Fit:  # fmt: skip
    """The fit of one stage.

    Args:
        parts: written at each step: the loss and each term's value, ().
    """
    distiller = Distiller(student, stage.objective, teacher, sample=split, seed=seed, number=number)
    objective: Objective = distiller.objective
    train_mode(student)
    lay_out(student, split.images.device)
    tensors = {**dict(student.named_parameters()), **dict(student.named_buffers())}
    extra = {**dict(objective.named_parameters()), **dict(objective.named_buffers())}
    tensors |= {f"objective.{name}": value for name, value in extra.items()}

    def loss(batch: Batch) -> Tensor:
        view = own.epoch if stage.plan.augment else None
        parts.update(distiller.step(batch, step=own.step, epoch=own.epoch, view=view))
        return parts["loss"]

    if isinstance(teacher, CachedTeacher) and (
        distiller.needs.teacher_logits or distiller.needs.teacher_features
    ):
        with interruptible():  # here and not in the first step, in which nothing may be broken off
            teacher.complete()
    groups = groups_of(stage, student, objective)
    own = Fit(tensors, loss, split, stage.plan, groups=groups, seed=seed, nets=number)
    return own


class StagedLoop:
    """Job after job: `while not loop.is_done: loop.advance()`.

    Args:
        jobs: at least one.
        validation: the split on which accuracy is told.
    """

    def __init__(self, jobs: Sequence[Job], validation: Split) -> None:
        self.jobs, self.validation = list(jobs), validation
        self._start(0)

    def _start(self, job: int) -> None:
        """Stand at the beginning of a job, from 0; of the end, after the last. A failure changes nothing."""
        parts: Parts = {}
        if job < len(self.jobs):
            self.fit = self.jobs[job].make(parts)
        self.job, self.parts = job, parts
        self.sums: dict[str, float] = {}
        self.due = False  # whether the test after an epoch is still to come

    @property
    def is_done(self) -> bool:
        """Whether all jobs are over."""
        return self.job >= len(self.jobs)

    @property
    def step(self) -> int:
        """Gradient steps done, those of all jobs counted."""
        before = sum(job.steps for job in self.jobs[: self.job])
        return before + (0 if self.is_done else self.fit.step)

    @property
    def steps(self) -> int:
        """Gradient steps of all jobs."""
        return sum(job.steps for job in self.jobs)

    def advance(self) -> dict[str, Any] | None:
        """One gradient step. Returns a line about the epoch where it was its last: mean loss and parts, and
        the accuracy on the validation split in percent.

        Raises:
            NumericalError: a loss that is not finite, with the stage's name.
            Interrupted: a signal came while the net was tested, or the next job's teacher asked; the next call
                tests it again.
        """
        job = self.jobs[self.job]
        if not self.due:
            try:
                self.fit.advance()
            except NumericalError as error:
                raise NumericalError(f"{job.name}: {error}") from None
            for name, value in self.parts.items():
                self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
            self.due = self.fit.step % self.fit.steps_per_epoch == 0
        if not self.due:
            return None
        means = {name: total / self.fit.steps_per_epoch for name, total in self.sums.items()}
        line: dict[str, Any] = {
            "stage": job.name, "epoch": self.fit.step // self.fit.steps_per_epoch, **means
        }  # fmt: skip
        with interruptible():
            if len(self.validation):
                line["accuracy"] = accuracy(job.net, {}, self.validation)
        if self.fit.is_done:
            _reset_net(job.net)
            self._start(self.job + 1)
        self.sums, self.due = {}, False
        return line

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs: the nets of finished jobs, and the fit of the present one."""
        present = None if self.is_done else self.jobs[self.job].net  # its tensors are in the fit
        finished: list[dict[str, Tensor]] = [
            {} if job.net is present else {k: v.detach() for k, v in job.net.state_dict().items()}
            for job in self.jobs[: self.job]
        ]
        return {
            "job": self.job,
            "finished": finished,
            "fit": self.fit.state(),
            "sums": self.sums,
            "due": self.due,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        for job, tensors in zip(self.jobs, state["finished"], strict=False):
            if tensors:
                job.net.load_state_dict(dict(tensors))
            _reset_net(job.net)
        self._start(state["job"])
        if not self.is_done:
            self.fit.load(state["fit"])
        self.sums, self.due = dict(state["sums"]), state.get("due", False)


def _reset_net(net: nn.Module) -> None:
    """Leave a net as one finds a net: in evaluation mode, in the usual memory layout, without gradients."""
    net.eval()
    lay_out(net, None)
    for p in net.parameters():
        p.grad = None


@use_library_defaults()
@show_progress
def fit(
    student: nn.Module,
    split: Any,
    stages: Stage | Sequence[Stage],
    teacher: TeacherLike | None = None,
    *,
    seed: int = 0,
    on_step: Callable[[str, int, dict[str, Tensor]], None] | None = None,
    progress: bool | Report = False,
) -> nn.Module:
    """Train a copy of a net by stages: your own net, your own teacher, nothing written.

    Args:
        student: images (B,C,H,W) to logits (B,K); never changed. Of a compiled or replicated net the module
            inside is trained. Layers in evaluation mode inside a net in training mode stay frozen.
        split: images and labels, on the net's device: a `Split`, a `DistilledDataset` (its images in batches of
            the plan, not by its own steps), a pair of tensors, a torch data set, a list of pairs or a
            DataLoader; see `kd_baselines.splits.as_split`.
        stages: one after the other.
        teacher: a `Teacher` or a `CachedTeacher` of the split; None where no term needs one.
        seed: of order, augmentation, dropout, noise and what terms own.
        on_step: called after every step with the stage's name, its steps done and the loss's parts, () each.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it goes on.

    Returns:
        The trained copy, its layers in the modes of `student`.

    Raises:
        UsageError: what does not fit; said before the first step of the stage.
        DataError: the split is empty.
        NumericalError: the loss is not finite.

    Example:
        >>> from datadistill.data import load
        >>> from kd_baselines import CE, KD, Teacher
        >>> def net(width):
        ...     return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
        >>> digits, plan = load("digits"), FitPlan(epochs=5, lr=0.01)
        >>> teacher = Teacher(fit(net(64), digits.train, Stage("teacher", CE(), plan)))
        >>> student = fit(net(16), digits.train, Stage("student", CE() + KD(T=4.0), plan), teacher)
        >>> accuracy(student, {}, digits.validation) > 80
        True
    """
    split = as_split(split, "split")
    trained = keep_hooks(copy_net(student), student)
    for number, stage in enumerate([stages] if isinstance(stages, Stage) else stages):
        parts: Parts = {}
        loop = stage_fit(trained, stage, teacher, split, seed, number, parts)
        with track(stage.name, stage.plan.epochs * loop.steps_per_epoch) as task:
            while not loop.is_done:
                loop.advance()
                task.advance()
                if on_step is not None:
                    on_step(stage.name, loop.step, {name: value.detach() for name, value in parts.items()})
    _reset_net(trained)
    trained = keep_hooks(copy_net(trained), student)  # without the graph of what it kept of its last forward
    for module, old in zip(trained.modules(), bare_net(student).modules(), strict=True):
        module.training = old.training
    return trained
