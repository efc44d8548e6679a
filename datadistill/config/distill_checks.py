"""What a distillation's settings may be: each by itself, and beside the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datadistill.config.values import check_range, quote
from datadistill.errors import UsageError

if TYPE_CHECKING:
    from datadistill.config.distill import DistillConfig


MOST_STEPS = 1_000_000
"""Inner steps of one training: each has its batch and its step size."""


def check_distill(config: DistillConfig) -> None:
    """UsageError for settings that are out of range or do not go together."""
    counts = (
        "ipc",
        "steps",
        "epochs",
        "iterations",
        "batch",
        "nets",
        "validate_every",
        "validate_nets",
        "minibatch",
    )
    check_range(config, counts, least=1)
    if config.steps * config.epochs > MOST_STEPS:
        raise UsageError(
            f"{config.steps} steps an epoch and {config.epochs} epochs make "
            f"{config.steps * config.epochs} inner steps, but there can be at most {MOST_STEPS}; "
            "lower steps or epochs"
        )
    if config.minibatch is not None and config.steps != 1:
        raise UsageError(
            f"steps is {config.steps} and minibatch is {config.minibatch}: random minibatches make "
            "the steps of an epoch; leave steps out"
        )
    if config.ipc % config.steps:
        raise UsageError(
            f"ipc {config.ipc} does not divide into {config.steps} steps with images of their own; "
            "make ipc a multiple of steps (say "
            f"{config.steps * max(1, round(config.ipc / config.steps))}), or use the images "
            "again with epochs"
        )
    rates = ("lr_images", "lr_labels", "lr_step_sizes", "clip", "warmup")
    check_range(config, rates, least=0)
    check_range(config, ("beta1", "beta2", "momentum"), least=0, below=1)
    check_range(config, ("step_size",), above=0, hint="the paper starts at 0.02")
    check_range(config, ("holdout",), least=0, below=1)
    check_range(config, ("boost_rate",), least=0, most=1)
    if config.boost_rate and config.boost_from is None:
        raise UsageError(
            f"boost_rate is {config.boost_rate}, which goes with the images of an earlier set; "
            "pass it (--boost-from FILE_OR_DIR)"
        )
    _check_horizon(config)
    if config.window is not None and config.window < 1:
        raise UsageError(f"window is {config.window}, but at least 1 step must be differentiated")
    if config.pool is not None and config.weights is not None:
        raise UsageError(
            f"theta_0 comes from the pool {config.pool} and from the weights "
            f"{config.weights}; drop one"
        )
    if config.weights is not None and config.theta_0 == "random":
        raise UsageError(
            "weights are those of one net, so theta_0 must be fixed (a fresh last layer) or "
            "given (the file's own); a set for many pretrained nets needs a pool (--pool)"
        )
    if config.theta_0 == "given" and (config.pool or config.source) is not None:
        raise UsageError(
            f"theta_0 is given, but the pool {config.pool or f'of {config.source}'} holds many "
            "nets; choose fixed for one of them, or random for all"
        )
    _check_pretrained(config)
    _check_experts(config)
    _check_space(config)
    if config.objective == "attack":
        if config.attack_class == config.target_class:
            raise UsageError(
                f"attack_class and target_class are both {config.attack_class}; the attacked "
                "class must differ from the one it is to be taken for"
            )
        if min(config.attack_class, config.target_class) < 0:
            raise UsageError(
                f"attack_class is {config.attack_class} and target_class {config.target_class}; "
                "classes are counted from 0"
            )


def _check_horizon(config: DistillConfig) -> None:
    """Refuse a window that has no place, and a place without a window."""
    if config.horizon == "whole":
        if (config.adjoint == "truncated") != (config.window is not None):
            raise UsageError(
                f"adjoint is {config.adjoint} and window is {config.window}; a window goes with "
                "adjoint truncated, or with horizon random or growing"
            )
        return
    if config.window is None:
        raise UsageError(
            f"horizon is {config.horizon}, but no window was given; pass the number of steps to "
            "differentiate (--window)"
        )
    if config.adjoint not in ("auto", "full", "step-replay"):
        raise UsageError(
            f"adjoint is {config.adjoint} and horizon is {config.horizon}, which differentiates a "
            "window of steps; choose adjoint full or step-replay, or leave it out"
        )


def _check_pretrained(config: DistillConfig) -> None:
    """Refuse choices about pretrained nets where there is none."""
    one = config.weights is not None or config.theta_0 == "given"
    pretrained = one or config.pool is not None or config.source is not None
    for name, value, default, needed in (
        ("head", config.head, "auto", one),
        ("embed_weights", config.embed_weights, False, one),
        ("train", config.train, ("all",), pretrained),
        ("norm", config.norm == "reestimated", False, one),
    ):
        if value != default and not needed:
            raise UsageError(
                f"{name} is {quote(getattr(config, name))}, which goes with a pretrained net; "
                "pass --weights FILE, choose theta_0 given with a net of your own, or pool "
                "custom where Python passes a pool"
            )


def _check_experts(config: DistillConfig) -> None:
    """Refuse other starts of the set's nets than fresh draws, where experts are followed."""
    if config.experts is None:
        return
    if config.theta_0 != "random" or config.source is not None or config.pool is not None:
        raise UsageError(
            f"experts are {quote(config.experts)}, and a set that follows experts is for fresh "
            "draws of a net; choose theta_0 random, without pool and source"
        )


def _check_space(config: DistillConfig) -> None:
    """Refuse choices that features of a frozen net leave no room for."""
    if config.space == "pixels":
        return
    if config.weights is None and config.theta_0 != "given":
        raise UsageError(
            "space is features, which are those of one pretrained net; pass --weights FILE, or "
            "choose theta_0 given with a net of your own"
        )
    for name, wanted, why in (
        ("train", (("all",), ("head",)), "a linear head is all that is trained on features"),
        ("head", ("auto", "fresh"), "the head is drawn afresh"),
        ("norm", ("auto", "frozen"), "the backbone keeps its statistics"),
        ("embed_weights", (False,), "the file names the backbone and does not hold it"),
        ("augment", ((),), "the features of the real images are computed once"),
        ("augment_synthetic", ((),), "features are no images"),
    ):
        value = getattr(config, name)
        if value not in wanted:
            raise UsageError(
                f"{name} is {quote(value)}, and space is features: {why}; leave {name} out, or "
                "choose space pixels"
            )
