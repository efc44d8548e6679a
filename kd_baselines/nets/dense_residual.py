"""A residual net in the place of a DenseNet: the same first and last layer, other blocks between.

    conv1                          of the DenseNet
    block b: n residual units      ratio * h_b channels at the end of each; the first goes there
                                   from h_(b-1)
    transition b                   BN -> ReLU -> conv 1x1 to h_b (-> 2x2 average pool after blocks 1
                                   and 2)
    norm, ReLU, mean over pixels, classifier of the DenseNet

h_b are the DenseNet's own channels behind its transitions (h_0 those of conv1): 480, 660 and 750
for DenseNet-90-60. Units are "wide" (two 3x3 convolutions) or "bottleneck" (1x1, 3x3, 1x1, a
quarter of the channels inside), with norm and ReLU before each convolution. The students of the
Born-Again paper's table 5, with 100 classes:

    student             units, ratio, kind         printed    here
    Pre-ResNet-14-0.5   14, 0.5, bottleneck        7.3M       5.7M
    Pre-ResNet-14-1     14, 1, bottleneck          17.7M      20.4M
    WRN-1-1             1, 1, wide                 20.9M      21.1M
    Match-WRN-2-1       2, 1, wide                 43.1M      43.2M
    WRN-4-0.5           4, 0.5, wide               24.3M      24.4M
    WRN-4-1             4, 1, wide                 87.3M      87.4M

The paper's: units by block and the ratio of "the corresponding dense block output after the 1x1
convolution". Ours: that a 1x1 convolution leads back to h_b, as the last layer needs at ratio 0.5
and as the wide nets' counts say (without the frozen layers' 0.08M they are within 0.1M of the
printed ones); the norms; and what is inside a bottleneck, for which no reading that we tried gives
both printed counts.

Reference: Furlanello et al., Born-Again neural networks, 2018, https://arxiv.org/abs/1805.04770,
sec. 4.1 and table 5
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.nets.layers import check_choice, check_whole
from kd_baselines.nets.densenet import DensePlan, Transition, check_pooled
from kd_baselines.nets.preresnet import PreActivationUnit, width_of

__all__ = ["DenseResidualNet"]

KERNELS = {"wide": (3, 3), "bottleneck": (1, 3, 1)}


class DenseResidualNet(nn.Module):
    """A DenseNet whose dense blocks are residual units; `conv1` and `classifier` have the
    DenseNet's shapes.

    Modules: `conv1`, `block1`, `transition1`, `block2`, `transition2`, `block3`, `transition3`,
    `norm`, `classifier`. Depth to last_transition are `DensePlan`'s, of the DenseNet that it stands
    in for; a 1x1 convolution stands after the last block either way.

    Args:
        units: residual units a block.
        ratio: channels of a unit's output over the DenseNet's behind the transition, above 0.
        kind: `wide` or `bottleneck`.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        depth: int = 40,
        growth: int = 12,
        compression: float = 0.5,
        first: int = 0,
        last_transition: bool = False,
        units: int = 1,
        ratio: float = 1.0,
        kind: Literal["wide", "bottleneck"] = "wide",
    ) -> None:
        super().__init__()
        check_pooled(channels, size, classes)
        check_whole("units", units)
        check_choice("kind", kind, KERNELS)
        plan = DensePlan(depth, growth, compression, first, last_transition)
        self.conv1 = nn.Conv2d(channels, plan.conv1, 3, padding=1, bias=False)
        before = plan.conv1
        parts: list[nn.Module] = []
        for i, hidden in enumerate(plan.hidden, 1):
            width = width_of("ratio", ratio, hidden)
            inside = width if kind == "wide" else max(1, width // 4)
            inputs = (before, *[width] * (units - 1))
            block = nn.Sequential(
                *(PreActivationUnit(n, inside, width, KERNELS[kind]) for n in inputs)
            )
            parts += [block, Transition(width, hidden, pool=i < 3)]
            before = hidden
        (
            self.block1,
            self.transition1,
            self.block2,
            self.transition2,
            self.block3,
            self.transition3,
        ) = parts
        self.norm = nn.BatchNorm2d(before)
        self.classifier = nn.Linear(before, classes)

    def forward(
        self, images: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch classes"]:
        h = self.transition1(self.block1(self.conv1(images)))
        h = self.transition3(self.block3(self.transition2(self.block2(h))))
        return self.classifier(F.relu(self.norm(h)).mean((2, 3)))
