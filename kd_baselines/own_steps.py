"""A net trained in the own steps of a distilled set, by any objective.

    theta_{t+1}, s_{t+1} = rule.step(theta_t, grad L(theta_t; x_t, y_t), s_t, eta_t)

x_t, y_t are the set's minibatch of step t, eta_t its step size, rule its update rule; L is the
cross-entropy that `DistilledDataset.train` minimizes, or any other objective.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from datadistill.data import Split
from datadistill.distilled import DistilledDataset
from datadistill.distilled_training import step_sizes_for
from datadistill.errors import NumericalError, UsageError
from datadistill.innerloop.update_rules import UpdateRule
from datadistill.training.fit_loop import Batch, Fit
from datadistill.training.fit_plan import FitPlan

__all__ = ["OwnSteps", "RuleOptimizer"]


class RuleOptimizer(torch.optim.Optimizer):
    """An update rule of the inner loop as an optimizer: step t has the t-th step size.

    Args:
        named: name -> parameter.
        rule: see `datadistill.innerloop.update_rules`.
        step_sizes: (T,), or (T, P) with a column for each parameter.

    Example:
        >>> from datadistill.innerloop import sgd
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = RuleOptimizer({"w": w}, sgd(), torch.tensor([0.5]))
        >>> w.grad = torch.tensor([1.0])
        >>> optimizer.step()
        >>> w.detach()
        tensor([0.5000])
    """

    def __init__(self, named: Mapping[str, Tensor], rule: UpdateRule, step_sizes: Tensor) -> None:
        super().__init__([{"params": list(named.values())}], {"lr": 1.0})
        self.named, self.rule, self.step_sizes = dict(named), rule, step_sizes
        self.taken = 0
        self.remembered = rule.init({name: p.detach() for name, p in named.items()})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        theta = {name: p.detach() for name, p in self.named.items()}
        grads = {
            name: torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in self.named.items()
        }
        sizes = self.step_sizes[self.taken]
        eta = sizes if sizes.dim() == 0 else dict(zip(theta, sizes.unbind(), strict=True))
        theta, self.remembered = self.rule.step(theta, grads, self.remembered, eta)
        for name, p in self.named.items():
            p.copy_(theta[name])
        self.taken += 1

    def state_dict(self) -> dict[str, Any]:
        return {"remembered": self.remembered, "taken": self.taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.remembered, self.taken = state_dict["remembered"], state_dict["taken"]


class OwnSteps(Fit):
    """The loop of the own steps of a set, one at a time, as `Fit` is that of a plan.

    Args:
        tensors, loss: as of `Fit`. A tensor that trains and that the set has no step size for (its
            name starts with "objective.") is refused.
        split: the images of the set, with the labels to learn.
        d: the set.
        seed: of random minibatches, augmentation and dropout.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        loss: Callable[[Batch], Tensor],
        split: Split,
        d: DistilledDataset,
        *,
        seed: int = 0,
    ) -> None:
        plan = FitPlan(epochs=d.schedule.epochs, batch=len(split), optimizer="sgd", lr=1.0)
        super().__init__(tensors, loss, split, plan, seed=seed)
        named = {name: p for name, p in self.tensors.items() if p.requires_grad}
        if own := [name for name in named if name.startswith("objective.")]:
            raise UsageError(
                f"the method trains tensors beside the student ({', '.join(own[:3])}), for which "
                "the set has no step sizes; take the plain schedule (--data-schedule plain)"
            )
        self.schedule = d.schedule.to(split.labels.device)
        self.optimizer = RuleOptimizer(named, d.update, step_sizes_for(d, named))
        self.rates = [1.0]
        self.steps_per_epoch, self.steps = self.schedule.steps_per_epoch, self.schedule.steps

    def batch(self, step: int) -> Batch:
        index = self.schedule.index(step, self.seed).to(self.split.labels.device)
        images, labels = self.schedule.pair(
            self.split.images.__getitem__, self.split.labels, step, self.seed
        )
        return Batch(images, labels, index)

    def _refuse(self, what: str) -> None:
        raise NumericalError(
            f"step {self.step} of {self.steps}, in the set's own steps: {what[:200]}; they may not "
            "suit this objective or net: take the plain schedule (--data-schedule plain)"
        )
