"""Fine-tuning of a net's head with a set of features.

    W z + b,  z = (phi - mean) / std     ->     last layer:  W / std phi + b - W mean / std

The head is trained on the set, and compared with ordinary training, on features of images that go
through the net's body once; then it takes the place of the net's last layer.
"""

from __future__ import annotations

from dataclasses import replace

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
from datadistill.training.adapted_net import FineTuning
from datadistill.training.net_finetuning import tune_net
from datadistill.training.ordinary_finetuning import percent_of


def tune_head(d: DistilledDataset, net: nn.Module, images: RealData, *, seed: int) -> FineTuning:
    """Take the steps of a set of features with a linear layer as the set's own scheme draws it, and
    put it into a copy of the net, on the device of the images; see `finetune`.

    Raises:
        UsageError: a net that cannot take the head.
        DataError: another net than the set's backbone.
    """
    scale = d.with_weights(net).normalization
    assert isinstance(scale, FeatureNormalization)
    own, some = copy_net(net).to(images.device), images.train.images[:TRIED]
    check_linear_head(own, some, len(d.classes))
    features = to_features(images, scale)
    head = d.build().to(images.device)
    fresh = net_with(head, Random(head, d.net.init, seed, "train_theta_0").draw(0))
    tuning = tune_net(d, fresh, features, seed=seed)
    before = percent_before(own, images, features)
    return replace(
        tuning,
        net=put_head(own, tuning.net, scale, some),
        accuracy_before=before,
        accuracy_fresh=tuning.accuracy_before,
        head=tuning.net,
        features=features,
        meta={
            **tuning.meta,
            "net": scale.net,
            "normalization": scale.base,
            "accuracies": {**tuning.meta["accuracies"], "before": before},
        },
    )


def percent_before(net: nn.Module, images: RealData, features: RealData) -> float:
    """Percent of the test images that a net classifies right as it is; from their features where
    its last layer makes the logits."""
    if not is_linear_head(net, images.train.images[:TRIED]):
        return percent_of(net, images.test)
    test = features.test
    raw = features.normalization.inverse(test.images).flatten(1)
    found = head_logits(net, raw).argmax(1)
    return 100.0 * int((found == test.labels).sum()) / len(test)


@torch.no_grad()
def put_head(
    net: nn.Module, head: nn.Module, scale: FeatureNormalization, images: torch.Tensor
) -> nn.Module:
    """A copy of a net with a head for normalized features in the place of its last layer;
    UsageError where, on some images, a linear head cannot stand there."""
    weight, bias = head.parameters()
    mean, std = (torch.tensor(x).to(weight) for x in (scale.mean, scale.std))
    return put_linear_head(net, weight / std, bias - weight @ (mean / std), images)
