"""Real images as features of a frozen backbone, which each of them goes through once."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.data import RealData, Split
from datadistill.data.held_out import HeldOut
from datadistill.errors import DataError, UsageError
from datadistill.features import FeatureNormalization, fingerprint_of
from datadistill.nets.head import features_of
from datadistill.nets.spec import NetSpec
from datadistill.pretrained_values import name_of
from datadistill.runs.tensors import checksum

__all__ = ["measure_features", "to_features"]

KEPT = 4
"""Splits whose features stay in memory, for a test after learning."""
PROBES = 4
"""Images whose features, computed each time, tell forwards with the same values apart."""


def measure_features(
    real: RealData, backbone: nn.Module, spec: NetSpec, weights: str | None
) -> FeatureNormalization:
    """The normalization of features, measured on the training split; `backbone` is on the device of
    the data."""
    if real.normalization.tensors:
        raise UsageError(
            f"the images went through a normalization of kind {real.normalization.kind}, and a "
            "backbone takes those with a mean and a deviation a channel; load them so"
        )
    fingerprint = fingerprint_of(backbone)
    features = _kept_features(real.train, backbone, fingerprint).double()
    mean = features.mean(0)
    std = float((features - mean).square().mean().sqrt())
    if not (0 < std < float("inf")):
        raise DataError(
            f"the features of {spec.title} have the deviation {std} over "
            f"{len(features)} images of {real.name}; pass weights of a trained net"
        )
    return FeatureNormalization(
        tuple(mean.float().tolist()),
        (torch.tensor(std).item(),) * len(mean),
        size=1,
        channels=len(mean),
        base=real.normalization,
        net=spec,
        weights=None if weights is None else name_of(weights),
        fingerprint=fingerprint,
        backbone=backbone,
    )


def to_features(real: RealData, normalization: FeatureNormalization) -> RealData:
    """Real images as normalized features. The test split goes through the backbone when it is asked
    for; images that went through another normalization than the backbone's are refused."""
    if isinstance(real.normalization, FeatureNormalization):
        if real.normalization != normalization:
            raise DataError(
                f"the data {real.name} are {real.normalization}, the set has {normalization}; "
                "pass the images themselves"
            )
        return real
    if real.normalization != normalization.base:
        raise DataError(
            f"the images of {real.name} went through {real.normalization}, those of the set "
            f"through {normalization.base}; load them with normalization=d.normalization.base"
        )

    def convert(split: Split) -> Split:
        backbone = normalization.attached().to(split.images.device)
        if not len(split):
            return Split(split.images.new_zeros(0, normalization.channels, 1, 1), split.labels)
        features = _kept_features(split, backbone, normalization.fingerprint)
        return Split(normalization.normalize(features), split.labels)

    both = f"{real.fingerprint} {normalization.fingerprint}"
    return replace(
        real,
        train=convert(real.train),
        validation=convert(real.validation),
        normalization=normalization,
        _held_out=HeldOut(partial(_convert_test, convert, real)),
        _kept={"fingerprint": hashlib.sha256(both.encode()).hexdigest()},
    )


def _convert_test(convert: Any, real: RealData) -> Split:
    return convert(real.test)


_features: dict[str, Tensor] = {}
"""Features of the latest splits, by the images, the backbone's values and what it makes of them."""


def _kept_features(split: Split, backbone: nn.Module, fingerprint: str) -> Float[Tensor, "n d"]:
    probes = features_of(backbone, split.images[:PROBES])  # another activation, another eps
    content = {"images": split.images, "probes": probes}
    key = checksum(content, {"backbone": fingerprint, "modules": repr(backbone)})
    found = _features.pop(key, None)
    if found is None:
        found = features_of(backbone, split.images)
    _features[key] = found  # the latest is last
    while len(_features) > KEPT:
        del _features[next(iter(_features))]
    return found.to(split.images.device)
