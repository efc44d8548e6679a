"""How a language model is trained: epochs, columns, windows, learning rate."""

from __future__ import annotations

from dataclasses import dataclass

from datadistill.config.plans import Config
from datadistill.config.values import check_range

__all__ = ["LanguagePlan"]


@dataclass(frozen=True)
class LanguagePlan(Config):
    """How a language model is trained; the equations are in `kd_baselines.language.loop`."""

    epochs: int = 40
    """Passes over the training text."""
    batch: int = 32
    """Columns that the text is cut into and read side by side."""
    unroll: int = 35
    """Words that gradients go back through; the state is carried on."""
    lr: float = 1.0
    """Learning rate of plain SGD at the start, on the loss summed over a window and averaged over
    columns."""
    decay_factor: float = 0.25
    """What the learning rate is multiplied by after an epoch that improved too little."""
    decay_below: float = 0.0
    """An epoch improved too little where the validation perplexity fell by no more than this."""
    clip: float = 5.0
    """Largest norm of that loss's gradient; a larger one is scaled to it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("epochs", "batch", "unroll"), least=1)
        check_range(self, ("lr", "clip"), above=0)
        check_range(self, ("decay_below",), least=0)
        check_range(self, ("decay_factor",), above=0, most=1)
