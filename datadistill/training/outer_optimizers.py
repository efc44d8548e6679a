"""Optimizers of a synthetic set, by name. A new one is a function here and a line in
`OPTIMIZERS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["OPTIMIZERS"]

Groups = list[dict[str, Any]]
Betas = tuple[float, float]


def _adam(groups: Groups, betas: Betas, momentum: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, betas=betas)


def _sgd(groups: Groups, betas: Betas, momentum: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, momentum=momentum)


OPTIMIZERS: dict[str, Callable[[Groups, Betas, float], torch.optim.Optimizer]] = {
    "adam": _adam,
    "sgd": _sgd,
}
