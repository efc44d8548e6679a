"""From a config to the objects of a run. Configs stop here: what lies deeper takes plain values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from datadistill.config import DistillConfig, RunOptions
from datadistill.config.choices import check_description, choose
from datadistill.data import RealData
from datadistill.data.augmentation import check_augmentations
from datadistill.data.from_config import load_data
from datadistill.data.reference import DataReference
from datadistill.device import refuse_too_large, resolve
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError
from datadistill.features import load_body
from datadistill.innerloop import (
    ADJOINTS,
    Adjoint,
    FullUnroll,
    StepReplay,
    Truncated,
    step_sizes,
    update_rules,
)
from datadistill.innerloop.update_rules import UpdateRule
from datadistill.methods import METHODS, Unrolled
from datadistill.nets.copying import copy_net
from datadistill.nets.factory import NetFactory, as_module, is_factory
from datadistill.nets.fits import check_fits
from datadistill.nets.head import TRIED, check_linear_head
from datadistill.nets.spec import CUSTOM, FACTORY, NetSpec
from datadistill.nets.trained_parameters import EVERY, HEAD, parameters_of, select_trained
from datadistill.nets.weights import last_layer
from datadistill.objectives import OBJECTIVES, Objective
from datadistill.pool import Pool
from datadistill.real_features import measure_features, to_features
from datadistill.starts import Fixed
from datadistill.streams import generator
from datadistill.synthetic import DECODERS, Decoder, Pixels, Schedule, Synthetic
from datadistill.synthetic.start_images import start_images
from datadistill.synthetic.synthetic import soft_logits
from datadistill.theta import trainable
from datadistill.training.before_learning import check_before_learning
from datadistill.training.first_step_size import find_first_step_size
from datadistill.training.learning import Learning, Validation
from datadistill.training.normalization_from_config import choose_for_weights
from datadistill.training.outer import OuterLoop
from datadistill.training.starts_from_config import Starts, norm_of, pool_of, starts_of

DECODER_PARTS = ("images", "shape")
METHOD_PARTS = (
    "net",
    "start",
    "split",
    "batch",
    "augment",
    "nets",
    "update",
    "adjoint",
    "norm",
    "objective",
    "seed",
)
OBJECTIVE_PARTS = ("attacked", "target", "classes")
REPLAY_FROM = 200  # inner steps above which "auto" stops keeping every graph


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


def net_spec(config: DistillConfig, data: RealData, net: nn.Module | NetFactory | None) -> NetSpec:
    """The spec of the run's net for its file."""
    if net is not None:
        built = is_factory(net) and config.pool is None
        return NetSpec(CUSTOM, {}, FACTORY if built else config.init)
    return NetSpec.of_images(
        config.net, config.net_args, config.init, shape=data.shape, classes=len(data.classes)
    )


def learning_of(
    config: DistillConfig,
    options: RunOptions,
    data: RealData | None,
    net: nn.Module | NetFactory | None,
    nets: Pool | Sequence[nn.Module] | None = None,
) -> Learning:
    """Load the data, build the net and everything that a distillation needs. `nets` are pretrained
    ones in the place of the pool that the config names."""
    if config.theta_0 == "given" and net is None and config.weights is None:
        raise UsageError(
            "theta_0 is given, but no values are: pass your net (in Python dd.distill(config, "
            "net=...)), or a file of weights (--weights FILE)"
        )
    # refused before data are read
    make_method = choose(METHODS, "method", config.method, config.method_args, METHOD_PARTS)
    make_decoder = choose(DECODERS, "decoder", config.decoder, config.decoder_args, DECODER_PARTS)
    make_objective = choose(OBJECTIVES, "objective", config.objective, {}, OBJECTIVE_PARTS)
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
    real = (data if data is not None else load_run_data(config, options)).to(device)
    _refuse_too_few_images(real)
    check_augmentations(config.augment, real.shape, real.name)
    if modules is not None:
        pool = Pool.of(modules, data=real, dataset=config.source)
    if config.space == "features":
        real, config = take_features(config, options, real, net)
        net = None
    spec = net_spec(config, real, net)
    make = net if is_factory(net) else None
    given = spec.build() if net is None else as_module(net, config.seed, "theta_0", 0, 0)
    check_fits(given, real.shape, len(real.classes))
    module = (given if net is None else copy_net(given)).to(device)
    _refuse_other_head(config, module, len(real.classes))
    select_trained(module, config.train)
    _refuse_too_large(config, real, module)
    starts = starts_of(config, real, module, spec, pool, options.download, make)
    objective = make_objective(
        attacked=config.attack_class, target=config.target_class, classes=len(real.classes)
    )
    check_description(OBJECTIVES, "objective", objective, classes=len(real.classes))
    parts: dict[str, Any] = {
        "net": module,
        "start": starts.learning,
        "split": real.train,
        "batch": config.batch,
        "augment": config.augment,
        "nets": config.nets if config.theta_0 == "random" else 1,
        "update": update,
        "adjoint": adjoint,
        "norm": norm_of(config, module),
        "objective": objective,
        "seed": config.seed,
    }
    method = make_method(**parts)
    rates = {
        "images": config.lr_images,
        "labels": config.lr_labels,
        "step_sizes": config.lr_step_sizes,
    }
    make_set = partial(synthetic_of, config, real, len(trainable(module)), objective, make_decoder)
    first = config.step_size
    if first is None:  # other methods do not say how a step size does
        steps = method if isinstance(method, Unrolled) else Unrolled(**parts)
        first = find_first_step_size(make_set, steps)
    loop = OuterLoop(
        make_set(first),
        method,
        rates=rates,
        iterations=config.iterations,
        schedule=config.schedule,
        warmup=config.warmup,
        betas=(config.beta1, config.beta2),
        clip=config.clip,
        skips=config.skips,
    )
    return Learning(
        loop,
        Validation(module, starts.validation, real.validation, objective, config.validate_nets),
        partial(build_distilled, config, real, module, spec, update, starts, objective),
        data=real,
        net=module,
        start=starts.start,
        every=config.validate_every,
        check=partial(check_before_learning, spec.name, method, real)
        if isinstance(method, Unrolled)
        else None,
        keep_best=config.keep == "best",
    )


