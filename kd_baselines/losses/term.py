"""The parts of an objective: terms that say what they need, added up with weights.

    objective = CE() + KD(T=4, weight=0.9) + AttentionTransfer({"layer3": "layer3"}, weight=1e3)
    objective.needs                     # the trainer computes this and nothing else
    objective(seen)["loss"]             # sum over terms of weight(epoch) * term(seen)

What a term owns (a regressor, say) is trained with the student and never enters the student's state
dict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain, count

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from datadistill.errors import UsageError
from kd_baselines.features import Layer
from kd_baselines.losses.schedules import Weight, check_weight, weight_at

__all__ = ["Needs", "Objective", "Seen", "Term"]


@dataclass(frozen=True)
class Needs:
    """The quantities that a term reads. `a | b` is those of both.

    Args:
        student_logits, teacher_logits: whether the logits are read.
        student_features: names of the layers whose outputs are read.
        teacher_features: the same of the teacher; or a `Reading` where a term reads a function of
            an image's output alone, so that a cache need not keep the whole (`AttentionTransfer`).
        student_input_gradients: whether the images require a gradient in the student's pass.
        teacher_input_gradients: the same in the teacher's pass, so that no cache can stand in for
            it.
        student, teacher: whether the net itself is called again (on noisy images, say).
    """

    student_logits: bool = False
    teacher_logits: bool = False
    student_features: frozenset[str] = frozenset()
    teacher_features: frozenset[Layer] = frozenset()
    student_input_gradients: bool = False
    teacher_input_gradients: bool = False
    student: bool = False
    teacher: bool = False

    @classmethod
    def both_logits(cls, output: str | None = None) -> Needs:
        """The teacher's logits, and the student's, or the output of a layer that stands for
        them."""
        if output is None:
            return cls(student_logits=True, teacher_logits=True)
        return cls(student_features=frozenset({output}), teacher_logits=True)

    @classmethod
    def layers(cls, pairs: Mapping[str, str]) -> Needs:
        """The outputs of pairs of layers, the student's -> the teacher's."""
        return cls(student_features=frozenset(pairs), teacher_features=frozenset(pairs.values()))

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            **{name: value | getattr(other, name) for name, value in vars(self).items()}  # type: ignore[arg-type]
        )

    @property
    def is_teacher_needed(self) -> bool:
        """Whether there must be a teacher."""
        return (
            self.teacher_logits
            or bool(self.teacher_features)
            or self.teacher_input_gradients
            or self.teacher
        )


@dataclass(eq=False)
class Seen:
    """The quantities of one batch that the objective's `needs` name.

    Args:
        images: (B,C,H,W); a leaf that requires a gradient where input gradients are needed.
        labels: (B,).
        student_logits: (B,K).
        teacher_logits: (B,K), without gradient to the teacher's weights. Of an ensemble: logits of
            its mean.
        student_features, teacher_features: outputs of layers by name, and the teacher's readings.
        teacher_at: temperature T -> logits v (B,K) with softmax(v / T) the teacher's probabilities
            at T: of one net and of a geometric mean always `teacher_logits`; an arithmetic mean
            softens each net before it averages.
        student, teacher: for terms that call them again; the student is in training mode.
        noise: name -> a generator for this step on the images' device; the same name draws the same
            numbers.
        epoch: of this step, from 0.
        index: (B,) sample ids, the places of the images in the split; None where unknown.
        split_labels: labels of the whole split by place; None where it is not known.
    """

    images: Float[Tensor, "b c h w"]
    labels: Int[Tensor, " b"]
    student_logits: Float[Tensor, "b k"] | None = None
    teacher_logits: Float[Tensor, "b k"] | None = None
    student_features: Mapping[Layer, Tensor] = field(default_factory=dict)
    teacher_features: Mapping[Layer, Tensor] = field(default_factory=dict)
    teacher_at: Callable[[float], Tensor] | None = None
    student: nn.Module | None = None
    teacher: Callable[[Tensor], Tensor] | None = None
    noise: Callable[[str], torch.Generator] | None = None
    epoch: int = 0
    index: Int[Tensor, " b"] | None = None
    split_labels: Tensor | None = None

    def require(self, name: str) -> Tensor:
        """A field that a term declared in its `needs`; AssertionError where it did not."""
        value = getattr(self, name)
        assert value is not None, f"a term reads {name} without declaring it in its needs"
        return value  # type: ignore[no-any-return]

    def student_output(self, layer: str | None) -> Float[Tensor, "b k"]:
        """The student's logits, or the output of a layer that stands for them."""
        if layer is None:
            return self.require("student_logits")
        z = self.student_features[layer]
        if z.dim() != 2:
            found = f"the student's layer {layer!r} gives {tuple(z.shape)}"
            raise UsageError(f"{found}; name a layer that gives logits (samples, classes)")
        return z

    def features_of(self, layers: Mapping[str, str]) -> tuple[list[Tensor], list[Tensor]]:
        """The outputs of pairs of layers, the student's -> the teacher's, in order."""
        ours = [self.student_features[name] for name in layers]
        return ours, [self.teacher_features[name] for name in layers.values()]

    def soften_teacher(self, T: float) -> Float[Tensor, "b k"]:
        """Logits v with softmax(v / T) the teacher's probabilities at temperature T; see
        `teacher_at`."""
        assert self.teacher_at is not None, (
            "a term reads teacher_at where no teacher's logits were computed"
        )
        return self.teacher_at(T)

    def generator(self, name: str) -> torch.Generator:
        """This step's generator of a name."""
        assert self.noise is not None, "a term draws random numbers of a step that has none"
        return self.noise(name)


