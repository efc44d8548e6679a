"""A net trained by stages, one after the other, on the plain loop.

With seed s stage number n sees its batches by the streams of `datadistill.training.fit_loop` with
number n.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from datadistill.data import Split
from datadistill.distilled import DistilledDataset
from datadistill.errors import NumericalError
from datadistill.evaluation.accuracy import accuracy
from datadistill.nets.copying import bare_net, copy_net, keep_hooks
from datadistill.progress import Report, show_progress, track
from datadistill.runs.signals import interruptible
from datadistill.torch_defaults import use_library_defaults
from datadistill.training.fit_loop import Batch, Fit, lay_out, train_mode
from kd_baselines.distiller import Distiller, TeacherLike
from kd_baselines.losses.term import Objective
from kd_baselines.own_steps import OwnSteps
from kd_baselines.splits import as_split
from kd_baselines.stages import Stage, groups_of
from kd_baselines.teacher_cache import CachedTeacher

__all__ = ["StagedLoop", "fit", "stage_fit"]

Parts = dict[str, Tensor]


def stage_fit(
    student: nn.Module,
    stage: Stage,
    teacher: TeacherLike | None,
    split: Split,
    seed: int,
    number: int,
    parts: Parts,
    own_steps: DistilledDataset | None = None,
) -> Fit:
    """The fit of one stage. At each step it writes the loss and each term's value, (), into
    `parts`. A set as `own_steps` has its own schedule in place of the stage's plan."""
    distiller = Distiller(student, stage.objective, teacher, sample=split, seed=seed, number=number)
    objective: Objective = distiller.objective
    train_mode(student)
    # channels last would cost images of one channel 5 to 15%
    lay_out(student, split.images.device if split.images.shape[1] > 1 else None)
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
    if own_steps is not None:
        own: Fit = OwnSteps(tensors, loss, split, own_steps, seed=seed)
        return own
    groups = groups_of(stage, student, objective)
    own = Fit(tensors, loss, split, stage.plan, groups=groups, seed=seed, nets=number)
    return own


