"""Methods by name. To add one: write its loss and term in losses/, a function in a file here, and a line in
`METHODS`.

A method is a function from the plan of the config and its own arguments (numbers, texts, truths) to stages.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from datadistill.errors import UsageError, nearest
from datadistill.training.fit_plan import FitPlan
from kd_baselines.methods.attention import attention
from kd_baselines.methods.born_again import born_again, cwtm, dkpp
from kd_baselines.methods.fitnets import fitnets, fitnets_kd, fitnets_one_stage
from kd_baselines.methods.jacobian import input_noise, jacobian, jacobian_norm
from kd_baselines.methods.labels import plain
from kd_baselines.methods.logits import logits, noisy_logits
from kd_baselines.methods.soft_targets import soft_targets
from kd_baselines.methods.two_headed import lwf
from kd_baselines.stages import Stage

__all__ = ["METHODS", "Method", "arguments", "stages_of"]


@dataclass(frozen=True)
class Method:
    """A way for a student to learn.

    Args:
        stages: (plan, *, arguments with defaults) -> the stages.
        about: one line.
        source: the paper and its place in it.
        teacher: whether it needs one.
        two_headed: the student gets a second head, for the teacher's classes.
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
    "plain": Method(plain, "cross-entropy with the labels, no teacher", "-", teacher=False),
    "soft-targets": Method(
        soft_targets, "labels and the teacher's probabilities at temperature T, times T^2", "Hinton et al. 2015"
    ),
    "fitnets-kd": Method(
        fitnets_kd, "labels and soft targets without T^2, lambda annealed", f"{ROMERO}, eq. 2"
    ),
    "logits": Method(logits, "squared error of the logits", "Ba and Caruana 2014"),
    "noisy-logits": Method(
        noisy_logits, "squared error of the logits, noise on the teacher's", "Sau and Balasubramanian 2016"
    ),
    "fitnets": Method(fitnets, "first hints, then fitnets-kd: two stages", f"{ROMERO}, algorithm 1"),
    "fitnets-one-stage": Method(
        fitnets_one_stage,
        "labels and hints at once: what others call FitNets",
        f"rejected in {ROMERO}, sec. 3.1",
    ),
    "attention": Method(
        attention, "labels and the teacher's attention maps", "Zagoruyko and Komodakis 2017, eq. 2"
    ),
    "jacobian": Method(
        jacobian, "labels, logits and Jacobians, in every combination", f"{SRINIVAS}, prop. 1 and sec. 4.1"
    ),
    "jacobian-norm": Method(
        jacobian_norm, "labels and a small Jacobian, no teacher", f"{SRINIVAS}, prop. 2", teacher=False
    ),
    "input-noise": Method(input_noise, "labels, and distillation on noisy images", f"{SRINIVAS}, prop. 1"),
    "lwf": Method(
        lwf, "labels on one head, the teacher on another, attention, Jacobians", f"{SRINIVAS}, sec. 5",
        two_headed=True,
    ),
    "born-again": Method(
        born_again,
        "the teacher's probabilities as they are; labels beside them if wanted",
        f"{FURLANELLO}, eq. 3",
    ),
    "cwtm": Method(cwtm, "labels weighted by the teacher's confidence", f"{FURLANELLO}, eq. 10"),
    "dkpp": Method(
        dkpp, "the teacher's probabilities, all but the largest permuted", f"{FURLANELLO}, eq. 11"
    ),
}  # fmt: skip


def arguments(name: str) -> dict[str, Any]:
    """The arguments of a method, with their defaults.

    Raises:
        UsageError: no method has this name.

    Example:
        >>> arguments("soft-targets")
        {'temperature': 4.0, 'soft_weight': 0.9, 'label_weight': 0.1}
    """
    if name not in METHODS:
        raise UsageError(f"there is no method {name!r}; {nearest(str(name), METHODS, 'kd-baselines methods')}")
    parameters = list(inspect.signature(METHODS[name].stages).parameters.values())[1:]
    return {p.name: p.default for p in parameters}


def stages_of(name: str, plan: FitPlan, args: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stages of a method.

    Raises:
        UsageError: an unknown method or argument, or a value of another type or out of range.

    Example:
        >>> [stage.name for stage in stages_of("plain", FitPlan(epochs=2), {})]
        ['student']
    """
    known = arguments(name)
    for argument in args:
        if argument not in known:
            own = nearest(argument, known) if known else "it takes none"
            raise UsageError(f"the method {name} has no argument {argument!r}; {own}")
    hints = get_type_hints(METHODS[name].stages)
    return METHODS[name].stages(
        plan, **{key: _typed(key, value, hints.get(key, type(value))) for key, value in args.items()}
    )


def _typed(argument: str, value: Any, hint: Any) -> Any:
    """A value as the method declares it: of a number a float or a layer's name (a layer "0" is typed as 0)."""
    wanted = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if get_origin(hint) is Literal or type(value) in wanted or (value is None and NoneType in wanted):
        return value  # the choices of a Literal are refused by what knows them, with the nearest
    if type(value) is int and (float in wanted or str in wanted):
        return float(value) if float in wanted else str(value)
    words = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
    raise UsageError(f"{argument} is {value!r}; give {' or '.join(words[t] for t in wanted if t in words)}")