class Term(nn.Module):
    """One summand of an objective. Subclasses give `needs` and `forward(seen) -> ()`.

    Args:
        weight: 0 or more, or a schedule of it (`Linear`).
        name: under which its value is reported; default: the class's name in lower case. Not
            "loss", which is the sum.

    Example:
        >>> class Small(Term):
        ...     "Half the squared logits, mean over the batch."
        ...     needs = Needs(student_logits=True)
        ...     def forward(self, seen):
        ...         return seen.require("student_logits").square().sum(1).mean() / 2
        >>> Small(weight=0.1).name
        'small'
    """

    needs: Needs = Needs()

    def __init__(self, weight: Weight = 1.0, name: str | None = None) -> None:
        super().__init__()
        check_weight(weight)
        self.weight = weight
        self.name = type(self).__name__.lower() if name is None else name
        if self.name == "loss":
            raise UsageError(
                'a term is called "loss", as the sum of all terms is; give it another name'
            )

    def prepare(self, seen: Seen) -> None:
        """Make what the term owns and refuse what `forward` cannot; called once, before training
        and a trial of `forward` in evaluation mode, with two images seen, torch's global generator
        seeded. The default does nothing."""

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        """The term's value before its weight, mean over the batch."""
        raise NotImplementedError

    def __add__(self, other: Term | Objective) -> Objective:
        return Objective(self) + other


class Objective(nn.Module):
    """A weighted sum of one or more terms; `a + b` makes one. Equal names get numbers: kd, kd-2."""

    def __init__(self, *terms: Term) -> None:
        super().__init__()
        for term in terms:
            if not isinstance(term, Term):
                raise UsageError(f"{term!r:.60} is no term; add terms such as CE() + KD(T=4)")
        if not terms:
            raise UsageError("an objective has no term; pass at least one, such as CE()")
        self.terms = nn.ModuleList(terms)

    @property
    def named_terms(self) -> dict[str, Term]:
        """The terms by name, in order."""
        found: dict[str, Term] = {}
        for term in self.terms:
            assert isinstance(term, Term)
            names = chain((term.name,), (f"{term.name}-{n}" for n in count(2)))
            found[next(name for name in names if name not in found)] = term
        return found

    @property
    def needs(self) -> Needs:
        needs = Needs()
        for term in self.named_terms.values():
            needs = needs | term.needs
        return needs

    def prepare(self, seen: Seen) -> None:
        for term in self.named_terms.values():
            term.prepare(seen)

    def forward(self, seen: Seen) -> dict[str, Tensor]:
        """The weighted sum under "loss", and each term's value before its weight under its name,
        detached."""
        total: Tensor | None = None
        parts: dict[str, Tensor] = {}
        for name, term in self.named_terms.items():
            value = parts[name] = term(seen)
            weight = weight_at(term.weight, seen.epoch)
            part = value if weight == 1 else weight * value
            total = part if total is None else total + part
        assert total is not None
        return {"loss": total, **{name: value.detach() for name, value in parts.items()}}

    def __add__(self, other: Term | Objective) -> Objective:
        more = list(other.terms) if isinstance(other, Objective) else [other]
        return Objective(*self.terms, *more)  # type: ignore[arg-type]
