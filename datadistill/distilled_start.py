"""Where the steps of a distilled set start: the values that it holds, and those that it names."""

from __future__ import annotations

import abc
import os
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from datadistill.features import FeatureNormalization
from datadistill.nets.factory import NetFactory, as_module
from datadistill.pretrained_values import load_theta_0, refuse_incomplete
from datadistill.theta import Theta, shapes_of
from datadistill.torch_defaults import use_library_defaults

if TYPE_CHECKING:
    from datadistill.data.normalization import Normalization
    from datadistill.nets.spec import NetSpec
    from datadistill.starts import Start


class InitialValues(abc.ABC):
    """The part of a `DistilledDataset` that has theta_0 and what goes with it: all of it in the
    set's file, or the set's own tensors and the name of the weights that give the others."""

    images: Tensor
    normalization: Normalization
    net: NetSpec
    start: Start
    trained: tuple[str, ...]
    own: tuple[str, ...]
    by_reference: bool
    _theta_0: Theta | None
    _buffers: Theta | None

    @abc.abstractmethod
    def build(self) -> nn.Module: ...

    @abc.abstractmethod
    def to(self, device: torch.device | str) -> Self: ...

    @abc.abstractmethod
    def _replace(self, **changes: Any) -> Self: ...

    @property
    def theta_0(self) -> Theta | None:
        """The initial parameters that a set for one initialization was learned for; UsageError
        where its file names them and they have not been passed (`with_weights`)."""
        self._refuse_incomplete()
        return self._theta_0

    @theta_0.setter
    def theta_0(self, theta_0: Theta | None) -> None:
        self._theta_0 = theta_0

    @property
    def buffers(self) -> Theta | None:
        """The buffers and frozen parameters that go with theta_0; see there."""
        self._refuse_incomplete()
        return self._buffers

    @buffers.setter
    def buffers(self, buffers: Theta | None) -> None:
        self._buffers = buffers

    @property
    def carried(self) -> Theta:
        """The tensors of theta_0 and buffers that its file holds."""
        found = {**(self._theta_0 or {}), **(self._buffers or {})}
        return {k: x for k, x in found.items() if not self.by_reference or k in self.own}

    @property
    def own_values(self) -> Theta:
        """The tensors of `own`."""
        return {k: x for k, x in self.carried.items() if k in self.own}

    @property
    def has_reestimated_statistics(self) -> bool:
        """Whether statistics of BatchNorm were re-estimated for it, and are its own."""
        return any(k.split(".")[-1] == "running_mean" for k in self.own)

    @property
    def is_complete(self) -> bool:
        """Whether the values that its steps start from are at hand, not only named."""
        at_hand = len(self._theta_0 or {}) + len(self._buffers or {})
        return not self.by_reference or at_hand > len(self.own)

    @property
    def needs_weights(self) -> bool:
        """Whether its file names values that have not been passed: those that its steps start from,
        or the backbone's of a set of features."""
        scale = self.normalization
        return not self.is_complete or (
            isinstance(scale, FeatureNormalization) and scale.backbone is None
        )

    def _refuse_incomplete(self) -> None:
        if not self.is_complete:
            refuse_incomplete(self)

    @use_library_defaults()
    def with_weights(
        self,
        weights: str | os.PathLike[str] | nn.Module,
        net: nn.Module | NetFactory | None = None,
        *,
        download: bool = True,
    ) -> Self:
        """A copy that has the pretrained values which its file names; itself where it has them. Of
        a set of features they are the backbone's, which `normalization` makes features with.

        Args:
            weights: their file, "imagenet" for torchvision's, or a net that has the values.
            net: your module, for a set that was learned with one, where `weights` are a file.
            download: whether torchvision's weights may be fetched.

        Raises:
            DataError: weights that do not fit the net, or with another checksum than the file has.
        """
        own = None if net is None else as_module(net, 0, "weights", 0, 0)
        if isinstance(self.normalization, FeatureNormalization):
            with_backbone = self.normalization.with_backbone(weights, own, download)
            return self._replace(normalization=with_backbone)
        if self.is_complete:
            return self
        theta_0, buffers = load_theta_0(self, weights, own, download)
        device = self.images.device
        return self._replace(theta_0=theta_0, buffers=buffers).to(device)

    def is_for(self, net: nn.Module) -> bool:
        """Whether the theta_0 that the set carries is one of `net`: the same tensors are
        trained."""
        carried = self.buffers or {}
        values = {
            k: p.shape for k, p in net.named_parameters() if p.requires_grad and k not in carried
        }
        return self.theta_0 is not None and shapes_of(self.theta_0) == values
