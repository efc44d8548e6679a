"""Generations of language models; an ensemble of them is an `Ensemble`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datadistill.device import resolve
from kd_baselines.language.config import LanguageConfig
from kd_baselines.language.corpus import Corpus
from kd_baselines.language.netfile import SavedLanguageModel
from kd_baselines.language.perplexity import Ensemble, perplexity
from kd_baselines.language.training import LanguageTraining
from kd_baselines.lineage import Lineage

__all__ = ["LanguageLineage"]


class LanguageLineage(Lineage[LanguageConfig, Corpus, SavedLanguageModel]):
    """The lineage of `LanguageConfig`; a score is a perplexity."""

    unit, data_fields = "", ("text", "tokens", "vocabulary")
    kind, file = LanguageTraining, SavedLanguageModel

    def build_first(self, config: LanguageConfig, seed: int) -> LanguageConfig:
        """Generation 0: the same net and schedule, on the words alone."""
        own = LanguageConfig()
        return config.with_changes(
            arm="teacher", seed=seed, method="plain", label_weight=own.label_weight
        )

    def name_scores(self, scores: Mapping[str, float]) -> dict[str, float]:
        return dict(scores)

    def measure(
        self, nets: Sequence[SavedLanguageModel], config: LanguageConfig, average: str, data: Corpus
    ) -> dict[str, float]:
        together = Ensemble(*(saved.net() for saved in nets), average=average).to(
            resolve(config.device)
        )
        texts = {"perplexity": data.test, "validation perplexity": data.validation}
        return {name: perplexity(together, text) for name, text in texts.items()}
