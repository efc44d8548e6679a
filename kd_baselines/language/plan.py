"""How a language model is trained: epochs, columns, windows, learning rate."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LanguagePlan"]


@dataclass(frozen=True)
class LanguagePlan:
    """The training of a language model; the fields are those of `LanguageConfig`, where they are described."""

    epochs: int = 40
    batch: int = 32
    unroll: int = 35
    lr: float = 1.0
    decay_factor: float = 0.25
    decay_below: float = 0.0
    clip: float = 5.0
