"""Gradient matching (DC), with siamese augmentation DSA.

A net lives for O iterations; iteration i, with class k's augmentation A_k (none in DC), for one
net, or as the mean over several side by side, each trained by itself:

    theta ~ p(theta_0)                                              where i is a multiple of O
    G_k   = grad_theta CE(net(theta, A_k(real_k)), k)               detached
    H_k   = grad_theta CE(net(theta, A_k(x_k)), k)                  differentiable in x_k
    L     = sum_k D(G_k, H_k)
    x    <- outer optimizer(grad L)                                 training/outer.py
    theta <- SGD on the set for I epochs, batches of 256            unless its O iterations are over

real_k is a random batch of the real images of class k, x_k are all synthetic images of that class.
The distance D is summed over the layers, and over the rows of a layer's weight, one for each
output; biases and the scales of norm layers count nothing:

    cosine    sum_rows (|g| |h| - g.h) / (|g| |h| + epsilon)
    l1        sum |g - h|, over the weights of convolutions alone
    squared   sum (g - h)^2, over the weights of convolutions alone

The last two are IDC's. IDC itself trains the net on real images between two updates; here it is
trained on the set with every distance, so they alone do not make IDC.

The cosine distance is the authors' 1 - g.h / (|g| |h| + epsilon) less its value at g = h, which
is not zero there; so that equal gradients have the distance 0 and its derivative is 0.

References: Zhao et al., Dataset condensation with gradient matching, 2021,
https://arxiv.org/abs/2006.05929; Zhao and Bilen, Dataset condensation with differentiable siamese
augmentation, 2021, https://arxiv.org/abs/2102.08259; Kim et al., Dataset condensation via efficient
synthetic-data parameterization, 2022, https://arxiv.org/abs/2205.14959
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.data import Split
from datadistill.errors import UsageError, suggest
from datadistill.innerloop import Steps, sgd, unroll
from datadistill.innerloop.problem import InnerProblem
from datadistill.innerloop.steps import as_steps
from datadistill.methods.base import OF_NETS, OuterMethod
from datadistill.methods.class_batches import ClassBatches, check_matching
from datadistill.nets.logits import cross_entropy
from datadistill.objectives import Classification, Objective
from datadistill.starts import InitialDistribution, nets_at_once
from datadistill.streams import derive
from datadistill.synthetic import Schedule, Synthetic
from datadistill.theta import Theta, in_channels_last, trainable

__all__ = ["DISTANCES", "LOOPS", "GradientMatching", "cosine_distance", "gradient_distance"]

LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
"""Images a class -> (O, I), as published; other numbers take those of the nearest."""
EPSILON = 1e-6
NET_BATCH = 256
"""Synthetic images a step of the net's training."""


def cosine_distance(g: Float[Tensor, "o ..."], h: Float[Tensor, "o ..."]) -> Float[Tensor, ""]:
    """The cosine distance of the rows of two gradients of a weight, summed.

    Example:
        >>> g = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> cosine_distance(g, torch.tensor([[3.0, 0.0], [2.0, 0.0]]))
        tensor(1.0000)
    """
    g, h = g.flatten(1), h.flatten(1)
    norms = g.norm(dim=1) * h.norm(dim=1)
    return ((norms - (g * h).sum(1)) / (norms + EPSILON)).sum()


DISTANCES: dict[str, tuple[int, Callable[[Tensor, Tensor], Tensor]]] = {
    "cosine": (2, cosine_distance),
    "l1": (4, lambda g, h: (g - h).abs().sum()),
    "squared": (4, lambda g, h: (g - h).square().sum()),
}
"""Name -> the fewest dimensions of a weight that counts, and the distance of its gradients."""


def gradient_distance(g: Theta, h: Theta, distance: str = "cosine") -> Float[Tensor, ""]:
    """D of the gradients of one net, by name; see `DISTANCES`."""
    least, of_weight = DISTANCES[distance]
    counted = [name for name, p in g.items() if p.dim() >= least]
    return torch.stack([of_weight(g[name], h[name]) for name in counted]).sum()


