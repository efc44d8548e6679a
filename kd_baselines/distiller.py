"""One batch of distillation: the quantities that the objective needs, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.data import Split
from datadistill.data.user_split import to_labels
from datadistill.errors import DataError, UsageError, is_out_of_memory
from datadistill.innerloop.attributes import keep_attributes
from datadistill.innerloop.second_derivatives import TwiceDifferentiable
from datadistill.precision import full_precision
from datadistill.streams import generator, global_stream
from datadistill.training.fit_loop import Batch
from kd_baselines.features import run
from kd_baselines.losses.input_gradients import refuse_once_differentiable
from kd_baselines.losses.term import Objective, Seen, Term
from kd_baselines.splits import as_split, float_images
from kd_baselines.teacher_cache import CachedTeacher
from kd_baselines.teachers import Teacher

__all__ = ["Distiller", "TeacherLike"]

TeacherLike = Teacher | CachedTeacher


class Distiller:
    """A student, an objective and, where the objective needs one, a teacher.

    Under `torch.autocast` (tested with bfloat16) nets compute in its type, and losses in float32
    from what they computed. The student may be a `DistributedDataParallel`: with equal parts of a
    batch in every process gradients are those of the whole batch where a loss is a mean over images
    (DIST, RKD, SP, CRD and CWTM compare the images of one process). What terms own is in no
    wrapper: average its gradients over the processes yourself.

    Args:
        student: images (B,C,H,W) to logits (B,K), on the device of the batches; trained in place.
            Of auxiliary outputs beside the logits (`kd_baselines.features.run`) no term knows.
        objective: a term or a sum of terms.
        teacher: a `Teacher` or a `CachedTeacher`; None where no term needs one.
        sample: a split, (images, labels) or a data set (`kd_baselines.splits.as_split`), of which
            two images show the terms the sizes they will meet: what terms own is made, and what
            does not fit is refused, here and before training. Needed before an optimizer is made
            where a term owns something (`Hint`). Default: the first batch does it.
        seed: of the terms' own first weights and of their noise.
        number: of the stage; other numbers, other noise.

    Example:
        >>> from kd_baselines import CE, KD, Teacher
        >>> net = lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> distiller = Distiller(net(), CE() + KD(temperature=4, weight=0.9), Teacher(net()))
        >>> out = distiller.step((torch.randn(8, 1, 2, 2), torch.arange(8) % 3))
        >>> list(out)
        ['loss', 'ce', 'kd']
        >>> out["loss"].backward()
    """

    def __init__(
        self,
        student: nn.Module,
        objective: Objective | Term,
        teacher: TeacherLike | None = None,
        *,
        sample: Split | tuple[Tensor, Tensor] | Any = None,
        seed: int = 0,
        number: int = 0,
    ) -> None:
        if not isinstance(student, nn.Module):
            raise UsageError(f"the student is a {type(student).__name__}; pass a module of torch")
        nets = getattr(getattr(teacher, "teacher", teacher), "nets", None)
        if teacher is not None and nets is None:
            raise UsageError(
                f"teacher is a {type(teacher).__name__}; pass kd_baselines.Teacher(net)"
            )
        if nets is not None and any(net is student for net in nets):
            raise UsageError(
                "the student is its own teacher; give the teacher a copy (copy.deepcopy)"
            )
        self.student, self.teacher, self.seed, self.number = student, teacher, seed, number
        self.objective = Objective(objective) if isinstance(objective, Term) else objective
        self.needs = self.objective.needs
        if self.needs.is_teacher_needed and teacher is None:
            wanting = [
                name
                for name, term in self.objective.named_terms.items()
                if term.needs.is_teacher_needed
            ]
            what = ", ".join(wanting)
            raise UsageError(
                f"{what}: a teacher is needed, and there is none; pass teacher=Teacher(net)"
            )
        self._prepared = False
        self._classes: int | None = None  # logits of the student in evaluation mode
        # own parameters of terms, when somebody asked for them
        self._listed: set[nn.Parameter] | None = None
        self._split_labels: Tensor | None = None  # of the sample
        if sample is not None:
            split = as_split(sample)
            if not len(split):
                raise DataError("there is no image to train on; pass a split that is not empty")
            self._split_labels = split.labels
            self._prepare(split.images, split.labels)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The student's parameters, and those that terms own (a regressor, made by `sample` or the
        first batch), which the student's state dict never has."""
        self._listed = set(self.objective.parameters())
        yield from self.student.parameters()
        yield from self.objective.parameters()

    def step(
        self,
        batch: Batch | tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor],
        *,
        step: int = 0,
        epoch: int = 0,
        view: int | None = None,
    ) -> dict[str, Tensor]:
        """The objective of one batch. Nothing is updated; `["loss"].backward()` is yours.

        Args:
            batch: images (B,C,H,W), labels (B,) and, for a cached teacher, their places in its
                split (B,); or a `Batch` of the plain loop, which has all three. Labels are whole
                numbers of any type, one-hot rows, or for terms that take them probabilities (B,K).
            step: steps done before this one; noise is a function of it.
            epoch: of schedules, from 0.
            view: of a cached teacher with augmented images: their epoch.

        Returns:
            "loss", the weighted sum, and each term's value before its weight by name; () each.
        """
        whole = (batch.images, batch.labels, batch.index) if isinstance(batch, Batch) else batch
        if not isinstance(whole, tuple | list) or len(whole) not in (2, 3):
            raise UsageError(f"a batch is a {type(whole).__name__}; pass (images, labels)")
        images, labels, index = whole if len(whole) == 3 else (*whole, None)
        images = float_images(images)
        if images.is_inference() and not torch.is_inference_mode_enabled():
            images = images.clone()  # there is no gradient of the other
        labels = to_labels(labels, len(images))
        if not self._prepared:
            self._prepare(images, labels)
        seen = self.see(images, labels, index=index, step=step, epoch=epoch, view=view)
        with full_precision(images.device):
            return self.objective(seen)

    def see(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        index: Tensor | None = None,
        step: int = 0,
        epoch: int = 0,
        view: int | None = None,
    ) -> Seen:
        """The quantities that the objective needs of one batch."""
        needs = self.needs
        if needs.student_input_gradients or needs.teacher_input_gradients:
            images = images.detach().requires_grad_()
        seen = Seen(
            images,
            labels,
            epoch=epoch,
            index=index,
            noise=partial(self._noise, step, images.device),
            split_labels=self._split_labels,
        )
        if needs.student_logits or needs.student_features:
            # once whole: a layer that is called again further on is refused then
            whole = needs.student_logits or not self._prepared
            layers = sorted(needs.student_features)
            twice = (
                TwiceDifferentiable() if needs.student_input_gradients else contextlib.nullcontext()
            )
            with twice, self._explain_failure("student", images):
                out = run(self.student, images, layers, logits=whole, classes=self._classes)
            seen.student_logits, seen.student_features = out.logits, out.features
        if needs.teacher_logits or needs.teacher_features:
            assert self.teacher is not None
            with self._explain_failure("teacher", images):
                known = self.teacher.outputs(
                    images,
                    sorted(needs.teacher_features, key=str),
                    logits=needs.teacher_logits,
                    input_gradients=needs.teacher_input_gradients,
                    index=index,
                    view=view,
                )
            seen.teacher_features = known.features
            if needs.teacher_logits:
                seen.teacher_logits, seen.teacher_at = known.logits, known.at
        seen.student = self.student if needs.student else None
        seen.teacher = self.teacher if needs.teacher else None
        return seen

    def _prepare(self, images: Tensor, labels: Tensor) -> None:
        """Show the terms two images in evaluation mode: those with the smallest and the largest
        label, so that a class that the logits do not have is refused."""
        pick = [0, 1]
        if labels.dim() == 1 and len(labels) > 2 and int(labels.argmin()) != int(labels.argmax()):
            pick = [int(labels.argmin()), int(labels.argmax())]
        # others have no gradient
        ordinary = not any(p.is_inference() for p in self.student.parameters())
        with torch.inference_mode(False), torch.set_grad_enabled(ordinary):
            # clones: of tensors that were made under inference_mode there is no gradient
            index = torch.tensor(pick[: len(images)], device=images.device)
            known = None if self._split_labels is None else index  # places in the sample
            self._show(images[index].clone(), labels[index].clone(), known)

    def _show(self, images: Tensor, labels: Tensor, index: Tensor | None) -> None:
        modes = [(module, module.training) for module in self.student.modules()]
        mode = self.objective.training
        online = self.teacher
        try:
            self.student.eval()
            # a cache knows none of these two alone
            self.teacher = getattr(online, "teacher", online)
            draws = global_stream(self.seed, "kd_terms", self.number, everything=True)
            with draws, keep_attributes(self.student):
                seen = self.see(images, labels, index=index)
                if seen.student_logits is not None and seen.student_logits.dim() == 2:
                    self._classes = seen.student_logits.shape[1]
                self.objective.prepare(seen)
                if self.needs.student_input_gradients:
                    _refuse_mixing("student", seen.student_logits, seen.images)
                if self.needs.teacher_input_gradients:
                    _refuse_mixing("teacher", seen.teacher_logits, seen.images)
                self.objective.to(images.device).eval()
                loss = self.objective(seen)["loss"]
                if self.needs.student_input_gradients:
                    refuse_once_differentiable(loss, self.student, images, labels)
        finally:
            self.teacher = online
            for module, training in modes:
                module.training = training
            self.objective.train(mode)
        if self._listed is not None:
            self._refuse_late_parameters(self._listed)
        self._prepared = True

    @contextlib.contextmanager
    def _explain_failure(self, whose: str, images: Tensor) -> Iterator[None]:
        """Turn what a net raises about images that it does not take into a sentence."""
        try:
            yield
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            if self._prepared or is_out_of_memory(error):
                raise
            last = (
                images.dim() == 4
                and images.shape[3] in (1, 3, 4)
                and images.shape[1] not in (1, 3, 4)
            )
            order = (
                ", which look like (B, height, width, channels): images.permute(0, 3, 1, 2)"
                if last
                else ""
            )
            found = f"images {tuple(images.shape[1:])} of {images.dtype} on {images.device}{order}"
            raise UsageError(
                f"the {whose} does not take {found} (torch says: "
                f"{' '.join(str(error).split())[:200]}); pass images (B, channels, height, width) "
                "as it takes them"
            ) from error

    def _refuse_late_parameters(self, listed: set[nn.Parameter]) -> None:
        terms = self.objective.named_terms.items()
        if late := [name for name, term in terms if not listed.issuperset(term.parameters())]:
            raise UsageError(
                f"{', '.join(late)}: the first batch made parameters after parameters() was asked "
                "for, so an optimizer would not train them; pass sample=(images, labels) when you "
                "make the Distiller"
            )

    def _noise(self, step: int, device: torch.device, name: str) -> torch.Generator:
        return generator(self.seed, f"kd_{name}", self.number, step, device=device)


def _refuse_mixing(whose: str, logits: Tensor | None, images: Tensor) -> None:
    """Refuse a net whose answer for one image has a gradient in another: no image has a Jacobian of
    its own."""
    if logits is None or len(images) < 2 or not (logits.requires_grad and images.requires_grad):
        return
    (found,) = torch.autograd.grad(logits[0].sum(), images, retain_graph=True, allow_unused=True)
    if found is not None and bool((found[1:] != 0).any()):
        raise UsageError(
            f"the {whose}'s logits of an image depend on the other images of its batch, so no "
            "image has a Jacobian of its own; pass a net that answers for each image alone, or "
            "leave out losses of input gradients"
        )
