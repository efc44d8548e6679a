"""How a language model is trained: epochs, columns, windows, learning rate."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LanguagePlan"]


@dataclass(frozen=True)
class LanguagePlan:
    """How a language model is trained; the fields are those of `LanguageConfig`.

    Args:
        epochs: passes over the text.
        batch: columns B.
        unroll: words U of a window.
        lr: learning rate at the start.
        decay_factor: what it is multiplied by.
        decay_below: see `kd_baselines.language.loop`.
        clip: largest norm of the gradient.
    """

    epochs: int = 40
    batch: int = 32
    unroll: int = 35
    lr: float = 1.0
    decay_factor: float = 0.25
    decay_below: float = 0.0
    clip: float = 5.0
