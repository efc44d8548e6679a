"""From a config to the objects of a run. Configs stop here: what lies deeper takes plain values."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from datadistill import distilled_file
from datadistill.config import DistillConfig, RunOptions
from datadistill.config.choices import check_description, choose
from datadistill.data import RealData
from datadistill.data.augmentation import check_augmentations
from datadistill.data.from_config import load_data
from datadistill.device import refuse_too_large, resolve
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError
from datadistill.innerloop import (
    ADJOINTS,
    LOSSES,
    Adjoint,
    update_rules,
)
from datadistill.innerloop.losses import loss_of_labels
from datadistill.methods import METHODS
from datadistill.nets.factory import NetFactory, is_factory
from datadistill.nets.spec import CUSTOM
from datadistill.nets.trained_parameters import HEAD, select_trained
from datadistill.nets.weights import last_layer
from datadistill.objectives import OBJECTIVES
from datadistill.pool import Pool
from datadistill.runs.ranks import current
from datadistill.synthetic import DECODERS, Synthetic
from datadistill.theta import trainable
from datadistill.training.before_learning import check_before_learning
from datadistill.training.boosting import check_older, continue_step_sizes, load_older
from datadistill.training.experts_from_config import load_experts, trajectories_of
from datadistill.training.features_from_config import take_features
from datadistill.training.first_step_size import find_first_step_size
from datadistill.training.learning import Learning, Validation
from datadistill.training.net_from_config import build_net
from datadistill.training.normalization_from_config import choose_for_weights
from datadistill.training.outer import OuterLoop
from datadistill.training.outer_optimizers import OPTIMIZERS
from datadistill.training.set_from_config import build_distilled, synthetic_of
from datadistill.training.starts_from_config import norm_of, pool_of, starts_of

DECODER_PARTS = ("images", "shape", "classes")
METHOD_PARTS = (
    "net",
    "start",
    "experts",
    "split",
    "classes",
    "batch",
    "augment",
    "nets",
    "own",
    "update",
    "adjoint",
    "window",
    "horizon",
    "iterations",
    "norm",
    "inner_loss",
    "objective",
    "labels",
    "seed",
)
OPTIMIZER_PARTS = ("params", "betas", "momentum")
OBJECTIVE_PARTS = ("attacked", "target", "classes")


def load_run_data(config: DistillConfig, options: RunOptions) -> RealData:
    """The real data of a distillation, on the CPU."""
    folder = config.data if config.dataset == "folder" else None
    return load_data(
        config,
        options,
        seed=config.seed,
        folder=folder,
        normalization=choose_for_weights(config),
        holdout=config.holdout,
        skip_bad=config.skip_bad,
    )


def learning_of(
    config: DistillConfig,
    options: RunOptions,
    data: RealData | None,
    net: nn.Module | NetFactory | None,
    nets: Pool | Sequence[nn.Module] | None = None,
    experts: Pool | None = None,
) -> Learning:
    """Load the data, build the net and everything that a distillation needs. `nets` and `experts`
    are in the place of the pools that the config names."""
    if config.theta_0 == "given" and net is None and config.weights is None:
        raise UsageError(
            "theta_0 is given, but no values are: pass your net (in Python dd.distill(config, "
            "net=...)), or a file of weights (--weights FILE)"
        )
    # refused before data are read
    make_method = choose(METHODS, "method", config.method, config.method_args, METHOD_PARTS)
    make_decoder = choose(DECODERS, "decoder", config.decoder, config.decoder_args, DECODER_PARTS)
    make_objective = choose(OBJECTIVES, "objective", config.objective, {}, OBJECTIVE_PARTS)
    make_optimizer = choose(OPTIMIZERS, "optimizer", config.optimizer, {}, OPTIMIZER_PARTS)
    device = resolve(config.device)
    update = update_rules.from_description({"name": config.update, **config.update_args})
    adjoint = adjoint_of(config)
    modules = nets if isinstance(nets, Sequence) else None
    pool = None if isinstance(nets, Sequence) else pool_of(config, nets)
    if pool is not None and pool.net.name == CUSTOM and net is None:
        raise UsageError(
            f"the pool {config.pool} holds nets of modules of the user's own; pass one of that "
            "architecture as net="
        )
    if pool is None and modules is None:
        _refuse_one_net(config)
    _refuse_horizon(config)
    experts = load_experts(config, experts)
    older = load_older(config)
    real = (data if data is not None else load_run_data(config, options)).to(device)
    _refuse_too_few_images(real)
    for augmented in (config.augment, config.augment_synthetic):
        check_augmentations(augmented, real.shape, real.name)
    if modules is not None:
        pool = Pool.of(modules, data=real, dataset=config.source)
    if older is not None:
        older = check_older(older, real)
    if config.space == "features":
        real, config = take_features(config, options, real, net)
        net = None
    spec, module = build_net(config, real, net, len(real.classes))
    make = net if is_factory(net) else None
    _refuse_other_head(config, module, len(real.classes))
    select_trained(module, config.train)
    _refuse_too_large(config, real, module)
    starts = starts_of(config, real, module, spec, pool, options.download, make)
    origins = {}
    if experts is not None:
        origins["experts"] = experts.fingerprint
    if older is not None:
        origins["boost_from"] = distilled_file.identity(older)
    objective = make_objective(
        attacked=config.attack_class, target=config.target_class, classes=len(real.classes)
    )
    check_description(OBJECTIVES, "objective", objective, classes=len(real.classes))
    nets_each = config.nets if config.theta_0 == "random" else 1
    _refuse_ranks(config, nets_each)
    parts: dict[str, Any] = {
        "net": module,
        "start": starts.learning,
        "experts": None if experts is None else trajectories_of(experts, real, module, spec),
        "split": real.train,
        "classes": len(real.classes),
        "batch": config.batch,
        "augment": config.augment,
        "nets": nets_each,
        "own": current().share(nets_each),
        "update": update,
        "adjoint": adjoint,
        "window": config.window,
        "horizon": config.horizon,
        "iterations": config.iterations,
        "norm": norm_of(config, module),
        "inner_loss": LOSSES[loss_of_labels(config.labels)],
        "objective": objective,
        "labels": config.labels,
        "seed": config.seed,
    }
    method = make_method(**parts)
    rates = {
        "images": config.lr_images,
        "labels": config.lr_labels,
        "step_sizes": config.lr_step_sizes,
    }
    make_set = partial(
        synthetic_of, config, real, len(trainable(module)), objective, make_decoder, older
    )
    synthetic, anew = _start_set(config, make_set, parts, older)
    loop = OuterLoop(
        synthetic,
        method,
        rates=rates,
        iterations=config.iterations,
        schedule=config.schedule,
        warmup=config.warmup,
        optimizer=partial(
            make_optimizer, betas=(config.beta1, config.beta2), momentum=config.momentum
        ),
        clip=config.clip,
        skips=config.skips,
    )
    return Learning(
        loop,
        Validation(module, starts.validation, real.validation, objective, config.validate_nets),
        partial(
            build_distilled,
            config,
            real,
            module,
            spec,
            update,
            starts,
            objective,
            inputs=origins,
        ),
        data=real,
        net=module,
        inputs={starts.start.kind: starts.start.fingerprint, **origins},
        every=config.validate_every,
        check=partial(
            check_before_learning, spec.name, module, starts.learning, norm_of(config, module), real
        )
        if method.takes_second_derivatives
        else None,
        keep_best=config.keep == "best",
        note=anew,
    )


def _start_set(
    config: DistillConfig,
    make_set: Callable[[float], Synthetic],
    parts: Mapping[str, Any],
    older: DistilledDataset | None,
) -> tuple[Synthetic, str | None]:
    """The set at its start, and a line where the step sizes of an older one are not taken over.
    A step size that the config leaves open is found by trials."""
    first, anew = config.step_size, None
    synthetic = make_set(1.0 if first is None else first)
    if older is not None:
        anew = continue_step_sizes(synthetic, older, parts["update"], trainable(parts["net"]))
    if first is None and (older is None or anew is not None):
        # other methods, and windows of some steps, do not say how a step size does
        unrolled = choose(METHODS, "method", "unrolled", {}, METHOD_PARTS)
        # every rank tries the nets of all, and finds the same
        steps = unrolled(**{**parts, "horizon": "whole", "own": None})
        synthetic = make_set(find_first_step_size(make_set, steps))
    return synthetic, anew


def adjoint_of(config: DistillConfig) -> Adjoint:
    """The adjoint that `config.adjoint` names."""
    args = {"window": config.window} if config.adjoint == "truncated" else {}
    adjoint: Adjoint = choose(ADJOINTS, "adjoint", config.adjoint, args)()
    return adjoint


def _refuse_ranks(config: DistillConfig, nets: int) -> None:
    """Refuse more ranks than an iteration has nets that can be shared out."""
    ranks = current()
    if ranks.size == 1:
        return
    if "own" not in inspect.signature(METHODS[config.method]).parameters:
        raise UsageError(
            f"the method {config.method} takes one net an iteration, which cannot be shared out "
            f"among {ranks.size} ranks; run it in one process"
        )
    if nets < ranks.size:
        more = "" if config.theta_0 == "random" else " and theta_0 random"
        raise UsageError(
            f"an iteration has {nets} net{'s' if nets > 1 else ''}, fewer than the {ranks.size} "
            f"ranks; choose nets {ranks.size} or more{more}, or fewer ranks"
        )


def _refuse_horizon(config: DistillConfig) -> None:
    takes_one = "horizon" in inspect.signature(METHODS[config.method]).parameters
    if config.horizon != "whole" and not takes_one:
        raise UsageError(
            f"horizon is {config.horizon}, which goes with the method unrolled, and the method is "
            f"{config.method}; leave horizon out"
        )


def _refuse_one_net(config: DistillConfig) -> None:
    """Refuse one draw for ever, of nets that are not pretrained, where fresh ones are matched."""
    if (
        METHODS[config.method].matches_in_fresh_nets
        and config.theta_0 == "fixed"
        and config.weights is None
    ):
        raise UsageError(
            f"theta_0 is fixed, and the method {config.method} matches a set in fresh nets, not in "
            "one draw; choose theta_0 random, or the method unrolled"
        )


def _refuse_other_head(config: DistillConfig, net: nn.Module, classes: int) -> None:
    """Refuse to take for the head a layer that does not make the logits."""
    if HEAD not in config.train and config.head != "fresh":
        return
    name = last_layer(net)
    layer = net.get_submodule(name)
    outputs = getattr(layer, "out_features", getattr(layer, "out_channels", None))
    if outputs != classes:
        raise UsageError(
            f"the head is the last layer that the net registers, {name or 'the net itself'}, which "
            f"has {outputs} outputs for {classes} classes; register it last, or name what is "
            "trained (--train NAMES) and leave the head as it is (--head keep)"
        )


def _refuse_too_few_images(data: RealData) -> None:
    if not len(data.validation):
        raise DataError(
            f"{data.name} leaves no image for model selection (validation); it has "
            f"{len(data.train)} to learn from: give a class three or more images, or a larger "
            "--validation where that is 0"
        )
    missing = [c for k, c in enumerate(data.classes) if not bool((data.train.labels == k).any())]
    if missing:
        raise DataError(
            f"class {missing[0]} of {data.name} has no training image; add some, or drop the class"
        )


def _refuse_too_large(config: DistillConfig, data: RealData, net: nn.Module) -> None:
    """Refuse counts that this machine cannot hold, before the folder of the run is made."""
    parameters = sum(p.numel() for p in net.parameters())
    images = config.ipc * len(data.classes) * math.prod(data.shape)
    refuse_too_large(
        4 * parameters * config.nets,
        f"for {config.nets} nets of {config.net} at once; lower nets",
        data.device,
    )
    # the images, their gradient and Adam's two moments
    refuse_too_large(16 * images, f"to learn {config.ipc} images a class; lower ipc", data.device)
