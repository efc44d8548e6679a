"""The Lipschitz-Hausdorff bound of trained nets: how far a student may be from its teacher on the
source images, by what it is on the target images.

Notation: f = T - S, the teacher's logits minus those of the student's source head; D_src and D_tgt
sets of images; H_a the asymmetric Hausdorff distance; K a Lipschitz constant of f.

    max_{D_src} ||f||  <=  max_{D_tgt} ||f|| + K H_a(D_src, D_tgt)          (hausdorff.source_bound)

K of a net is not known. Two numbers stand for it:

    on pairs     the largest ||f(x) - f(y)|| / ||x - y|| of a source image x and its nearest target
                 image y: the smallest K by which the proof holds on these images
    by layers    K_T + K_S, each a product over layers (hausdorff.lipschitz_bound), which holds for
                 all images and may be far too large

Reference: Srinivas and Fleuret, Knowledge transfer with Jacobian matching, 2018,
https://arxiv.org/abs/1803.00443, section 5
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from kd_baselines.hausdorff import lipschitz_bound, nearest, source_bound

__all__ = ["Bound", "bound_by_layers", "measure_bound"]

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Bound:
    """Both sides of the bound.

    Args:
        source_images, target_images: how many.
        distance: H_a(D_src, D_tgt).
        lipschitz: K on pairs.
        target_gap: max of ||f|| over D_tgt.
        source_gap: max of ||f|| over D_src, the left side.
        mean_source_gap: mean of ||f|| over D_src.
        by_layers: K_T + K_S; None where it is not known.
    """

    source_images: int
    target_images: int
    distance: float
    lipschitz: float
    target_gap: float
    source_gap: float
    mean_source_gap: float
    by_layers: float | None = None

    @property
    def right(self) -> float:
        """The right side, with K on pairs."""
        return source_bound(self.target_gap, self.lipschitz, self.distance)

    @property
    def right_by_layers(self) -> float | None:
        """The right side, with K by layers."""
        if self.by_layers is None:
            return None
        return source_bound(self.target_gap, self.by_layers, self.distance)


@torch.no_grad()
def measure_bound(
    teacher: Function,
    student: Function,
    source: Float[Tensor, "n ..."],
    target: Float[Tensor, "m ..."],
    *,
    features: Function | None = None,
    by_layers: float | None = None,
    batch: int = 500,
) -> Bound:
    """Measure both sides of the bound on two sets of images.

    Args:
        teacher: images (B,...) to logits (B,K).
        student: likewise, of the source classes.
        source: D_src, 1 image or more.
        target: D_tgt, of the same shape.
        features: images (B,...) to (B,...), between which distances are measured; None: the images
            themselves. The bound then speaks of f as a function of the features, and `by_layers`
            must be None.
        by_layers: a Lipschitz constant of f that is known, as `bound_by_layers` gives it.
        batch: images at once.

    Example:
        >>> one, three = torch.tensor([[1.0]]), torch.tensor([[3.0], [2.0]])
        >>> found = measure_bound(lambda x: 2 * x, lambda x: 0 * x, source=three, target=one)
        >>> found.distance, found.lipschitz, found.right, found.source_gap  # 2 + 2 * 2 = 6
        (2.0, 2.0, 6.0, 6.0)
    """
    if features is not None and by_layers is not None:
        raise UsageError(
            "a constant by layers is of distances between images, and here they are between "
            "features; leave one out"
        )

    def on(function: Function, images: Tensor) -> Tensor:
        return torch.cat([function(part) for part in images.split(batch)])

    gaps = []
    for images in (source, target):
        theirs, ours = on(teacher, images), on(student, images)
        if theirs.shape != ours.shape:
            raise UsageError(
                f"the teacher makes {tuple(theirs.shape)} of {len(images)} images and the student "
                f"{tuple(ours.shape)}; compare logits of the same classes (a second head's)"
            )
        gaps.append(theirs - ours)
    points = [images if features is None else on(features, images) for images in (source, target)]
    distances, places = nearest(*points)
    steps = (gaps[0] - gaps[1][places]).norm(dim=1)
    apart = distances > 0
    slopes = steps[apart] / distances[apart]
    sizes = [gap.norm(dim=1) for gap in gaps]
    return Bound(
        len(source),
        len(target),
        float(distances.amax()),
        float(slopes.amax()) if len(slopes) else 0.0,
        float(sizes[1].amax()),
        float(sizes[0].amax()),
        float(sizes[0].mean()),
        by_layers,
    )


def bound_by_layers(teacher: nn.Module, student: nn.Module, head: str = "source") -> float | None:
    """K_T + K_S of two nets with `as_sequential` (`kd_baselines.nets.thin_deep`), the student's of
    the head that `two_headed` gave it; None for others."""
    found = []
    for net in (teacher, getattr(student, "trunk", student)):
        as_sequential = getattr(net, "as_sequential", None)
        if as_sequential is None:
            return None
        *layers, last = as_sequential().eval()
        found.append(lipschitz_bound(nn.Sequential(*layers, getattr(last, head, last))))
    return sum(found)
