"""The outer loop: an optimizer on a synthetic set, with whatever loss an outer method gives.

    L  = method.loss(set, i)
    g  = clip(grad L)
    images, labels, rho  <-  optimizer(g)       older images by a share of it (boosting)
    method.after(set, i)

Nothing is updated before the loss and the gradient have been found finite. Every random choice is
drawn from a stream named by the iteration, so the loop can be resumed at any iteration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from datadistill.errors import NumericalError, UsageError
from datadistill.methods import OuterMethod
from datadistill.methods.base import OF_NETS
from datadistill.runs.ranks import current
from datadistill.synthetic import Synthetic
from datadistill.training.schedule import learning_rate_factor

NORM_DECAY = 0.95  # of the running mean of the gradient norm
_SCALARS = ("iteration", "gradient_norm", "skipped")


class OuterLoop:
    """State and iterations of the outer optimizer.

    Args:
        synthetic: what is learned.
        method: gives the loss.
        rates: learning rate of each of the set's groups.
        iterations: in all.
        schedule, warmup: of the learning rates over them; see `learning_rate_factor`.
        optimizer: makes the optimizer of groups, `params`.
        clip: the gradient's norm, over all leaves, is limited to this multiple of its own running
            mean, which then takes in the limited norm; 0 turns it off.
        skips: iterations with a loss or gradient that is not finite that may be passed over.

    The ranks that the process joined (`runs.ranks`) each give the loss and gradient of their nets,
    and make the same update of their sum.

    Raises:
        UsageError: a set that the method cannot learn.

    Example:
        >>> import torch
        >>> from datadistill.innerloop import step_sizes
        >>> from datadistill.synthetic import Pixels, Schedule
        >>> class Shrink(OuterMethod):
        ...     def loss(self, synthetic, iteration):
        ...         return synthetic.images().square().sum()
        >>> s = Synthetic(
        ...     Pixels(),
        ...     {"images": torch.ones(2, 1, 4, 4)},
        ...     torch.arange(2),
        ...     None,
        ...     Schedule.equal(2, 1),
        ...     step_sizes.init("per-step", 0.1, 1, 1),
        ... )
        >>> loop = OuterLoop(s, Shrink(), rates={"images": 0.1, "step_sizes": 0.0}, iterations=5)
        >>> [loop.advance() for _ in range(5)][0], float(s.images().max()) < 1
        (32.0, True)
    """

    def __init__(
        self,
        synthetic: Synthetic,
        method: OuterMethod,
        *,
        rates: Mapping[str, float],
        iterations: int,
        schedule: str = "linear",
        warmup: int = 0,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        clip: float = 0.0,
        skips: int = 0,
    ) -> None:
        method.check(synthetic)
        self.synthetic, self.method, self.iterations = synthetic, method, iterations
        self.schedule, self.warmup, self.clip, self.skips = schedule, warmup, clip, skips
        self.ranks = current()
        groups = [
            {"params": p, "lr": rates[k], "rate": rates[k]} for k, p in synthetic.groups().items()
        ]
        self.optimizer = optimizer(params=groups)
        self.iteration = 0  # outer iterations done
        self.gradient_norm: float | None = None  # running mean
        self.skipped = 0  # for a loss or gradient that is not finite

    def advance(self) -> float:
        """One outer iteration. Returns its loss; NaN where the iteration was skipped.

        Raises:
            NumericalError: a loss or gradient that is not finite, and nothing was changed; or an
                update that left the range of float32, and the last checkpoint stays as it is.
        """
        i = self.iteration
        with self.ranks.together():
            own, mine = self.gradients(i)
        summed, *gradients = self.ranks.sum([mine[0].new_tensor(own), *mine])
        loss = own if self.ranks.size == 1 else float(summed)
        norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            is_well = math.isfinite(own) and all(bool(torch.isfinite(g).all()) for g in mine)
            self._refuse(i, loss, norm, gradients, is_well)
            self.iteration += 1
            return math.nan
        self._update(i, gradients, self._clip_factor(norm))
        with self.ranks.together():
            self.method.after(self.synthetic, i)
        self.iteration += 1
        return loss

    def gradients(self, iteration: int) -> tuple[float, list[Tensor]]:
        """The loss of an iteration, and its gradient to each leaf, in their order, zeros where the
        learning rate is 0; changes nothing."""
        loss = self.method.loss(self.synthetic, iteration)
        if not loss.requires_grad:
            raise UsageError(
                "the loss of the outer method does not depend on what is learned; "
                "nothing would move"
            )
        rates = [group["rate"] for group in self.optimizer.param_groups for _ in group["params"]]
        leaves = list(zip(self.synthetic.leaves().values(), rates, strict=True))
        moving = [leaf for leaf, rate in leaves if rate]
        found = iter(
            torch.autograd.grad(loss, moving, allow_unused=True, materialize_grads=True)
            if moving
            else ()
        )
        gradients = [next(found) if rate else torch.zeros_like(leaf) for leaf, rate in leaves]
        if self.synthetic.older_rate == 0:
            for n, name in enumerate(self.synthetic.leaves()):
                if (rows := self.synthetic.older_rows().get(name)) is not None:
                    gradients[n] = torch.cat([torch.zeros_like(rows), gradients[n][len(rows) :]])
        return float(loss.detach()), gradients

    def _update(self, i: int, gradients: list[Tensor], scale: float) -> None:
        factor = learning_rate_factor(self.schedule, i, self.iterations, self.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        leaves = self.synthetic.leaves()
        for leaf, gradient in zip(leaves.values(), gradients, strict=True):
            leaf.grad = gradient * scale
        before = {name: rows.clone() for name, rows in self.synthetic.older_rows().items()}
        try:
            self.optimizer.step()
        except RuntimeError as error:
            # a learning rate that Adam's bias correction takes beyond float32
            if "overflow" not in str(error):
                raise
            raise NumericalError(
                f"outer iteration {i}: {str(error)[:120]}; try {self._advise(gradients)}"
            ) from error
        share = self.synthetic.older_rate
        for name, rows in self.synthetic.older_rows().items():
            rows.copy_(before[name].lerp(rows, share) if share else before[name])
        for name, leaf in leaves.items():
            if not bool(torch.isfinite(leaf).all()):
                words = name.replace("_", " ")
                raise NumericalError(
                    f"outer iteration {i}: the {words} stop being finite; "
                    f"try {self._advise(gradients)}"
                )

    def _clip_factor(self, norm: float) -> float:
        """Factor that limits the norm to `clip` times its running mean, which it then joins."""
        mean = self.gradient_norm
        limit = self.clip * mean if self.clip and mean else math.inf
        scale = limit / norm if norm > limit else 1.0
        self.gradient_norm = (
            norm if mean is None else NORM_DECAY * mean + (1 - NORM_DECAY) * norm * scale
        )
        return scale

    def _refuse(
        self, i: int, loss: float, norm: float, gradients: list[Tensor], is_well: bool
    ) -> None:
        """Pass over the iteration, or end. `is_well`: this rank's own part is finite."""
        if self.skipped < self.skips:
            self.skipped += 1
            return
        what = (
            f"loss {loss}" if not math.isfinite(loss) else f"gradient norm {norm} (loss {loss:.4g})"
        )
        with self.ranks.together():
            own = "" if is_well and self.ranks.size > 1 else self.method.diagnose(self.synthetic, i)
        where = next(filter(None, self.ranks.gather(own)), "")
        raise NumericalError(
            f"outer iteration {i}: {what}; {f'{where}; ' if where else ''}nothing was updated. "
            f"Try {self._advise(gradients)}, or go on with other nets (--on-nan skip:3)"
        )

    def _advise(self, gradients: list[Tensor]) -> str:
        """Smaller learning rates of what the loss moves, each a quarter of its own, and a limit of
        the gradient where there is none."""
        smaller, of_leaves = [], iter(gradients)
        for name, group in zip(self.synthetic.groups(), self.optimizer.param_groups, strict=True):
            own = [next(of_leaves) for _ in group["params"]]
            if any(bool((g != 0).any()) for g in own):
                smaller.append(f"--lr-{name.replace('_', '-')} {group['rate'] / 4:.2g}")
        said = (
            f"smaller learning rates ({', '.join(smaller)})" if smaller else "a smaller step size"
        )
        return said if self.clip else f"{said}, a limit of the gradient (--clip 2)"

    def state(self) -> dict[str, Any]:
        return {
            "learned": {k: p.detach() for k, p in self.synthetic.leaves().items()},
            "optimizer": self.optimizer.state_dict(),
            "method": _merge(self.ranks.gather(self.method.state())),
            **{k: getattr(self, k) for k in _SCALARS},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.synthetic.set(state["learned"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.method.load(state.get("method", {}))
        for name in _SCALARS:
            setattr(self, name, state[name])


def _merge(states: list[dict[str, Any]]) -> dict[str, Any]:
    """The state of a method whose nets are shared out by number, from those of all ranks."""
    if all(OF_NETS not in state for state in states):
        return states[0]
    return {OF_NETS: {n: one for state in states for n, one in state.get(OF_NETS, {}).items()}}
