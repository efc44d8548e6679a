"""Features of a frozen backbone in the place of images: the linear case of a large net.

    phi(x)  what the last layer of a frozen net gets of image x (nets/head.py)
    z       = (phi(x) - mean) / std         (D, 1, 1); one mean a feature, one deviation for all

The real images go through the backbone once. A set of such "images" is learned, tested and compared
as any other, by a net that is a single linear layer; its file names the backbone and has the
checksum of its values, and does not hold them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from datadistill.data.normalization import NORMALIZATIONS, Normalization, normalization_from
from datadistill.errors import DataError, UsageError
from datadistill.nets.copying import copy_net
from datadistill.nets.head import features_of
from datadistill.nets.spec import NetSpec
from datadistill.nets.trained_parameters import HEAD, parameters_of
from datadistill.nets.weights import read_weights
from datadistill.pretrained_values import checksum_of, given_values
from datadistill.runs.content import (
    Check,
    accept,
    check_fields,
    check_text,
    check_whole,
    optional,
    parse_with,
)
from datadistill.theta import put


@dataclass(frozen=True, repr=False)
class FeatureNormalization(Normalization):
    """Prepares images for a linear head: their features, normalized. `inverse` gives the features
    as the backbone makes them; no image is made of features.

    Args:
        mean, std, size, channels: of the features, size 1.
        base: what the images go through before the backbone.
        net: the backbone's architecture.
        weights: the name of its weights; None for a module of the user's own.
        fingerprint: of its values, the last layer's apart.
        backbone: the net itself; see `with_backbone`.
    """

    base: Normalization
    net: NetSpec
    weights: str | None
    fingerprint: str
    backbone: nn.Module | None = field(default=None, compare=False)
    kind: ClassVar[str] = "features"

    def __repr__(self) -> str:
        return (
            f"FeatureNormalization({self.channels} features of {self.named}, "
            f"{self.fingerprint[:19]}...)"
        )

    @property
    def words(self) -> str:
        return f"a backbone: {self!r}"

    @property
    def named(self) -> str:
        """The backbone and its weights, in words."""
        return f"{self.net.title} ({self.weights or 'its own values'})"

    def __call__(
        self, images: Tensor | Image.Image | Sequence[Image.Image]
    ) -> Float[Tensor, "*n d 1 1"]:
        """Normalized features of images, which are taken as `base` takes them."""
        x = self.base(images)
        found = self.normalize(self.features(x if x.dim() == 4 else x[None]))
        return found if x.dim() == 4 else found[0]

    def features(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Features of images that went through `base`, as the backbone makes them."""
        return features_of(self.attached().to(images.device), images)

    def normalize(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d 1 1"]:
        x = features[..., None, None]
        return (x - self._column(self.mean, x)) / self._column(self.std, x)

    def attached(self) -> nn.Module:
        """The backbone; UsageError where there is none."""
        if self.backbone is None:
            how = (
                "pass that net: d.with_weights(net)"
                if self.weights is None
                else "pass its weights (--weights; in Python d.with_weights(weights))"
            )
            raise UsageError(
                f"the set's images are features of {self.named}, which its file names "
                f"({self.fingerprint[:19]}...) and does not hold; {how}"
            )
        return self.backbone

    def with_backbone(
        self,
        weights: str | os.PathLike[str] | nn.Module,
        net: nn.Module | None = None,
        download: bool = True,
    ) -> FeatureNormalization:
        """A copy that can be called.

        Args:
            weights: a file, "imagenet" for torchvision's, or the net with its values.
            net: the architecture, for a backbone that was a module of the user's own.
            download: whether torchvision's weights may be fetched.

        Raises:
            DataError: other values than those that the set was learned with.
        """
        if isinstance(weights, nn.Module):
            backbone, name = copy_net(weights), "the net"
        else:
            backbone = self.net.build() if net is None else copy_net(net)
            name = load_body(backbone, weights, self.net, download)
        digest = fingerprint_of(backbone)
        if digest != self.fingerprint:
            raise DataError(
                f"{name} ({digest[:19]}...) is not the backbone whose features the set has: "
                f"{self.named} ({self.fingerprint[:19]}...); pass that one"
            )
        return replace(self, backbone=backbone)

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"mean": torch.tensor(self.mean), "std": torch.tensor(self.std)}

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "size": self.size,
            "channels": self.channels,
            "base": self.base.as_dict(),
            "net": self.net.as_dict(),
            "weights": self.weights,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FeatureNormalization:
        found = check_fields("normalization", values, _STORED)
        tensors = found.pop("tensors")
        if not isinstance(tensors, dict) or sorted(tensors) != ["mean", "std"]:
            raise DataError(
                "normalization: the file lacks the features' mean and std; get it again"
            )
        for name, tensor in tensors.items():
            if not isinstance(tensor, Tensor) or tensor.dim() != 1:
                raise DataError(f"normalization: {name} is no row of numbers; get the file again")
        del found["kind"]
        mean, std = (tuple(tensors[name].tolist()) for name in ("mean", "std"))
        return cls(mean, std, **found)


def _parse_base(values: Any) -> Normalization:
    base = normalization_from(values)
    if isinstance(base, FeatureNormalization) or base.tensors:
        raise DataError(f"normalization: base is of kind {base.kind}; get the file again")
    return base


_STORED: dict[str, Check] = {
    "kind": accept,
    "size": check_whole,
    "channels": check_whole,
    "base": parse_with(_parse_base),
    "net": parse_with(NetSpec.from_dict),
    "weights": optional(check_text),
    "fingerprint": check_text,
    "tensors": accept,
}

NORMALIZATIONS[FeatureNormalization.kind] = FeatureNormalization


def load_body(
    net: nn.Module, weights: str | os.PathLike[str], spec: NetSpec, download: bool = True
) -> str:
    """Write weights into a net, the last layer's where they fit, else 0 there; the weights'
    name."""
    found = read_weights(weights, net, model=spec.model, download=download)
    theta, buffers, fresh = found.fit(net)
    own = {k: net.get_parameter(k) for k in fresh}
    kept = {k: found.tensors[k] for k, p in own.items() if _has_shape(found.tensors.get(k), p)}
    head = kept if len(kept) == len(own) else {k: torch.zeros_like(p) for k, p in own.items()}
    put(net, {**theta, **buffers, **head})
    return found.source


def _has_shape(found: Tensor | None, wanted: Tensor) -> bool:
    return found is not None and found.shape == wanted.shape


def fingerprint_of(net: nn.Module) -> str:
    """The checksum of a net's values, less those of its last layer."""
    return checksum_of(given_values(net, parameters_of(net, HEAD)))