@dataclass(eq=False)
class GradientMatching(OuterMethod):
    """The distance of the gradients of real and synthetic images, class by class.

    Args:
        net: the architecture, with its buffers and frozen parameters; its other values are not
            used.
        start: where theta_0 comes from.
        split: real images to learn from, on the net's device.
        classes: number of classes.
        batch: real images of each class an iteration.
        augment: strategies, applied to real and synthetic images alike (DSA), and image by image
            where the net is trained.
        nets: side by side; the loss is their mean.
        own: numbers of the nets that this process takes; None: all.
        norm: must be "frozen" for a net with BatchNorm.
        objective: must be accuracy.
        labels: of the set, must be "hard".
        seed: of real batches, augmentation and the net's training.
        outer: O, iterations of one net; 0 takes it from `LOOPS`.
        inner: I, epochs of the net's training after an iteration; 0 takes it from `LOOPS`.
        lr_net: learning rate of the net's training.
        distance: "cosine", "l1" or "squared"; the net's training is the same with each.
    """

    net: nn.Module
    start: InitialDistribution
    split: Split
    classes: int
    batch: int = 256
    augment: Sequence[str] = ()
    nets: int = 1
    own: range | None = None
    norm: str = "batch"
    objective: Objective = Classification()  # noqa: RUF009  (frozen)
    labels: str = "hard"
    seed: int = 0
    outer: int = 0
    inner: int = 0
    lr_net: float = 0.01
    distance: str = "cosine"

    def __post_init__(self) -> None:
        # number of a net -> a round, and what it is once it was trained in it
        self._trained: dict[int, tuple[int, Theta]] = {}
        check_matching(self.net, self.norm, self.augment, self.objective, self.labels)
        if self.distance not in DISTANCES:
            raise UsageError(f"distance is {self.distance!r}; {suggest(self.distance, DISTANCES)}")
        least = DISTANCES[self.distance][0]
        if all(self.net.get_parameter(name).dim() < least for name in trainable(self.net)):
            raise UsageError(
                f"distance {self.distance} counts weights of {least} dimensions or more, and none "
                "of the net is trained; choose the distance cosine, or another net"
            )
        for name, least_value in (("outer", 0), ("inner", 0), ("lr_net", 0)):
            if getattr(self, name) < least_value:
                raise UsageError(f"{name} is {getattr(self, name)}; give a number of 0 or more")

    takes_second_derivatives = matches_in_fresh_nets = True

    def loss(self, synthetic: Synthetic, iteration: int) -> Float[Tensor, ""]:
        distances = [self._distance(synthetic, iteration, n) for n in self._own]
        return torch.stack(distances).sum() / self.nets

    @property
    def _own(self) -> range:
        return range(self.nets) if self.own is None else self.own

    def _distance(self, synthetic: Synthetic, iteration: int, n: int) -> Float[Tensor, ""]:
        """The loss of net n."""
        net, theta = self._net_of(synthetic, iteration, n)
        theta = {k: p.detach().requires_grad_() for k, p in in_channels_last(theta).items()}
        stream = derive(self.seed, "dropout", iteration)
        problem = InnerProblem(
            net, theta, as_steps([]), sgd(), cross_entropy, None, self.norm, stream
        )
        problem.unchecked = True  # the gradient of the synthetic images is differentiated again
        distances = []
        for k in range(self.classes):
            own = self._gradient(
                problem, theta, self._batches.synthetic(synthetic, k, iteration), k
            )
            real = self._gradient(problem, theta, self._batches.real(k, iteration), k)
            distances.append(gradient_distance(real, own, self.distance))
        return torch.stack(distances).sum()

    def _gradient(self, problem: InnerProblem, theta: Theta, images: Tensor, k: int) -> Theta:
        """The gradient of the loss on images of class k, differentiable where they are."""
        labels = torch.full((len(images),), k, device=images.device)
        pair = (images, labels)
        return problem.gradient(theta, problem.buffers_0, k, pair, images.requires_grad)[0]

    @torch.no_grad()
    def after(self, synthetic: Synthetic, iteration: int) -> None:
        """Train the nets on the set, unless their last iteration is over."""
        if (iteration + 1) % self._loops(synthetic)[0] == 0:
            self._trained = {}
            return
        for n in self._own:
            self._train(synthetic, iteration, n)

    def _train(self, synthetic: Synthetic, iteration: int, n: int) -> None:
        outer, inner = self._loops(synthetic)
        net, theta = self._net_of(synthetic, iteration, n)
        images, labels = synthetic.images(), synthetic.labels()
        schedule = Schedule.shuffled(len(images), NET_BATCH, inner, self.augment)
        stream = derive(self.seed, "schedule", iteration)
        steps = Steps(
            {},
            lambda _, t: schedule.pair(images.__getitem__, labels, t, stream),
            schedule.steps,
        )
        rates = torch.full((steps.T,), self.lr_net, dtype=images.dtype, device=images.device)
        trained = unroll(
            net,
            in_channels_last(theta),
            steps,
            rates,
            norm=self.norm,
            stream=derive(self.seed, "net_dropout", iteration),
        )
        self._trained[n] = iteration // outer, trained

    def _net_of(self, synthetic: Synthetic, iteration: int, n: int) -> tuple[nn.Module, Theta]:
        """Net n of an iteration: fresh in its round, until it was trained."""
        round_ = iteration // self._loops(synthetic)[0]
        net, theta_0, _ = nets_at_once(self.start, self.net, round_, first=n)[0]
        # iterations that are skipped train no net, and may be the last of a round
        if n not in self._trained or self._trained[n][0] != round_:
            return net, theta_0
        return net, {k: self._trained[n][1][k].to(p.device) for k, p in theta_0.items()}

    def _loops(self, synthetic: Synthetic) -> tuple[int, int]:
        """(O, I) for a set."""
        ipc = len(synthetic.classes) // self.classes
        outer, inner = LOOPS[min(LOOPS, key=lambda n: abs(n - ipc))]
        return self.outer or outer, self.inner or inner

    @cached_property
    def _batches(self) -> ClassBatches:
        return ClassBatches(self.split, self.batch, self.augment, self.seed)

    def diagnose(self, synthetic: Synthetic, iteration: int) -> str:
        thetas = [self._net_of(synthetic, iteration, n)[1] for n in self._own]
        if all(bool(torch.isfinite(p).all()) for theta in thetas for p in theta.values()):
            return ""
        return (
            f"the net stopped being finite while it was trained on the set at the rate "
            f"{self.lr_net:g}, lower lr_net (--method-args)"
        )

    def state(self) -> dict[str, Any]:
        kept = {n: {"round": at, "theta": theta} for n, (at, theta) in self._trained.items()}
        return {OF_NETS: kept} if self.nets > 1 else kept.get(0, {})

    def load(self, state: Mapping[str, Any]) -> None:
        kept = state.get(OF_NETS, {0: state} if state else {})
        self._trained = {
            n: (one["round"], dict(one["theta"])) for n, one in kept.items() if n in self._own
        }