class StagedLoop:
    """The loop, stage after stage: `while not loop.is_done: loop.advance()`.

    Args:
        net: trained in place.
        stages: at least one.
        start: the fit of a stage, by its number, from the net as it then is; its loss writes the
            parts of each batch into the dictionary.
        split: training images.
        validation: the split on which accuracy is measured after each epoch.
        test_every: of so many epochs after one alone, and after the last.
        steps: of a stage where its plan does not say.
    """

    def __init__(
        self,
        net: nn.Module,
        stages: Sequence[Stage],
        start: Callable[[int, Parts], Fit],
        split: Split,
        validation: Split,
        *,
        test_every: int = 1,
        steps: int | None = None,
    ) -> None:
        self.net, self.stages, self.validation = net, tuple(stages), validation
        self.test_every = test_every
        self._make = start
        train_mode(net)
        # a layer in evaluation mode was frozen on purpose
        self._modes = [(module, module.training) for module in net.modules()]
        self._steps = [
            stage.plan.epochs * -(-len(split) // stage.plan.batch) if steps is None else steps
            for stage in stages
        ]
        self._start(0)

    def _start(self, stage: int) -> None:
        """Stand at the beginning of a stage, from 0; of the end, after the last. A failure changes
        nothing."""
        parts: Parts = {}
        if stage < len(self.stages):
            for module, mode in self._modes:
                module.training = mode
            self.fit = self._make(stage, parts)
        self.stage, self.parts = stage, parts
        self.sums: dict[str, float] = {}
        self.due = False  # whether the test after an epoch is still to come

    @property
    def is_done(self) -> bool:
        return self.stage >= len(self.stages)

    @property
    def step(self) -> int:
        """Gradient steps done, those of all stages counted."""
        return sum(self._steps[: self.stage]) + (0 if self.is_done else self.fit.step)

    @property
    def steps(self) -> int:
        """Gradient steps of all stages."""
        return sum(self._steps)

    def advance(self) -> dict[str, Any] | None:
        """One gradient step. Returns a line about the epoch where it was its last: mean loss and
        parts, and the accuracy on the validation split in percent.

        Raises:
            NumericalError: a loss that is not finite, with the stage's name.
            Interrupted: a signal came while the net was tested, or the next stage's teacher asked;
                the next call tests it again.
        """
        name = self.stages[self.stage].name
        if not self.due:
            try:
                self.fit.advance()
            except NumericalError as error:
                raise NumericalError(f"{name}: {error}") from None
            for part, value in self.parts.items():
                self.sums[part] = self.sums.get(part, 0.0) + float(value.detach())
            self.due = self.fit.step % self.fit.steps_per_epoch == 0
        if not self.due:
            return None
        means = {part: total / self.fit.steps_per_epoch for part, total in self.sums.items()}
        line: dict[str, Any] = {
            "stage": name,
            "epoch": self.fit.step // self.fit.steps_per_epoch,
            **means,
        }
        is_tested = self.fit.is_done or line["epoch"] % self.test_every == 0
        with interruptible():
            if len(self.validation) and is_tested:
                line["accuracy"] = accuracy(self.net, {}, self.validation)
        if self.fit.is_done:
            _reset_net(self.net)
            self._start(self.stage + 1)
        self.sums, self.due = {}, False
        return line

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs: the fit of the present stage, or the net at the end."""
        net = {k: v.detach() for k, v in self.net.state_dict().items()} if self.is_done else {}
        return {
            "stage": self.stage,
            "net": net,
            "fit": self.fit.state(),
            "sums": self.sums,
            "due": self.due,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from `state()`."""
        if "stage" not in state:  # of an earlier version
            net = state["finished"][-1] if state["job"] == len(self.stages) else {}
            state = {"due": False, **state, "stage": state["job"], "net": net}
        if state["net"]:
            self.net.load_state_dict(dict(state["net"]))
        _reset_net(self.net)
        self._start(state["stage"])
        if not self.is_done:
            self.fit.load(state["fit"])
        self.sums, self.due = dict(state["sums"]), state["due"]


def _reset_net(net: nn.Module) -> None:
    """Put a net in evaluation mode and in the usual memory layout, without gradients."""
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
    """Train a copy of a net by stages, and return it with its layers in the modes of `student`;
    nothing is written.

    Args:
        student: images (B,C,H,W) to logits (B,K); never changed. Of a compiled or replicated net
            the module inside is trained. Layers in evaluation mode inside a net in training mode
            stay frozen.
        split: images and labels, on the net's device: a `Split`, a `DistilledDataset` (its images
            in batches of the plan, not by its own steps), a pair of tensors, a torch data set, a
            list of pairs or a DataLoader; see `kd_baselines.splits.as_split`.
        stages: one after the other.
        teacher: a `Teacher` or a `CachedTeacher` of the split; None where no term needs one.
        seed: of order, augmentation, dropout, noise and what terms own.
        on_step: called after every step with the stage's name, its steps done and the loss's parts,
            () each.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it
            goes on.

    Raises:
        UsageError: what does not fit; said before the first step of the stage.
        DataError: the split is empty.
        NumericalError: the loss is not finite.

    Example:
        >>> from datadistill import FitPlan, load
        >>> from kd_baselines import CE, KD, Teacher
        >>> def net(width):
        ...     return nn.Sequential(
        ...         nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10)
        ...     )
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
                    on_step(
                        stage.name,
                        loop.step,
                        {name: value.detach() for name, value in parts.items()},
                    )
    _reset_net(trained)
    # without the graph of what it kept of its last forward
    trained = keep_hooks(copy_net(trained), student)
    for module, old in zip(trained.modules(), bare_net(student).modules(), strict=True):
        module.training = old.training
    return trained
