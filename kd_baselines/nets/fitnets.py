"""FitNets: thin deep maxout nets, and the nets of the study of depth.

    blocks of maxout convolutions 3x3 (2 pieces), a max pool after each (2x2, 2x2, the whole map:
    8x8 at 32 px), 500 fully connected maxout units, one linear layer

Pieces of the fully connected layer. The paper's text and the released configurations say 5. The
printed numbers of parameters (250K, 862K and 2.5M for FitNet 1, 2 and 4; 9M for the teacher) come
out only with 2, so 2 is the default here and 5 is `fc_pieces=5`:

                weights, 2 pieces   with biases   weights, 5 pieces   multiplications   printed
    fitnet1              249.6K        251.2K                346K          30.15M       ~250K,  ~30M
    fitnet2              861.9K        864.1K               1054K         107.78M       ~862K, ~108M
    fitnet3               1.50M         1.50M               1.69M         323.95M       ~1.6M, ~392M
    fitnet4              2544.7K       2548.6K              2737K         381.75M       ~2.5M, ~382M

The row of fitnet3 cannot be had from the layers that the paper lists for it (its Table 3 prints
~1.5M for the same net). Counts are for three channels and 10 classes, multiplications with those of
the linear layers (`kd_baselines.nets.counting`).

Reference: Romero et al., FitNets: Hints for thin deep nets, 2015, https://arxiv.org/abs/1412.6550,
Tables 6, 7
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from datadistill.errors import UsageError
from datadistill.nets.layers import check_choice
from kd_baselines.nets.maxout import WHOLE, MaxoutLayer, MaxoutNet

__all__ = [
    "DEPTH_STUDY",
    "FITNETS",
    "fitnet1",
    "fitnet2",
    "fitnet3",
    "fitnet4",
    "fitnet_depth",
    "fitnet_mnist",
]

Blocks = tuple[tuple[int, ...], ...]

FITNETS: dict[str, Blocks] = {  # units of the convolutions, block by block: Table 7
    "fitnet1": ((16, 16, 16), (32, 32, 32), (48, 48, 64)),
    "fitnet2": ((16, 32, 32), (48, 64, 80), (96, 96, 128)),
    "fitnet3": ((32, 48, 64, 64), (80, 80, 80, 80), (128, 128, 128)),
    "fitnet4": ((32, 32, 32, 48, 48), (80,) * 6, (128,) * 6),
}
DEPTH_STUDY: dict[str, dict[int, Blocks]] = {  # multiplications -> layers -> units: Table 6
    "30M": {
        5: ((64,), (64,), (64,)),
        7: ((16, 32), (32, 64), (64,)),
        9: ((16, 32), (32, 32, 32), (48, 64)),
        11: FITNETS["fitnet1"],
    },
    "107M": {
        5: ((128,), (128,), (128,)),
        7: ((32, 64), (80, 80), (128,)),
        9: ((32, 32), (64, 80, 80), (96, 128)),
        11: FITNETS["fitnet2"],
    },
}
UNITS = 500  # of the fully connected maxout layer


def from_blocks(
    blocks: Sequence[Sequence[int]], channels: int, size: int, classes: int, fc_pieces: int
) -> MaxoutNet:
    """The net of a table of blocks: a 2x2 pool after each but the last, which pools the whole
    map."""
    layers: list[MaxoutLayer] = []
    for i, block in enumerate(blocks):
        layers += [MaxoutLayer(units) for units in block]
        last = i == len(blocks) - 1
        layers[-1] = replace(layers[-1], pool=WHOLE if last else 2, stride=1 if last else 2)
    return MaxoutNet(
        channels=channels,
        size=size,
        classes=classes,
        layers=layers,
        least=32,
        fc=UNITS,
        fc_pieces=fc_pieces,
    )


def fitnet1(
    *, channels: int = 3, size: int = 32, classes: int = 10, fc_pieces: int = 2
) -> MaxoutNet:
    """FitNet 1: 16 16 16 | 32 32 32 | 48 48 64; 251,194 parameters, 30.2M multiplications. Images
    under 32 px are zero-padded to 32 px, in the nets below too."""
    return from_blocks(FITNETS["fitnet1"], channels, size, classes, fc_pieces)


def fitnet2(
    *, channels: int = 3, size: int = 32, classes: int = 10, fc_pieces: int = 2
) -> MaxoutNet:
    """FitNet 2: 16 32 32 | 48 64 80 | 96 96 128; 864,122 parameters, 107.8M multiplications."""
    return from_blocks(FITNETS["fitnet2"], channels, size, classes, fc_pieces)


def fitnet3(
    *, channels: int = 3, size: int = 32, classes: int = 10, fc_pieces: int = 2
) -> MaxoutNet:
    """FitNet 3: 32 48 64 64 | 80 80 80 80 | 128 128 128; 323.9M multiplications (printed:
    ~392M)."""
    return from_blocks(FITNETS["fitnet3"], channels, size, classes, fc_pieces)


def fitnet4(
    *, channels: int = 3, size: int = 32, classes: int = 10, fc_pieces: int = 2
) -> MaxoutNet:
    """FitNet 4, 19 layers: 32 32 32 48 48 | 80 x 6 | 128 x 6; 381.8M multiplications."""
    return from_blocks(FITNETS["fitnet4"], channels, size, classes, fc_pieces)


def fitnet_depth(
    *,
    channels: int = 3,
    size: int = 32,
    classes: int = 10,
    layers: int = 11,
    budget: str = "30M",
    fc_pieces: int = 2,
) -> MaxoutNet:
    """A net of the study of depth: the same number of multiplications on 5, 7, 9 or 11 layers.

    Args:
        layers: 5, 7, 9 or 11, the fully connected and the linear layer among them.
        budget: "30M" (27.1, 29.2, 29.8, 30.1M multiplications in the convolutions) or "107M"
            (101.4, 104.4, 106.2, 107.6M).
    """
    check_choice("budget", budget, DEPTH_STUDY)
    if isinstance(layers, bool) or layers not in DEPTH_STUDY[budget]:
        known = ", ".join(map(str, DEPTH_STUDY[budget]))
        raise UsageError(
            f"layers is {layers!r}, but the study of depth has nets of {known} layers; take one"
        )
    return from_blocks(DEPTH_STUDY[budget][layers], channels, size, classes, fc_pieces)


def fitnet_mnist(
    *, channels: int = 1, size: int = 28, classes: int = 10, last_pieces: int = 2
) -> MaxoutNet:
    """The FitNet for MNIST: 16@5x5 16@3x3 | 16@5x5 16@3x3 | 12@3x3 12@3x3, then one linear layer.

    30,130 parameters (29,944 weights) for 28 px, one channel and 10 classes, as the printed 30K.
    The layers are those of the released configuration, except for the pieces of the last two
    convolutions, 4 there: that gives 35,992 weights, so 2 is the default of `last_pieces`. Images
    under 28 px are zero-padded to 28 px.
    """
    layers = [
        MaxoutLayer(16, kernel=5, padding=0),  # 28 -> 24
        MaxoutLayer(16, padding=0, pool=4, stride=2),  # 22 -> 10
        MaxoutLayer(16, kernel=5, padding=3),  # 12
        MaxoutLayer(16, padding=0, pool=4, stride=2),  # 10 -> 4
        MaxoutLayer(12, padding=3, pieces=last_pieces),  # 8
        MaxoutLayer(12, padding=0, pieces=last_pieces, pool=2, stride=2),  # 6 -> 3
    ]
    return MaxoutNet(channels=channels, size=size, classes=classes, layers=layers, least=28)
