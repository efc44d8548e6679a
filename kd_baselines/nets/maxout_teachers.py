"""The maxout nets of Goodfellow et al. that taught the FitNets: three convolutions, the paper's
default hint the second (`convs.1`).

                     units        windows     pools (stride 2)   fully connected   map of convs.1
    maxout-mnist     48  48  24   8   8   5   4   4   2          -                 4 px at 28 px
    maxout-cifar10   96 192 192   8   8   5   4   4   2          500               7 px at 32 px
    maxout-svhn      64 128 128   5   5   5   3   3   3          400              10 px at 32 px

The windows and pools are those of the configurations released with the maxout paper. They give 4
pieces to the last convolution for MNIST and 5 to the fully connected layers. The FitNets paper
prints 361K parameters for the MNIST net and 9M for the CIFAR-10 net, which come out with 2 pieces
throughout (361K and 9.0M; 418K and 16.2M with 4 and 5), so 2 is the default.

References: Goodfellow et al., Maxout networks, 2013, https://arxiv.org/abs/1302.4389; Romero et
al., FitNets, 2015, https://arxiv.org/abs/1412.6550
"""

from __future__ import annotations

from kd_baselines.nets.maxout import MaxoutLayer, MaxoutNet

__all__ = ["maxout_cifar10", "maxout_mnist", "maxout_svhn"]


def maxout_mnist(
    *,
    channels: int = 1,
    size: int = 28,
    classes: int = 10,
    last_pieces: int = 2,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
) -> MaxoutNet:
    """The maxout net for MNIST: 361,066 parameters (360,816 weights) for 28 px and 10 classes.

    Images under 28 px are zero-padded to 28 px.

    Args:
        last_pieces: pieces of the last convolution; 4 in the released configuration.
        dropout: probability in [0, 1) of dropping an input of a layer but the first; 0.5 in the
            configuration, which leaves the inputs of the linear layer alone.
        input_dropout: the same of the pixels; 0.2 in the configuration.
    """
    layers = [
        MaxoutLayer(48, kernel=8, padding=0, pool=4, stride=2),  # 28 -> 21 -> 10
        MaxoutLayer(48, kernel=8, padding=3, pool=4, stride=2),  # 9 -> 4
        MaxoutLayer(24, kernel=5, padding=3, pieces=last_pieces, pool=2, stride=2),  # 6 -> 3
    ]
    return MaxoutNet(
        channels=channels,
        size=size,
        classes=classes,
        layers=layers,
        least=28,
        dropout=dropout,
        input_dropout=input_dropout,
    )


def maxout_cifar10(
    *,
    channels: int = 3,
    size: int = 32,
    classes: int = 10,
    fc_pieces: int = 2,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
) -> MaxoutNet:
    """The maxout net for CIFAR-10, and for CIFAR-100 with 100 classes: 9.05M parameters, 725M
    multiplications.

    Images under 32 px are zero-padded to 32 px. `fc_pieces` are the pieces of the fully connected
    layer, 5 in the released configuration; dropout is as in `maxout_mnist`.
    """
    layers = [
        MaxoutLayer(96, kernel=8, padding=4, pool=4, stride=2),  # 32 -> 33 -> 16
        MaxoutLayer(192, kernel=8, padding=3, pool=4, stride=2),  # 15 -> 7
        MaxoutLayer(192, kernel=5, padding=3, pool=2, stride=2),  # 9 -> 5
    ]
    return MaxoutNet(
        channels=channels,
        size=size,
        classes=classes,
        layers=layers,
        least=32,
        fc=500,
        fc_pieces=fc_pieces,
        dropout=dropout,
        input_dropout=input_dropout,
    )


def maxout_svhn(
    *,
    channels: int = 3,
    size: int = 32,
    classes: int = 10,
    fc_pieces: int = 2,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
) -> MaxoutNet:
    """The maxout net for SVHN: 4.93M parameters for 32 px, three channels and 10 classes; as
    `maxout_cifar10`."""
    layers = [
        MaxoutLayer(64, kernel=5, padding=4, pool=3, stride=2),  # 32 -> 36 -> 18
        MaxoutLayer(128, kernel=5, padding=3, pool=3, stride=2),  # 20 -> 10
        MaxoutLayer(128, kernel=5, padding=3, pool=3, stride=2),  # 12 -> 6
    ]
    return MaxoutNet(
        channels=channels,
        size=size,
        classes=classes,
        layers=layers,
        least=32,
        fc=400,
        fc_pieces=fc_pieces,
        dropout=dropout,
        input_dropout=input_dropout,
    )
