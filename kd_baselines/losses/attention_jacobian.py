"""Matching the Jacobian of attention maps at the teacher's brightest pixel.

Reference: Srinivas and Fleuret, Knowledge transfer with Jacobian matching, 2018,
https://arxiv.org/abs/1803.00443, section 5.2.1
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from datadistill.errors import UsageError
from kd_baselines.features import Layer, run
from kd_baselines.losses.attention import attention_map, check_maps, check_power, to_same_size
from kd_baselines.losses.checks import check_layers
from kd_baselines.losses.input_gradients import (
    make_leaf,
    mixes_samples,
    per_sample,
    refuse_mixing,
    refuse_once_differentiable,
)
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["AttentionJacobian", "attention_jacobian_loss"]

# of the batch's root mean square norm: shorter gradients are divided by it, not by their own norm
FLOOR = 1e-3


def attention_jacobian_loss(
    student_maps: Callable[[Tensor], Tensor],
    teacher_maps: Callable[[Tensor], Tensor],
    x: Float[Tensor, "b c h w"],
) -> Float[Tensor, ""]:
    """2 - 2 cos of the angle between input gradients of attention maps, mean over the batch.

    For one image x, with the maps A_S and A_T (H,W), (i,j) = argmax A_T, f = A_T at (i,j), g = A_S
    at (i,j):

        || grad_x f / ||grad_x f||_2 - grad_x g / ||grad_x g||_2 ||_2^2        in [0, 4]

    summed over the pixels and channels of x (Srinivas and Fleuret 2018, section 5.2.1). The student
    learns through grad_x g, so the gradient of the loss goes through a second derivative of the
    student.

    Of several brightest pixels the first counts. A gradient whose norm is below 1e-3 of the batch's
    root mean square is divided by that instead of by its own norm, and so is no unit vector: the
    factor 1 / ||grad||, which the backward pass meets again, stays bounded.

    Args:
        student_maps: images (B,C,H,W) to maps (B,h,w), each image for itself. BatchNorm in training
            mode mixes the images of a batch, and there is no gradient of a sample: a module is run
            with its running statistics, which are not written; in a function of your own that is up
            to you.
        teacher_maps: likewise. Its weights get no gradient. The larger map is averaged down.
        x: (B,C,H,W); it gets no gradient.

    Example:
        >>> x = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
        >>> conv = torch.nn.Conv2d(1, 2, 3)
        >>> maps = lambda images: attention_map(conv(images))
        >>> attention_jacobian_loss(maps, lambda images: 3 * maps(images), x).item() < 1e-10
        True
    """
    x = make_leaf(x)
    with torch.enable_grad():
        with per_sample(student_maps):
            student = student_maps(x)
        with per_sample(teacher_maps, "teacher", evaluation=True):
            teacher = teacher_maps(x)
        loss = _of_maps(student, teacher, x)
        refuse_once_differentiable(loss, student_maps, x)
    return loss


class AttentionJacobian(Term):
    """`attention_jacobian_loss` of the attention maps of pairs of layers, the student's -> the
    teacher's, summed. p of `attention_map` is 1, or at least 2 (between, the second derivative is
    infinite at 0)."""

    def __init__(
        self, layers: Mapping[str, str], p: float = 2, weight: Weight = 1.0, name: str | None = None
    ) -> None:
        super().__init__(weight, name)
        self.layers, self.p = check_layers(layers), p
        check_power(p)
        if 1 < p < 2:
            raise UsageError(
                f"p is {p}, of which |z|^p has no second derivative at 0; give 1, or 2 and more"
            )
        self.needs = Needs.layers(self.layers) | Needs(
            student_input_gradients=True, teacher_input_gradients=True, student=True, teacher=True
        )

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        student = self._student_features(seen)
        values = [
            _of_maps(
                attention_map(student[mine], self.p),
                attention_map(seen.teacher_features[theirs], self.p),
                seen.images,
            )
            for mine, theirs in self.layers.items()
        ]
        return torch.stack(values).sum()

    def prepare(self, seen: Seen) -> None:
        refuse_mixing(seen.teacher, "teacher")
        check_maps(self.layers, seen)

    def _student_features(self, seen: Seen) -> Mapping[Layer, Tensor]:
        if not mixes_samples(seen.student):
            return seen.student_features
        assert seen.student is not None
        with per_sample(seen.student):
            return run(seen.student, seen.images, sorted(self.layers), logits=False).features


def _of_maps(student: Tensor, teacher: Tensor, x: Tensor) -> Float[Tensor, ""]:
    for side, maps in (("student", student), ("teacher", teacher)):
        if maps.ndim != 3 or len(maps) != len(x):
            raise UsageError(
                f"the {side}'s maps are of shape {tuple(maps.shape)} for {len(x)} images; wanted "
                "(batch, height, width): pass attention_map(features)"
            )
    student, teacher = to_same_size(student, teacher)
    brightest = teacher.detach().flatten(1).argmax(1, keepdim=True)
    wanted = _gradient("teacher", teacher, brightest, x, create_graph=False)
    found = _gradient("student", student, brightest, x, create_graph=True)
    return (_unit(found) - _unit(wanted.detach())).square().sum(1).mean()


def _gradient(
    side: str, maps: Tensor, pixel: Tensor, x: Tensor, create_graph: bool
) -> Float[Tensor, "b d"]:
    """d maps[b, pixel of b] / d x[b], flat; the sum over b is each sample's own where samples do
    not mix."""
    picked = maps.flatten(1).gather(1, pixel).sum()
    if picked.requires_grad:
        (gradient,) = torch.autograd.grad(
            picked, x, create_graph=create_graph, retain_graph=True, allow_unused=True
        )
        if gradient is not None:
            return gradient.flatten(1)
    raise UsageError(
        f"the {side}'s maps do not depend on the images; compute them from the images that are "
        "given, without torch.no_grad and without detach"
    )


def _unit(gradients: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """v / max(||v||, FLOOR sqrt(mean_b ||v||^2)); 0 where all are 0."""
    largest = gradients.detach().abs().amax()
    # a common factor changes nothing, so it needs no gradient; it keeps the squares in range
    gradients = gradients / torch.where(largest > 0, largest, torch.ones_like(largest))
    squared = gradients.square().sum(1, keepdim=True)
    floor = squared.detach().mean() * FLOOR**2
    return (
        gradients / squared.clamp_min(torch.where(floor > 0, floor, torch.ones_like(floor))).sqrt()
    )