def take_features(
    config: DistillConfig,
    options: RunOptions,
    data: RealData,
    net: nn.Module | NetFactory | None,
) -> tuple[RealData, DistillConfig]:
    """The real data as features of the frozen net that a config names, and the config of a linear
    head on them, which is drawn afresh for every training."""
    spec = net_spec(config, data, net)
    given = spec.build() if net is None else as_module(net, config.seed, "theta_0", 0, 0)
    outputs = len(given.get_parameter(parameters_of(given, HEAD)[0]))
    check_fits(given, data.shape, outputs)
    backbone = (given if net is None else copy_net(given)).to(data.device)
    weights = None
    if config.weights is not None:
        weights = load_body(backbone, config.weights, spec, options.download)
    check_linear_head(backbone, data.train.images[:TRIED], outputs)
    normalization = measure_features(data, backbone, spec, weights)
    linear = replace(
        config,
        space="pixels",
        net="mlp",
        net_args={"depth": 0},
        theta_0="random",
        weights=None,
        train=("all",),
        head="auto",
        norm="auto",
    )
    return to_features(data, normalization), linear


def synthetic_of(
    config: DistillConfig,
    data: RealData,
    tensors: int,
    objective: Objective,
    make_decoder: Callable[..., Decoder],
    step_size: float,
) -> Synthetic:
    """The set at its start, for a net of `tensors` parameter tensors."""
    k, device = len(data.classes), data.device
    # of an attack, images in the place of class K carry label T
    classes = objective.labels(torch.arange(k * config.ipc, device=device) % k)
    decoder = make_decoder(images=k * config.ipc, shape=data.shape)
    check_description(DECODERS, "decoder", decoder)
    start = start_images(data, config.ipc, config.images_from, config.seed)
    rho = step_sizes.init(config.step_sizes, step_size, config.inner_steps, tensors)
    return Synthetic(
        decoder,
        decoder.init(start, generator(config.seed, "decoder")),
        classes,
        soft_logits(classes, k) if config.labels == "soft" else None,
        Schedule.equal(k * config.ipc, config.steps, config.epochs),
        rho.to(device),
    )


def build_distilled(
    config: DistillConfig,
    data: RealData,
    net: nn.Module,
    spec: NetSpec,
    update: UpdateRule,
    starts: Starts,
    objective: Objective,
    synthetic: Synthetic,
    iteration: int,
) -> DistilledDataset:
    """The set after so many iterations, with all that its file says."""
    origin = {
        "recipe": config.recipe,
        "seed": config.seed,
        "dataset": data.name,
        "split": "train",
        "iterations": iteration,
        "description": data.description,
    }
    pixels = isinstance(synthetic.decoder, Pixels)
    return DistilledDataset(
        synthetic.images().clone() if pixels else None,
        synthetic.labels().clone(),
        synthetic.step_sizes().clone(),
        synthetic.schedule,
        classes=data.classes,
        normalization=data.normalization,
        net=spec,
        update=update,
        theta_0=starts.learning.draw(0) if isinstance(starts.learning, Fixed) else None,
        buffers=starts.carried,
        own=starts.own,
        by_reference=starts.by_reference,
        trained=trained_names(config, net, starts),
        tensors=trainable(net),
        norm=norm_of(config, net),
        start=starts.start,
        objective=objective,
        data=describe_data(config, data),
        origin=origin,
        decoder=None if pixels else synthetic.decoder,
        coded=None if pixels else {k: x.clone() for k, x in synthetic.tensors.items()},
    )


def trained_names(config: DistillConfig, net: nn.Module, starts: Starts) -> tuple[str, ...]:
    """The parameters that the steps train, as the set says it: of one net of the user's own with
    frozen parameters their names, for the frozen ones are no part of its values."""
    has_frozen = len(trainable(net)) < len(list(net.parameters()))
    if config.train == EVERY and has_frozen and starts.start.kind in ("given", "weights"):
        return trainable(net)
    return config.train


def describe_data(config: DistillConfig, data: RealData) -> DataReference:
    """How the set's data are found again."""
    is_folder = config.dataset == "folder"  # which of the folder's images were held out
    return DataReference(
        data.name,
        config.seed,
        config.validation,
        holdout=config.holdout if is_folder else None,
        skip_bad=is_folder and config.skip_bad,
        parts=data.parts,
        fingerprint=data.fingerprint if data.parts is None and config.dataset == CUSTOM else None,
    )


def adjoint_of(config: DistillConfig) -> Adjoint:
    """The adjoint that `config.adjoint` names."""
    if config.adjoint == "auto":
        return FullUnroll() if config.inner_steps <= REPLAY_FROM else StepReplay()
    if config.adjoint == "truncated":
        assert config.window is not None  # the config sees to it
        return Truncated(config.window)
    adjoint: Adjoint = choose({"auto": FullUnroll, **ADJOINTS}, "adjoint", config.adjoint, {})()
    return adjoint


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
