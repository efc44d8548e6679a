"""The layers of the papers' hints: which layer of the student learns from which of the teacher.

The FitNets' are those of Tables 6 and 7; layers are counted from 1 there, so that "hint 6 <- 2" is
the student's `convs.5` and the teacher's `convs.1`. The MNIST net's is that of the released
configuration, 4 <- 2. The paper's text says: the middle layer of each.

Reference: Romero et al., FitNets, 2015, https://arxiv.org/abs/1412.6550
"""

from __future__ import annotations

from typing import Any

from datadistill.errors import UsageError, suggest
from kd_baselines.nets.thin_deep import ends_of_groups

__all__ = ["HINTS", "hints"]

HINTS: dict[str, tuple[str, str]] = {  # student -> its guided layer, the teacher's hint layer
    "fitnet1": ("convs.5", "convs.1"),
    "fitnet2": ("convs.5", "convs.1"),
    "fitnet3": ("convs.7", "convs.1"),
    "fitnet4": ("convs.10", "convs.1"),
    "fitnet-depth": ("convs.6", "convs.1"),
    "fitnet-mnist": ("convs.3", "convs.1"),
    "thin-cnn": ("convs.7", "convs.1"),
}
DEPTH_GUIDED = {5: 2, 7: 4, 9: 5, 11: 7}  # layers -> guided layer, from 1


def hints(student: str, **args: Any) -> tuple[str, str]:
    """The guided layer of a student (a key of `HINTS`) and the hint layer of its teacher
    (`maxout-*`; of thin-cnn: `wide-cnn`). Of the student's arguments only those that move the layer
    are read.

    Of thin-cnn, the guided layer is the last of the second group of convolutions, whose map is as
    large as the teacher's; with fewer than two pools it is the middle one.

    >>> hints("fitnet4"), hints("fitnet-depth", layers=5), hints("thin-cnn", depth=9)
    (('convs.10', 'convs.1'), ('convs.1', 'convs.1'), ('convs.5', 'convs.1'))
    """
    if student not in HINTS:
        raise UsageError(
            f"there is no choice of layers for {student!r}; name them yourself "
            f"({suggest(str(student), HINTS)})"
        )
    guided, hint = HINTS[student]
    if student == "fitnet-depth":
        layers = args.get("layers", 11)
        if layers not in DEPTH_GUIDED:
            raise UsageError(
                f"layers is {layers!r}; the study of depth has {', '.join(map(str, DEPTH_GUIDED))}"
            )
        guided = f"convs.{DEPTH_GUIDED[layers] - 1}"
    if student == "thin-cnn":
        depth, pools = args.get("depth", 12), args.get("pools", 3)
        guided = f"convs.{ends_of_groups(depth, pools)[1] if pools > 1 else (depth - 1) // 2}"
    return guided, hint
