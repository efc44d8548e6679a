"""Methods by name. To add one: write its loss and term in losses/, a function in definitions.py
or comparison_methods.py, and a line in `METHODS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from datadistill.errors import UsageError, suggest
from datadistill.training.fit_plan import FitPlan
from kd_baselines.methods import comparison_methods
from kd_baselines.methods import definitions as of
from kd_baselines.stages import Stage

__all__ = ["METHODS", "Method", "arguments", "has_teacher", "stages_of"]


@dataclass(frozen=True)
class Method:
    """A way for a student to learn.

    Args:
        stages: (plan, *, arguments with defaults) -> the stages.
        about: one line.
        source: the paper and its place in it.
        teacher: whether it needs one.
        two_headed: whether the student gets a second head, for the teacher's classes.
    """

    stages: Callable[..., tuple[Stage, ...]]
    about: str
    source: str
    teacher: bool = True
    two_headed: bool = False


FURLANELLO = "Furlanello et al. 2018 (Born-Again Networks)"
ROMERO = "Romero et al. 2015 (FitNets)"
SRINIVAS = "Srinivas and Fleuret 2018"

METHODS: dict[str, Method] = {
    "plain": Method(of.plain, "cross-entropy with the labels, no teacher", "-", teacher=False),
    "soft-targets": Method(
        of.soft_targets,
        "labels and the teacher's probabilities at temperature T, times T^2",
        "Hinton et al. 2015",
    ),
    "fitnets-kd": Method(
        of.fitnets_kd, "labels and soft targets without T^2, lambda annealed", f"{ROMERO}, eq. 2"
    ),
    "logits": Method(of.logits, "squared error of the logits", "Ba and Caruana 2014"),
    "noisy-logits": Method(
        of.noisy_logits,
        "squared error of the logits, noise on the teacher's",
        "Sau and Balasubramanian 2016",
    ),
    "fitnets": Method(
        of.fitnets, "first hints, then fitnets-kd: two stages", f"{ROMERO}, algorithm 1"
    ),
    "fitnets-one-stage": Method(
        of.fitnets_one_stage,
        "labels and hints at once: what others call FitNets",
        f"rejected in {ROMERO}, sec. 3.1",
    ),
    "attention": Method(
        of.attention,
        "labels and the teacher's attention maps",
        "Zagoruyko and Komodakis 2017, eq. 2",
    ),
    "attention-jacobian": Method(
        of.attention_jacobian,
        "labels, and the Jacobian of the teacher's attention maps at their largest pixel",
        f"{SRINIVAS}, sec. 5.2.1",
    ),
    "jacobian": Method(
        of.jacobian,
        "labels, logits and Jacobians, in every combination",
        f"{SRINIVAS}, prop. 1 and sec. 4.1",
    ),
    "jacobian-norm": Method(
        of.jacobian_norm,
        "labels and a small Jacobian, no teacher",
        f"{SRINIVAS}, prop. 2",
        teacher=False,
    ),
    "input-noise": Method(
        of.input_noise, "labels, and distillation on noisy images", f"{SRINIVAS}, prop. 1"
    ),
    "lwf": Method(
        of.lwf,
        "labels on one head, the teacher on another, attention, Jacobians",
        f"Li and Hoiem 2016 (Learning without Forgetting); {SRINIVAS}, sec. 5",
        two_headed=True,
    ),
    "born-again": Method(
        of.born_again,
        "the teacher's probabilities as they are; labels beside them if wanted",
        f"{FURLANELLO}, eq. 3",
    ),
    "cwtm": Method(of.cwtm, "labels weighted by the teacher's confidence", f"{FURLANELLO}, eq. 10"),
    "dkpp": Method(
        of.dkpp,
        "the teacher's probabilities, all but the largest permuted",
        f"{FURLANELLO}, eq. 11",
    ),
    "gradient-attention": Method(
        comparison_methods.gradient_attention,
        "labels, and the gradient of the teacher's loss in the image",
        "Zagoruyko and Komodakis 2017, sec. 3.2",
    ),
    "dkd": Method(
        comparison_methods.dkd,
        "labels, and soft targets of the true class and of the others, weighted apart",
        "Zhao et al. 2022 (Decoupled Knowledge Distillation)",
    ),
    "dist": Method(
        comparison_methods.dist,
        "labels, and how the teacher's probabilities correlate",
        "Huang et al. 2022 (Knowledge Distillation from A Stronger Teacher)",
    ),
    "logit-standardization": Method(
        comparison_methods.logit_standardization,
        "labels, and soft targets of logits as z-scores",
        "Sun et al. 2024 (Logit Standardization)",
    ),
    "rkd": Method(
        comparison_methods.rkd,
        "labels, and the distances and angles between images in a layer",
        "Park et al. 2019 (Relational Knowledge Distillation)",
    ),
    "similarity-preserving": Method(
        comparison_methods.similarity_preserving,
        "labels, and which images are alike in a layer",
        "Tung and Mori 2019 (Similarity-Preserving Knowledge Distillation)",
    ),
    "reviewkd": Method(
        comparison_methods.review,
        "labels, and the teacher's layers from the student's own and deeper ones, fused",
        "Chen et al. 2021 (Knowledge Review)",
    ),
    "mutual": Method(
        comparison_methods.mutual,
        "labels, and peers that are trained with the student, no teacher",
        "Zhang et al. 2018 (Deep Mutual Learning)",
        teacher=False,
    ),
    "crd": Method(
        comparison_methods.crd,
        "labels, and which vector of the teacher belongs to the same image",
        "Tian et al. 2020 (Contrastive Representation Distillation)",
    ),
}


def arguments(name: str) -> dict[str, Any]:
    """The arguments of a method, with their defaults; an unknown name is refused.

    Example:
        >>> arguments("soft-targets")
        {'temperature': 4.0, 'soft_weight': 0.9, 'label_weight': 0.1}
    """
    parameters = list(inspect.signature(_method(name).stages).parameters.values())[1:]
    return {p.name: p.default for p in parameters}


def has_teacher(name: str) -> bool:
    """Whether the students of a method learn from a teacher."""
    return _method(name).teacher


def _method(name: str) -> Method:
    if name not in METHODS:
        raise UsageError(
            f"there is no method {name!r}; {suggest(str(name), METHODS, 'kd-baselines methods')}"
        )
    return METHODS[name]


def stages_of(name: str, plan: FitPlan, args: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stages of a method; an unknown argument, or a value of another type or out of range, is
    refused."""
    known = arguments(name)
    for argument in args:
        if argument not in known:
            own = suggest(argument, known) if known else "it takes none"
            raise UsageError(f"the method {name} has no argument {argument!r}; {own}")
    hints = get_type_hints(METHODS[name].stages)
    return METHODS[name].stages(
        plan,
        **{key: _convert(key, value, hints.get(key, type(value))) for key, value in args.items()},
    )


def _convert(argument: str, value: Any, hint: Any) -> Any:
    """A value as the method declares it: of a number a float or a layer's name (a layer "0" is
    typed as 0)."""
    wanted = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if (
        get_origin(hint) is Literal
        or type(value) in wanted
        or (value is None and NoneType in wanted)
    ):
        return value  # the choices of a Literal are refused by what knows them, with the nearest
    if type(value) is int and (float in wanted or str in wanted):
        return float(value) if float in wanted else str(value)
    words = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
    raise UsageError(
        f"{argument} is {value!r}; give {' or '.join(words[t] for t in wanted if t in words)}"
    )
