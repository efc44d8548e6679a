"""Distillation on noisy images: teacher and student answer on x + xi, xi = sigma * n, n ~ N(0, I).

Reference: Srinivas and Fleuret, Knowledge Transfer with Jacobian Matching, ICML 2018,
https://arxiv.org/abs/1803.00443, proposition 1
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from datadistill.nets.layers import check_choice
from kd_baselines.features import cast_images, logits_in
from kd_baselines.losses.checks import (
    NOT_GIVEN,
    check_draws,
    check_sigma,
    check_temperature,
    one_name,
)
from kd_baselines.losses.input_gradients import Net
from kd_baselines.losses.logit_regression import logit_regression_loss
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.soft_targets import soft_target_loss
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["InputNoise", "input_noise_loss"]

Match = Literal["kd", "logits"]


def input_noise_loss(
    student: Net,
    teacher: Net,
    x: Float[Tensor, "b ..."],
    sigma: float,
    loss: Match = "kd",
    T: float = 1.0,
    samples: int = 1,
    *,
    teacher_noisy: bool = True,
    generator: torch.Generator | None = None,
    temperature: float = NOT_GIVEN,
) -> Float[Tensor, ""]:
    """`soft_target_loss` or `logit_regression_loss` on noisy images, mean over the batch and the
    draws.

    By Srinivas and Fleuret 2018, proposition 1, it is Jacobian matching by sampling: with "logits"
    its mean over the noise is `logit_regression_loss` + sigma^2/2 `jacobian_matching_loss`, exactly
    so for logits that are affine over the noise's reach (ReLU and max-pooling nets inside one
    linear region). Smooth nets add (sigma^2/2) sum_i f_i Lap f_i + O(sigma^4) with f = T - S.

    Both nets are called as they are: BatchNorm in training mode normalizes with the noisy batch,
    and writes its running statistics, as on any images that a net is trained on.

    Args:
        student: images -> (B,K).
        teacher: images -> (B,K); no gradient flows to it.
        x: images, any shape behind the batch; they are not changed.
        sigma: deviation of the noise, 0 or more, in the units of x (normalized images: of their
            deviation).
        loss: "kd": `soft_target_loss`; "logits": `logit_regression_loss`.
        T: temperature of "kd", above 0.
        samples: draws of the noise an image, at least 1; each is one more pass of both nets.
        teacher_noisy: the teacher sees the same noisy images, as proposition 1 has it; False: it
            sees the clean ones, and the student learns to ignore the noise.
        generator: of the noise, on the images' device; None: torch's own.
        temperature: another name of T.

    Example:
        >>> net = torch.nn.Linear(3, 2)
        >>> input_noise_loss(net, net, torch.zeros(4, 3), sigma=0.5, loss="logits").item()
        0.0
    """
    T = one_name("T", T, 1.0, temperature=temperature)
    _check(sigma, loss, T, samples)
    x = x.detach()
    with torch.no_grad():
        clean = None if teacher_noisy else teacher(x)
    values = []
    for _ in range(samples):
        noisy = x + sigma * torch.randn(
            x.shape, generator=generator, dtype=x.dtype, device=x.device
        )
        with torch.no_grad():
            theirs = teacher(noisy) if clean is None else clean
        ours = logits_in(
            student(cast_images(student, noisy)), "the student", (len(noisy), theirs.shape[1])
        )
        values.append(
            logit_regression_loss(ours, theirs)
            if loss == "logits"
            else soft_target_loss(ours, theirs, T)
        )
    return torch.stack(values).mean()


class InputNoise(Term):
    """`input_noise_loss` of the step. Each draw is one more pass of the student, and of the teacher
    where it sees the noise too. An arithmetic ensemble is softened net by net."""

    def __init__(
        self,
        sigma: float,
        loss: Match = "kd",
        temperature: float = 1.0,
        samples: int = 1,
        weight: Weight = 1.0,
        teacher_noisy: bool = True,
        name: str | None = None,
        *,
        T: float = NOT_GIVEN,
    ) -> None:
        super().__init__(weight, name)
        T = one_name("temperature", temperature, 1.0, T=T)
        _check(sigma, loss, T, samples)
        self.sigma, self.loss, self.T, self.samples, self.teacher_noisy = (
            sigma,
            loss,
            T,
            samples,
            teacher_noisy,
        )
        self.needs = Needs(student=True, teacher=teacher_noisy, teacher_logits=not teacher_noisy)

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        assert seen.student is not None, "InputNoise declares the student in its needs"
        T = self.T if self.loss == "kd" else 1.0

        def teach(images: Tensor) -> Tensor:
            if not self.teacher_noisy:
                return seen.soften_teacher(T)
            assert seen.teacher is not None, "InputNoise declares the teacher in its needs"
            # a cache looks up clean images alone
            online = getattr(seen.teacher, "teacher", seen.teacher)
            outputs = getattr(online, "outputs", None)  # a `Teacher`; a plain callable has none
            return seen.teacher(images) if T == 1 or outputs is None else outputs(images).at(T)

        return input_noise_loss(
            seen.student,
            teach,
            seen.images,
            self.sigma,
            self.loss,
            self.T,
            self.samples,
            teacher_noisy=self.teacher_noisy,
            generator=seen.generator("input_noise"),
        )


def _check(sigma: float, loss: Match, T: float, samples: int) -> None:
    check_sigma(sigma)
    check_choice("loss", loss, get_args(Match))
    check_temperature(T)
    check_draws("samples", samples)
