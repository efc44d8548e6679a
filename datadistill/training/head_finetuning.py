"""Fine-tuning of a net's head with a set of features.

    W z + b,  z = (phi - mean) / std     ->     last layer:  W / std phi + b - W mean / std

The head is trained on the set, and compared with ordinary training, on features of images that go
through the net's body once; then it takes the place of the net's last layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from datadistill.data import RealData
from datadistill.distilled import DistilledDataset
from datadistill.features import FeatureNormalization
from datadistill.nets.copying import copy_net
from datadistill.nets.head import (
    TRIED,
    check_linear_head,
    head_logits,
    is_linear_head,
    put_linear_head,
)
from datadistill.real_features import to_features
from datadistill.starts import Random
from datadistill.theta import net_with
from datadistill.training.ordinary_finetuning import percent_of

if TYPE_CHECKING:
    from datadistill.training.adapted_net import FineTuning


@dataclass(frozen=True)
class HeadTuning:
    """A net whose head a set of features is for.

    Args:
        d: the set, with the net as its backbone.
        net: the user's, on the device of the data.
        images: real data as images.
        features: the same as the set has them.
    """

    d: DistilledDataset
    net: nn.Module
    images: RealData
    features: RealData

    @classmethod
    def of(cls, d: DistilledDataset, net: nn.Module, images: RealData) -> HeadTuning:
        """For a set of features; DataError for another net than its backbone, UsageError for one
        that cannot take the head."""
        whole = d.with_weights(net)
        own = copy_net(net).to(images.device)
        check_linear_head(own, images.train.images[:TRIED], len(d.classes))
        return cls(whole, own, images, to_features(images, _features_of(whole)))

    def fresh_head(self, seed: int) -> nn.Module:
        """A linear layer as the set's own scheme draws it, where its steps start."""
        head = self.d.build().to(self.images.device)
        return net_with(head, Random(head, self.d.net.init, seed, "train_theta_0").draw(0))

    def accuracy_before(self) -> float:
        """Percent of the test images that the net classifies right as it is."""
        if not is_linear_head(self.net, self.images.train.images[:TRIED]):
            return percent_of(self.net, self.images.test)
        test = self.features.test
        features = self.features.normalization.inverse(test.images).flatten(1)
        found = head_logits(self.net, features).argmax(1)
        return 100.0 * int((found == test.labels).sum()) / len(test)

    @torch.no_grad()
    def put_into_net(self, head: nn.Module) -> nn.Module:
        """A copy of the net with a trained head in the place of its last layer; UsageError where a
        linear head cannot stand there."""
        weight, bias = head.parameters()
        scale = _features_of(self.d)
        mean, std = (torch.tensor(x).to(weight) for x in (scale.mean, scale.std))
        some = self.images.train.images[:TRIED]
        return put_linear_head(self.net, weight / std, bias - weight @ (mean / std), some)

    def finish(self, tuning: FineTuning) -> dict[str, Any]:
        """What differs in the result for the whole net from `tuning` of the head alone."""
        accuracies = {**tuning.meta["accuracies"], "before": self.accuracy_before()}
        return {
            "net": self.put_into_net(tuning.net),
            "accuracy_before": accuracies["before"],
            "accuracy_fresh": tuning.accuracy_before,
            "head": tuning.net,
            "features": self.features,
            "meta": {
                **tuning.meta,
                "net": _features_of(self.d).net,
                "normalization": _features_of(self.d).base,
                "accuracies": accuracies,
            },
        }


def _features_of(d: DistilledDataset) -> FeatureNormalization:
    assert isinstance(d.normalization, FeatureNormalization)
    return d.normalization
