"""One distillation in memory: the outer loop, tests on the validation split, and the set that is
kept."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.data import RealData, Split
from datadistill.distilled import DistilledDataset
from datadistill.errors import format_message
from datadistill.evaluation.accuracy import measure_training
from datadistill.objectives import Objective
from datadistill.starts import InitialDistribution, nets_of
from datadistill.stats import deviation, mean
from datadistill.synthetic import Synthetic
from datadistill.training.outer import OuterLoop

EDGES = (1e-6, 1e2)  # step sizes outside are warned of


@dataclass(frozen=True, eq=False)
class Validation:
    """Tests of a set on the validation split: `nets` nets, the same at every test."""

    net: nn.Module
    start: InitialDistribution
    split: Split
    objective: Objective
    nets: int

    def accuracies(self, d: DistilledDataset) -> list[float]:
        """Accuracy in percent of each net after training on the set."""
        split = Split(self.split.images, self.objective.labels(self.split.labels))
        nets = nets_of(self.start, self.nets)
        return measure_training(d, self.net, self.start, split, nets=nets, before=False)[1]


class Learning:
    """A distillation, iteration by iteration.

    Args:
        loop: learns the set.
        validation: tests it.
        to_distilled: makes a `DistilledDataset` of the set after so many iterations.
        data: real data, on the run's device.
        net: the run's module.
        inputs: fingerprints of what it learns from beside the data, such as a pool.
        every: iterations between tests.
        check: of the net before the first iteration, which returns a line for the log; None for
            none.
        keep_best: whether the set of the best test is the result, not the last.
        note: a line for the log.
    """

    def __init__(
        self,
        loop: OuterLoop,
        validation: Validation,
        to_distilled: Callable[[Synthetic, int], DistilledDataset],
        *,
        data: RealData,
        net: nn.Module,
        inputs: Mapping[str, str | None],
        every: int,
        check: Callable[[], str | None] | None,
        keep_best: bool,
        note: str | None = None,
    ) -> None:
        self.loop, self.validation, self.to_distilled = loop, validation, to_distilled
        self.data, self.net, self.inputs = data, net, inputs
        self.every, self.check, self.keep_best, self.note = every, check, keep_best, note
        self.warned_of_edges = False
        self.loss_sum, self.loss_count = 0.0, 0  # since the last test
        self.best: tuple[float, int] | None = None  # accuracy, iteration
        self.best_tensors: dict[str, Tensor] = {}

    @property
    def iteration(self) -> int:
        return self.loop.iteration

    def advance(self) -> float:
        """One outer iteration; see `OuterLoop.advance`."""
        loss = self.loop.advance()
        if not math.isnan(loss):
            self.loss_sum, self.loss_count = self.loss_sum + loss, self.loss_count + 1
        return loss

    def is_test_due(self) -> bool:
        """Whether the set is to be tested after the iteration that was the last."""
        return self.iteration % self.every == 0 or self.iteration == self.loop.iterations

    def validate(self) -> dict[str, Any]:
        """A line for metrics.jsonl: mean loss since the last one, accuracy on the validation
        split."""
        d = self.snapshot()
        self._warn_of_edges(d.step_sizes)
        found = self.validation.accuracies(d)
        average = mean(found)
        record = {
            "iteration": self.iteration,
            "loss": self.loss_sum / self.loss_count if self.loss_count else None,
            "accuracy": average,
            "accuracy_std": deviation(found),
            "gradient_norm": self.loop.gradient_norm,
            "step_sizes": d.step_sizes.double()
            .log()
            .reshape(len(d.step_sizes), -1)
            .mean(1)
            .exp()
            .tolist(),
            "skipped": self.loop.skipped,
        }
        self.loss_sum, self.loss_count = 0.0, 0
        if self.keep_best and (self.best is None or average > self.best[0]):
            self.best = (average, self.iteration)
            self.best_tensors = {
                k: p.detach().clone() for k, p in self.loop.synthetic.leaves().items()
            }
        return record

    def _warn_of_edges(self, step_sizes: Tensor) -> None:
        """Warn once a run. With one step size a tensor, a tensor that hardly moves is no warning; a
        step is."""
        by_step = step_sizes.reshape(len(step_sizes), -1).amax(1)
        low, high = float(by_step.min()), float(by_step.max())
        if not self.warned_of_edges and (low < EDGES[0] or high > EDGES[1]):
            self.warned_of_edges = True
            message = (
                f"outer iteration {self.iteration}: the step sizes reach {low:.3g} to {high:.3g}, "
                f"wanted within {EDGES[0]:g} to {EDGES[1]:g}; try a smaller --lr-step-sizes"
            )
            warnings.warn(format_message(message), stacklevel=3)

    @torch.no_grad()
    def snapshot(self) -> DistilledDataset:
        """The set as it stands."""
        return self.to_distilled(self.loop.synthetic, self.iteration)

    def result(self) -> DistilledDataset:
        """The set to keep, on the CPU: the last, or the best on the validation split."""
        if self.keep_best and self.best is not None:
            self.loop.synthetic.set(self.best_tensors)
        return self.snapshot().to("cpu")

    def state(self) -> dict[str, Any]:
        return {**self.loop.state(), **{k: getattr(self, k) for k in _KEPT}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from `state()`; older checkpoints keep the numbers under "scalars"."""
        state = {**state.get("scalars", {}), **state}
        self.loop.load(state)
        for name in _KEPT:
            setattr(self, name, state[name])


_KEPT = ("warned_of_edges", "loss_sum", "loss_count", "best", "best_tensors")
