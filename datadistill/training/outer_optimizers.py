"""Optimizers of a synthetic set, by name. A new one is a class and a line in `OPTIMIZERS`; `betas`
and `momentum` are passed where its constructor takes them."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["OPTIMIZERS", "Lamb"]

Betas = tuple[float, float]


class Lamb(torch.optim.Optimizer):
    """Adam whose update u of a tensor w is brought to the tensor's size.

        w <- w - lr (|w| / |u|) u

    The ratio is 1 where either norm is 0. There is no weight decay. A learning rate is the relative
    change of a tensor in a step.

    Args:
        params, lr: see `torch.optim.Adam`.
        betas: decays of the means of gradients and their squares.
        eps: added to the root of the latter.

    Example:
        >>> w = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> w.grad = torch.tensor([1.0, 0.0])
        >>> Lamb([w], lr=0.1).step()
        >>> w.detach()
        tensor([2.5000, 4.0000])

    Reference: You et al., Large batch optimization for deep learning: training BERT in 76 minutes,
    2020, https://arxiv.org/abs/1904.00962
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-6
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._step(p, p.grad, group)

    def _step(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        state, (b1, b2) = self.state[p], group["betas"]
        if not state:
            state.update(count=0, m=torch.zeros_like(p), n=torch.zeros_like(p))
        state["count"] += 1
        state["m"].lerp_(grad, 1 - b1)
        state["n"].lerp_(grad * grad, 1 - b2)
        m = state["m"] / (1 - b1 ** state["count"])
        n = state["n"] / (1 - b2 ** state["count"])
        u = m / (n.sqrt() + group["eps"])
        # without waiting for the numbers of an accelerator
        ratio = torch.where((p.norm() > 0) & (u.norm() > 0), p.norm() / u.norm(), 1.0)
        p.sub_(group["lr"] * ratio * u)


OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "lamb": Lamb,
}
