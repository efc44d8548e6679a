"""Generations of language models: how one net of a chain is configured, trained and tested.

An ensemble of generations is an `Ensemble`: the mean of their probabilities (arithmetic), or of their logits
(geometric), at each word.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datadistill.config import RunOptions
from datadistill.data import RealData
from datadistill.device import resolve
from datadistill.errors import DataError
from datadistill.runs.folder import RunFolder
from kd_baselines.language.config import LANGUAGE_KIND, LanguageConfig
from kd_baselines.language.corpus import Corpus
from kd_baselines.language.netfile import SavedLanguageModel
from kd_baselines.language.perplexity import Ensemble, perplexity
from kd_baselines.language.training import (
    LanguageTraining,
    load_corpus,
    refuse_other_words,
    train_language,
)
from kd_baselines.teachers import Teacher

__all__ = ["LanguageLineage"]


class LanguageLineage:
    """A `Lineage` of `LanguageConfig`: runs of `train_language`, one a net. `data` is not read, as configs
    name their texts."""

    unit = ""

    def build_first(self, config: LanguageConfig, seed: int) -> LanguageConfig:
        """Generation 0: the same net and schedule, on the words alone."""
        own = LanguageConfig()
        return config.with_changes(arm="teacher", seed=seed, method="plain", label_weight=own.label_weight)

    def build_later(self, config: LanguageConfig, seed: int) -> LanguageConfig:
        """A generation from 1 on: the arm as it is, from the seed's draw."""
        return config.with_changes(seed=seed)

    def refuse(self, config: LanguageConfig, options: RunOptions, data: RealData | None = None) -> None:
        """Refuse an arm whose chain cannot be trained: its text is read and its net is built."""
        LanguageTraining().build(self.build_first(config, 0), options)

    def train(
        self, config: LanguageConfig | None, teacher: Path | None, out: Path, resume: bool, options: RunOptions,
        data: RealData | None = None,
    ) -> None:  # fmt: skip
        """One run of `train_language`."""
        if teacher is not None and config is not None:
            _refuse_other_text(teacher.parent, load_corpus(config, options))
        train_language(config, teacher=teacher, out=out, resume=resume, options=options)

    def fingerprint(self, net: Path) -> str:
        return Teacher(SavedLanguageModel.load(net).net()).hash

    def scores(
        self, nets: Sequence[Path], config: LanguageConfig, average: str, options: RunOptions,
        data: RealData | None = None,
    ) -> dict[str, float]:  # fmt: skip
        """Perplexities of one net, as its training measured them, or of an ensemble, measured here:
        "perplexity", on the test text, and "validation perplexity"."""
        saved = [SavedLanguageModel.load(path) for path in nets]
        if len(saved) == 1 and saved[0].scores is not None:
            return dict(saved[0].scores)
        corpus = load_corpus(config, options)
        for path, one in zip(nets, saved, strict=True):
            refuse_other_words(str(path), one.words, corpus)
            _refuse_other_text(path.parent, corpus)
        net = Ensemble(*(one.net() for one in saved), average=average).to(resolve(config.device))
        return {
            "perplexity": perplexity(net, corpus.test),
            "validation perplexity": perplexity(net, corpus.validation),
        }


def _refuse_other_text(run: Path, corpus: Corpus) -> None:
    if RunFolder.open(run, kind=LANGUAGE_KIND).environment.get("data") != corpus.fingerprint:
        raise DataError(
            f"{run} was trained on another text than {corpus.name} is now (its fingerprint differs); restore "
            "the text, or choose another --out"
        )
