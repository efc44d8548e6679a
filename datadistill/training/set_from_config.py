"""From a config to the synthetic set, and from the synthetic set to the distilled one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import nn

from datadistill.config import DistillConfig
from datadistill.config.choices import check_description
from datadistill.config.distill_checks import MOST_STEPS
from datadistill.data import RealData
from datadistill.data.reference import DataReference
from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError
from datadistill.innerloop import step_sizes
from datadistill.innerloop.losses import loss_of_labels
from datadistill.innerloop.update_rules import UpdateRule
from datadistill.nets.spec import CUSTOM, NetSpec
from datadistill.nets.trained_parameters import EVERY
from datadistill.objectives import Objective
from datadistill.starts import Fixed
from datadistill.streams import generator
from datadistill.synthetic import DECODERS, Decoder, Pixels, Schedule, Synthetic
from datadistill.synthetic.start_images import start_images
from datadistill.synthetic.synthetic import LABELS
from datadistill.theta import trainable
from datadistill.training.starts_from_config import Starts, norm_of


def synthetic_of(
    config: DistillConfig,
    data: RealData,
    tensors: int,
    objective: Objective,
    make_decoder: Callable[..., Decoder],
    older: DistilledDataset | None,
    step_size: float,
) -> Synthetic:
    """The set at its start, for a net of `tensors` parameter tensors; with an older set its images
    and learned labels first."""
    k, device = len(data.classes), data.device
    decoder = make_decoder(images=k * config.ipc, shape=data.shape, classes=k)
    check_description(DECODERS, "decoder", decoder)
    ipc = decoder.count(config.ipc, data.shape, k)
    # of an attack, images in the place of class K carry label T
    classes = objective.labels(torch.arange(k * ipc, device=device) % k)
    if ipc % config.steps:
        raise UsageError(
            f"the decoder {config.decoder} makes {ipc} images of each class, which do not divide "
            f"into {config.steps} steps; choose other steps, or random minibatches (--minibatch)"
        )
    schedule = schedule_of(config, k * ipc)
    learned = config.labels in LABELS
    start = start_images(data, ipc, config.images_from, config.seed)
    logits = LABELS[config.labels].start(classes, k) if learned else None
    if older is not None:
        start[: len(older.images)] = older.images
        if logits is not None:
            logits[: len(older.images)] = LABELS[config.labels].numbers(older.labels)
    rho = step_sizes.init(config.step_sizes, step_size, schedule.steps, tensors)
    return Synthetic(
        decoder,
        decoder.init(start, generator(config.seed, "decoder")),
        classes,
        logits,
        schedule,
        rho.to(device),
        config.labels if learned else "soft",
        0 if older is None else len(older.images),
        config.boost_rate,
    )


def schedule_of(config: DistillConfig, images: int) -> Schedule:
    """The schedule of a set of so many images."""
    if config.minibatch is not None:
        drawn = Schedule.shuffled(images, config.minibatch, config.epochs, config.augment_synthetic)
        if drawn.steps > MOST_STEPS:
            raise UsageError(
                f"{config.epochs} epochs over {images} images in minibatches of "
                f"{config.minibatch} make {drawn.steps} inner steps, but there can be at most "
                f"{MOST_STEPS}; lower epochs, or raise minibatch"
            )
        return drawn
    return Schedule.equal(images, config.steps, config.epochs, config.augment_synthetic)


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
    inputs: Mapping[str, str | None] = MappingProxyType({}),
) -> DistilledDataset:
    """The set after so many iterations, with all that its file says; `inputs` are the fingerprints
    of what it was made of, by name."""
    origin = {
        "recipe": config.recipe,
        "seed": config.seed,
        "dataset": data.name,
        "split": "train",
        "iterations": iteration,
        "description": data.description,
        **inputs,
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
        loss=loss_of_labels(config.labels),
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
