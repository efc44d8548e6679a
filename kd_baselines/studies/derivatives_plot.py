"""What a student of few points learns of a function: from its values, from its values under input
noise, and from its values and derivatives.

The teacher is a function of one number, f(x) = sin(3x) + x / 2 on [-2, 2], and the student s a
tanh net that sees it at n points. With x an equally spaced point and xi of deviation sigma, it
minimizes the mean over the points of

    values                    (s(x) - f(x))^2
    noise on inputs           (s(x + xi) - f(x + xi))^2, a new xi in each step
    values and derivatives    (s(x) - f(x))^2 + weight (s'(x) - f'(x))^2

Reference: Srinivas and Fleuret, Knowledge Transfer with Jacobian Matching, ICML 2018,
https://arxiv.org/abs/1803.00443, figure 1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.stats import deviation, format_mean, mean
from datadistill.streams import generator
from datadistill.visualize.canvas import BLUE, GREY, ORANGE, new_figure, own_style
from kd_baselines.losses import input_noise_loss, jacobian_matching_loss, logit_regression_loss

__all__ = ["CurveFits", "derivatives_figure", "fit_curves"]

WIDTH, HEIGHT = 1200, 420  # pixels
REACH = 2.0
HIDDEN = 32


def teach(x: Float[Tensor, "b 1"]) -> Float[Tensor, "b 1"]:
    """The teacher f."""
    return torch.sin(3 * x) + x / 2


@dataclass(frozen=True)
class CurveFits:
    """Students of the same points.

    Args:
        points: x, (N,1).
        grid: where the students are drawn, (G,1).
        curves: way of learning -> s on the grid for each seed, (S,G).
    """

    points: Tensor
    grid: Tensor
    curves: dict[str, Tensor] = field(default_factory=dict)

    def errors(self, way: str) -> list[float]:
        """Root mean square of s - f over the grid, of each seed."""
        gaps = self.curves[way] - teach(self.grid).squeeze(1)
        return [float(one) for one in gaps.square().mean(1).sqrt()]


def fit_curves(
    points: int = 5,
    seeds: int = 5,
    *,
    steps: int = 1000,
    lr: float = 0.01,
    sigma: float = 0.1,
    weight: float = 1.0,
) -> CurveFits:
    """Fit students to f at so many points in each of the three ways, with Adam.

    Args:
        points: n, equally spaced from -2 to 2, both among them; 2 or more.
        seeds: students of each way; they differ in their first weights, and in their noise.
        steps: of Adam with the learning rate `lr`.
        sigma: deviation of the noise, 0 or more.
        weight: of the derivatives, 0 or more.

    Example:
        >>> found = fit_curves(points=3, seeds=2, steps=1)
        >>> list(found.curves), len(found.errors("values"))
        (['values', 'noise on inputs', 'values and derivatives'], 2)
    """
    for name, value, least in (("points", points, 2), ("seeds", seeds, 1), ("steps", steps, 1)):
        if value < least:
            raise UsageError(f"{name} is {value}; give at least {least}")
    x = torch.linspace(-REACH, REACH, points)[:, None]
    grid = torch.linspace(-REACH, REACH, 401)[:, None]

    def values(net: nn.Module, noise: torch.Generator) -> Tensor:
        return 2 * logit_regression_loss(net(x), teach(x))

    def noisy(net: nn.Module, noise: torch.Generator) -> Tensor:
        return 2 * input_noise_loss(net, teach, x, sigma, "logits", generator=noise)

    def derivatives(net: nn.Module, noise: torch.Generator) -> Tensor:
        return values(net, noise) + weight * jacobian_matching_loss(net, teach, x)

    found = CurveFits(x, grid)
    ways = {"values": values, "noise on inputs": noisy, "values and derivatives": derivatives}
    for way, loss in ways.items():
        nets = [_fit(loss, seed, steps, lr) for seed in range(seeds)]
        with torch.no_grad():
            found.curves[way] = torch.stack([net(grid).squeeze(1) for net in nets])
    return found


def _fit(
    loss: Callable[[nn.Module, torch.Generator], Tensor], seed: int, steps: int, lr: float
) -> nn.Module:
    sides = (1, HIDDEN, HIDDEN, 1)
    layers = [nn.Linear(n, m) for n, m in pairwise(sides)]
    draw = generator(seed, "curve")
    with torch.no_grad():
        for layer in layers:
            layer.weight.normal_(0, layer.in_features**-0.5, generator=draw)
            layer.bias.normal_(0, 1, generator=draw)
    net = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])
    adam = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(steps):
        adam.zero_grad()
        loss(net, draw).backward()
        adam.step()
    return net


@own_style()
def derivatives_figure(found: CurveFits) -> Figure:
    """A panel for each way of learning: the teacher, the points, and each student, with the root
    mean square error over the seeds."""
    figure = new_figure(WIDTH, HEIGHT, arranged=True)
    panels: Sequence = figure.subplots(1, len(found.curves), sharey=True)
    x, truth = found.grid.squeeze(1), teach(found.grid).squeeze(1)
    for ax, (way, curves) in zip(panels, found.curves.items(), strict=True):
        for n, curve in enumerate(curves):
            label = "students, one for each seed" if n == 0 else None
            ax.plot(x, curve, color=ORANGE, linewidth=1, alpha=0.8, label=label)
        ax.plot(x, truth, color=GREY, linestyle="--", linewidth=1.6, label="teacher")
        dots = teach(found.points).squeeze(1)
        ax.plot(found.points.squeeze(1), dots, "o", color=BLUE, markersize=6, label="points")
        errors = found.errors(way)
        spread = deviation(errors) if len(errors) > 1 else None
        ax.set_title(f"{way}: error {format_mean(mean(errors), spread)}", fontsize=10)
        ax.set(xlabel="x", ylim=(float(truth.min()) - 1, float(truth.max()) + 1))
    panels[0].set_ylabel("output")
    panels[0].legend(loc="upper left", fontsize=8)
    return figure
