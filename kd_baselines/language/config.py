"""The choices made before a language model is trained: one frozen dataclass, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from datadistill.config.choices import Value
from datadistill.config.plans import RunConfig
from datadistill.config.values import check_range
from kd_baselines.language.plan import LanguagePlan

__all__ = ["LANGUAGE_KIND", "LanguageConfig"]

LANGUAGE_KIND = "kd-language"
"""What config.json calls such a run."""


@dataclass(frozen=True)
class LanguageTask(RunConfig):
    """What a language model is, and what it learns from."""

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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("tokens", "vocabulary"), least=1)
        check_range(self, ("label_weight",), least=0)


@dataclass(frozen=True)
class LanguageConfig(LanguagePlan, LanguageTask):
    """One language model: trained on words alone, or on words and a teacher."""
