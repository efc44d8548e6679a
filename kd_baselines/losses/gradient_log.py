"""What the gradient of BAN's loss is made of, logged over a training and left out of its loss.

Notation: as in `kd_baselines.losses.born_again`; g = q - p is the gradient in the logits of one
image, (K,), times B; * its label; w = `cwtm_weights` of the batch.

    dark_knowledge   mean over the batch of sum_{i != *} g_i^2
    ground_truth     mean over the batch of g_*^2; the two add up to the mean of |g|^2
    least_weight     min_s B w_s    the importance weights: 1 where all images count the same
    most_weight      max_s B w_s

Squares are logged because they add up: as numbers the two parts of g itself cancel
(`gradient_parts`).

Reference: Furlanello et al., Born-Again Neural Networks, ICML 2018, eqs. 5 to 10,
https://arxiv.org/abs/1805.04770
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from kd_baselines.losses.born_again import cwtm_weights, gradient_parts
from kd_baselines.losses.term import Needs, Objective, Seen, Term

__all__ = ["GradientLog", "Quantity", "log_gradient"]

Quantity = Literal["dark_knowledge", "ground_truth", "least_weight", "most_weight"]


class GradientLog(Term):
    """One of the numbers above, under its name, with weight 0 and without gradient: it is reported
    and trains nothing, whatever the student learns by.

    Args:
        quantity: "dark_knowledge", "ground_truth", "least_weight" or "most_weight".
    """

    needs = Needs.both_logits()

    def __init__(self, quantity: Quantity) -> None:
        super().__init__(weight=0.0, name=quantity)
        self.quantity = quantity

    @torch.no_grad()
    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        v = seen.soften_teacher(1.0)
        if self.quantity == "least_weight":
            return len(v) * cwtm_weights(v).min()
        if self.quantity == "most_weight":
            return len(v) * cwtm_weights(v).max()
        parts = gradient_parts(seen.require("student_logits"), v, seen.labels)
        part = parts._asdict()[self.quantity]  # divided by B, so that B |part|^2 is the mean
        return len(v) * part.square().sum()


def log_gradient() -> Objective:
    """All four: `objective + log_gradient()` trains as `objective` does, and reports them too.

    Example:
        >>> from kd_baselines import BornAgain, Distiller, Teacher
        >>> net = lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
        >>> distiller = Distiller(net(), BornAgain() + log_gradient(), Teacher(net()))
        >>> out = distiller.step((torch.randn(8, 1, 2, 2), torch.arange(8) % 3))
        >>> list(out)
        ['loss', 'bornagain', 'dark_knowledge', 'ground_truth', 'least_weight', 'most_weight']
        >>> bool(out["loss"] == out["bornagain"])
        True
    """
    return Objective(*(GradientLog(quantity) for quantity in get_args(Quantity)))
