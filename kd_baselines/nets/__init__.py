"""Architectures of the knowledge-distillation papers, by name.

    net = kd_baselines.nets.build("fitnet1", channels=3, size=32, classes=10)

`datadistill.nets` looks names up in `KD_NETS` too. Every net takes `channels` and `size`, the side
in pixels, of its images, and `classes`, the number of logits. To add one, add a file and a line to
`KD_NETS`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from datadistill.nets import arguments, build
from kd_baselines.nets.cifar_resnet import CIFAR_RESNETS, CifarResNet
from kd_baselines.nets.cifar_vgg import CIFAR_VGGS, CifarVGG
from kd_baselines.nets.counting import multiplications, parameters
from kd_baselines.nets.dense_residual import DenseResidualNet
from kd_baselines.nets.densenet import DenseNet
from kd_baselines.nets.fitnets import fitnet1, fitnet2, fitnet3, fitnet4, fitnet_depth, fitnet_mnist
from kd_baselines.nets.hints import HINTS, hints
from kd_baselines.nets.maxout import MaxoutConv2d, MaxoutLayer, MaxoutLinear, MaxoutNet
from kd_baselines.nets.maxout_teachers import maxout_cifar10, maxout_mnist, maxout_svhn
from kd_baselines.nets.mlp_dropout import MLPDropout
from kd_baselines.nets.mobilenet_v2 import MobileNetV2
from kd_baselines.nets.preresnet import PreResNet
from kd_baselines.nets.shufflenet import ShuffleNetV1, ShuffleNetV2
from kd_baselines.nets.small_vgg import SmallVGG, vgg4, vgg9
from kd_baselines.nets.thin_deep import PlainCNN, thin_cnn, wide_cnn
from kd_baselines.nets.wide_resnet import CIFAR_WIDE_RESNETS, WideResNet

__all__ = [
    "HINTS",
    "KD_NETS",
    "CifarResNet",
    "CifarVGG",
    "DenseNet",
    "DenseResidualNet",
    "MLPDropout",
    "MaxoutConv2d",
    "MaxoutLayer",
    "MaxoutLinear",
    "MaxoutNet",
    "MobileNetV2",
    "PlainCNN",
    "PreResNet",
    "ShuffleNetV1",
    "ShuffleNetV2",
    "SmallVGG",
    "WideResNet",
    "arguments",
    "build",
    "hints",
    "multiplications",
    "parameters",
]

KD_NETS: dict[str, Callable[..., nn.Module]] = {
    "mlp-dropout": MLPDropout,
    "maxout-mnist": maxout_mnist,
    "maxout-cifar10": maxout_cifar10,
    "maxout-svhn": maxout_svhn,
    "fitnet-mnist": fitnet_mnist,
    "fitnet1": fitnet1,
    "fitnet2": fitnet2,
    "fitnet3": fitnet3,
    "fitnet4": fitnet4,
    "fitnet-depth": fitnet_depth,
    "wide-cnn": wide_cnn,
    "thin-cnn": thin_cnn,
    "vgg9": vgg9,
    "vgg4": vgg4,
    "wrn": WideResNet,
    "densenet": DenseNet,
    "preresnet": PreResNet,
    "dense-residual": DenseResidualNet,
    # of RepDistiller, by its names
    **CIFAR_RESNETS,
    **CIFAR_VGGS,
    **CIFAR_WIDE_RESNETS,
    "MobileNetV2": MobileNetV2,
    "ShuffleV1": ShuffleNetV1,
    "ShuffleV2": ShuffleNetV2,
}
