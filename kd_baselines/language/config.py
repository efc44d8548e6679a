"""The choices made before a language model is trained: one frozen dataclass, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from datadistill.config.choices import Value, change_fields
from datadistill.config.values import check_range, check_types

__all__ = ["LANGUAGE_KIND", "LanguageConfig"]

LANGUAGE_KIND = "kd-language"
"""What config.json calls such a run."""


@dataclass(frozen=True)
class LanguageConfig:
    """One language model: trained on words alone, or on words and a teacher."""

    recipe: str = "custom"
    """Name of the recipe this config came from."""
    arm: str = "own"
    """Which of the recipe's students this is: "own", or a name from the recipe's list."""
    seed: int = 0
    """Seed of the first weights and of dropout."""

    # --- text
    text: str = "ptb"
    """"ptb", found in the data roots, or a folder with train.txt, valid.txt and test.txt."""
    tokens: int | None = None
    """Only so many words of the training text, from its beginning; None: all."""
    vocabulary: int | None = None
    """Only so many words are told apart, the most frequent of the training text; None: all."""

    # --- method and net
    method: Literal["plain", "born-again"] = "plain"
    """On the words alone, or on the teacher's probabilities at each step and the words."""
    label_weight: float = 1.0
    """Of the words, beside the teacher's probabilities; 0 leaves them out (BAN), 1 is BAN+L."""
    net: str = "lstm"
    """Architecture: lstm or cnn-lstm."""
    net_args: dict[str, Value] = field(default_factory=dict)
    """Arguments of the architecture."""

    # --- training
    epochs: int = 40
    """Passes over the training text."""
    batch: int = 32
    """Columns that the text is cut into and read side by side."""
    unroll: int = 35
    """Words that gradients go back through; the state is carried on."""
    lr: float = 1.0
    """Learning rate of plain SGD at the start, on the loss summed over a window and averaged over columns."""
    decay_factor: float = 0.25
    """What the learning rate is multiplied by after an epoch that improved too little."""
    decay_below: float = 0.0
    """An epoch improved too little where the validation perplexity fell by no more than this."""
    clip: float = 5.0
    """Largest norm of that loss's gradient; a larger one is scaled to it."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, ("epochs", "batch", "unroll", "tokens", "vocabulary"), least=1)
        check_range(self, ("lr", "clip"), above=0)
        check_range(self, ("label_weight", "decay_below"), least=0)
        check_range(self, ("decay_factor",), above=0, most=1)

    def with_changes(self, **changes: Any) -> LanguageConfig:
        """A copy with some fields changed; an unknown one names the nearest."""
        return change_fields(self, changes)
